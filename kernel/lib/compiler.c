// Functions that the compiler calls by itself where the CPU it compiles for has no instruction:
// GCC's __builtin_popcount on plain x86-64, which need not have POPCNT. A hosted program would get
// them from libgcc. Context: any.
#include <lib/types.h>

int __popcountdi2(int64_t value); // named and typed by GCC (gccint, 4.1.3)

// Adds neighbouring bits, then pairs, then nibbles; the multiplication sums the eight bytes into
// the highest.
int __popcountdi2(int64_t value)
{
    uint64_t v = (uint64_t)value;

    v -= (v >> 1) & 0x5555555555555555ull;
    v = (v & 0x3333333333333333ull) + ((v >> 2) & 0x3333333333333333ull);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
    return (int)((v * 0x0101010101010101ull) >> 56);
}
