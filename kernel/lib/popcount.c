// What the compiler calls for __builtin_popcountl() where it may not assume the POPCNT instruction:
// the name and type are those of its runtime library, which a freestanding kernel does not link.
// Context: any.
#include <lib/types.h>

int __popcountdi2(unsigned long x);

// Adds neighbours in parallel: pairs of bits, then of pairs, then of nibbles; the multiplication
// sums the eight bytes into the highest one.
int __popcountdi2(unsigned long x)
{
    x -= x >> 1 & 0x5555555555555555;
    x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (int)(x * 0x0101010101010101 >> 56);
}
