// Indirect calls: a small machine whose every instruction is a function in a table, and another with one large switch.
#include <stdint.h>

typedef struct { int64_t stack[16]; int top; int at; int64_t left; } machine;
typedef void (*instruction)(machine *);
#define POP(m) (m)->stack[--(m)->top & 15]
#define PUSH(m, x) (m)->stack[(m)->top++ & 15] = (x)
static void one(machine *m) { PUSH(m, 1); m->at++; }
static void add(machine *m) { int64_t a = POP(m), b = POP(m); PUSH(m, a + b); m->at++; }
static void mix(machine *m) { int64_t a = POP(m); PUSH(m, a * 31 ^ a >> 7); m->at++; }
static void twice(machine *m) { int64_t a = POP(m); PUSH(m, a); PUSH(m, a); m->at++; }
static void swap(machine *m) { int64_t a = POP(m), b = POP(m); PUSH(m, a); PUSH(m, b); m->at++; }
static void drop(machine *m) { (void)POP(m); m->at++; }
static void loop(machine *m) { m->at = --m->left > 0 ? 1 : 8; }
static instruction table[] = {one, one, add, mix, twice, swap, drop, loop};

static int64_t by_table(int64_t turns) {
    machine m = {.left = turns};
    while (m.at < 8) table[m.at](&m);
    return POP(&m);
}

static const uint8_t code[] = {0, 0, 1, 2, 3, 4, 5, 6};
static int64_t by_switch(int64_t turns) {
    int64_t s[16], a, b;
    int top = 0, at = 0;
    for (;;) switch (code[at++]) {
        case 0: s[top++ & 15] = 1; break;
        case 1: a = s[--top & 15], b = s[--top & 15], s[top++ & 15] = a + b; break;
        case 2: a = s[--top & 15], s[top++ & 15] = a * 31 ^ a >> 7; break;
        case 3: a = s[--top & 15], s[top++ & 15] = a, s[top++ & 15] = a; break;
        case 4: a = s[--top & 15], b = s[--top & 15], s[top++ & 15] = a, s[top++ & 15] = b; break;
        case 5: top--; break;
        case 6: if (--turns > 0) { at = 1; break; } return s[--top & 15];
    }
}

int main(void) {
    volatile int64_t turns = 6000000;
    return by_table(turns) == by_switch(turns) ? 0 : 1;
}
