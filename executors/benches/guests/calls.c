// Calls of the host and nothing else: a million readings of the clock.
#include <time.h>

enum { TURNS = 1000000 };

int main(void) {
    struct timespec last = {0}, now;
    for (int i = 0; i < TURNS; i++) {
        if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 1;
        // Time goes forward.
        if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec <= last.tv_nsec)) return 1;
        last = now;
    }
    return 0;
}
