// Prints when the movable holidays are. When Easter is it asks another module.
#include <stdio.h>
#include <stdlib.h>

__attribute__((import_module("easter"), import_name("easter"))) int easter(int year);

static const int LENGTH[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

static const struct {
    const char *name;
    int after; // days after Easter Sunday
} HOLIDAYS[] = {{"Good Friday", -2}, {"Easter Sunday", 0}, {"Ascension", 39}, {"Whit Sunday", 49}};

// Easter is in March or April, and nothing here is before March: the leap day does not matter.
static void print(int year, const char *name, int month, int day) {
    for (; day < 1; month--) day += LENGTH[month - 2];
    for (; day > LENGTH[month - 1]; month++) day -= LENGTH[month - 1];
    printf("%d-%02d-%02d  %s\n", year, month, day, name);
}

int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        int year = atoi(arguments[i]), sunday = easter(year);
        for (size_t j = 0; j < sizeof HOLIDAYS / sizeof *HOLIDAYS; j++)
            print(year, HOLIDAYS[j].name, sunday / 100, sunday % 100 + HOLIDAYS[j].after);
    }
    return 0;
}
