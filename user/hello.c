// hello [NAME]: says hello twice, once by each way into the kernel, sleeps, ends with status 42.
#include "user.h"

int main(int argc, char **argv)
{
    static const char gate[] = "hello by INT 0x80\n";

    print("hello by SYSCALL");
    if (argc > 1) {
        print(", ");
        print(argv[1]);
    }
    print("\n");
    if (gate3(SYS_write, 1, (long)gate, sizeof(gate) - 1) != sizeof(gate) - 1) {
        return 1;
    }
    if (gate3(SYS_getpid, 0, 0, 0) != getpid()) {
        return 2;
    }
    print_number("I am process ", getpid(), "\n");
    if (sleep_ms(20) != 0) {
        return 3;
    }
    return 42;
}
