// echo: gives back what it reads, until the end.
#include "user.h"

int main(void)
{
    char buffer[100];
    long count;

    while ((count = read(0, buffer, sizeof(buffer))) > 0) {
        if (write(1, buffer, (size_t)count) != count) {
            return 1;
        }
    }
    return count == 0 ? 0 : 1;
}
