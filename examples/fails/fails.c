// Fails on purpose: says why on standard error, leaves a partial result, exits with code 3.
#include <stdio.h>

int main(void) {
    FILE *file = fopen("/outputs/partial.txt", "w");
    if (!file) return 1;
    fputs("what was done before the failure\n", file);
    fclose(file);
    puts("about to fail");
    fputs("failing on purpose\n", stderr);
    return 3;
}
