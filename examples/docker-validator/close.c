// A validator: two lists of named numbers agree if both have the same names, in any order, and each two numbers of a
// name are at most LIMIT apart, relative to the larger one. Exit code 0: they agree; 1: they do not; 2: no such list.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT 0.05
#define MAX_LINES 65536

struct line {
    char name[64];
    double value;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

static size_t read_list(const char *path, struct line *lines) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "%s is not there\n", path);
        exit(2);
    }
    size_t count = 0;
    while (count < MAX_LINES && fscanf(file, "%63s %lf", lines[count].name, &lines[count].value) == 2)
        count++;
    if (!feof(file)) {
        fprintf(stderr, "%s has more than names and numbers after line %zu\n", path, count);
        exit(2);
    }
    fclose(file);
    qsort(lines, count, sizeof *lines, by_name);
    return count;
}

static struct line a[MAX_LINES], b[MAX_LINES];

int main(void) {
    size_t count = read_list("/a/out/areas.txt", a), other = read_list("/b/out/areas.txt", b);
    double most = 0;
    int near = 1;
    for (size_t i = 0; i < count && i < other; i++) {
        if (strcmp(a[i].name, b[i].name) != 0) {
            printf("only one has %s\n", strcmp(a[i].name, b[i].name) < 0 ? a[i].name : b[i].name);
            return 1;
        }
        double apart = fabs(a[i].value - b[i].value) / fmax(fmax(fabs(a[i].value), fabs(b[i].value)), 1e-300);
        most = fmax(most, apart);
        // Not a number is near nothing.
        near = near && apart <= LIMIT;
    }
    if (count == 0 || count != other) {
        printf("%zu and %zu numbers\n", count, other);
        return 1;
    }
    printf("%zu numbers, at most %.2f%% apart\n", count, 100 * most);
    return near ? 0 : 1;
}
