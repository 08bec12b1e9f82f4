// Prints the files that its arguments name, one after the other.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int complain(const char *path) {
    const char *why = strerror(errno);
    write(2, path, strlen(path));
    write(2, ": ", 2);
    write(2, why, strlen(why));
    write(2, "\n", 1);
    return 1;
}

static int print(const char *bytes, ssize_t count) {
    while (count > 0) {
        ssize_t written = write(1, bytes, count);
        if (written < 0) return -1;
        bytes += written;
        count -= written;
    }
    return 0;
}

static int cat(const char *path) {
    static char buffer[64 * 1024];
    int file = open(path, O_RDONLY);
    if (file < 0) return complain(path);
    ssize_t count;
    while ((count = read(file, buffer, sizeof buffer)) > 0)
        if (print(buffer, count) < 0) return complain("stdout");
    if (count < 0) return complain(path);
    return close(file);
}

int main(int count, char **arguments) {
    int failed = 0;
    for (int i = 1; i < count; i++) failed |= cat(arguments[i]);
    return failed;
}
