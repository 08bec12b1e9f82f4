// The same world seen from C: absolute and relative paths, and directory order with inodes.
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    FILE *file = fopen("in/file", "r");
    char line[64];
    printf("%s", file && fgets(line, sizeof line, file) ? line : "no input\n");
    DIR *dir = opendir("/in");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[512];
        struct stat status;
        snprintf(path, sizeof path, "/in/%s", entry->d_name);
        stat(path, &status);
        printf("%s inode %llu links %llu size %llu mtime %lld\n", entry->d_name, (unsigned long long)entry->d_ino,
               (unsigned long long)status.st_nlink, (unsigned long long)status.st_size, (long long)status.st_mtime);
    }
    file = fopen("/out/from-c", "w");
    fprintf(file, "%d %s\n", argc, argv[0]);
    fclose(file);
    printf("symlink %d\n", symlink("/in/file", "/out/link"));
    return 3;
}
