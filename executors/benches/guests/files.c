// File-heavy: makes, writes, reads, renames and removes small files. 200 files, 37 calls each.
// Built with zig 0.17 (pip install ziglang): python3 -m ziglang cc -target wasm32-wasi -O2 -s -o files.wasm files.c
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 200, PIECES = 16, PIECE = 4096 };

static void must(int holds) {
    if (!holds) exit(1);
}

int main(void) {
    static char out[PIECE], in[PIECE];
    memset(out, 'x', PIECE);
    for (int i = 0; i < FILES; i++) {
        char name[32], other[32];
        sprintf(name, "/tmp/file-%d", i);
        sprintf(other, "/tmp/other-%d", i);
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        must(fd >= 0);
        for (int j = 0; j < PIECES; j++) must(write(fd, out, PIECE) == PIECE);
        must(lseek(fd, 0, SEEK_SET) == 0);
        for (int j = 0; j < PIECES; j++) must(read(fd, in, PIECE) == PIECE && in[PIECE - 1] == 'x');
        must(close(fd) == 0);
        must(rename(name, other) == 0);
        must(unlink(other) == 0);
    }
    return 0;
}
