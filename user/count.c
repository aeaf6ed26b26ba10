// count [N]: counts, a number each 100 ms, to N or until ^C.
#include "user.h"

static long number_of(const char *s)
{
    long number = 0;

    while (*s >= '0' && *s <= '9' && number < 100000000) {
        number = number * 10 + (*s++ - '0');
    }
    return number;
}

int main(int argc, char **argv)
{
    long last = argc > 1 ? number_of(argv[1]) : -1;

    for (long n = 1; n <= last || last < 0; n++) {
        if (print_number("", n, "\n") < 0) {
            return 1; // nobody reads any more
        }
        if (n != last) {
            sleep_ms(100);
        }
    }
    return 0;
}
