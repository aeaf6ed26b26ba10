// What the compiler's stack protector needs: the value that it puts between a function's arrays and
// its return address, and what happens when a function finds it changed at its end.
//
// Each function compares with the same global value (-mstack-protector-guard=global). The lowest
// byte stays zero, so that a string that runs over cannot write it. Context: any.
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/panic.h>
#include <core/stack_protector.h>

// The names are the compiler's. Until stack_protector_init this value guards: better than zero.
extern uintptr_t __stack_chk_guard;
__noreturn void __stack_chk_fail(void);

uintptr_t __stack_chk_guard = 0x5bd1e995a5f10c00; // I

void stack_protector_init(uint64_t entropy)
{
    // No array here, so this function does not check the value that it changes.
    // The TSC differs from boot to boot, if by little; the multiplications spread what there is.
    uint64_t value = (rdtsc() * 0x9e3779b97f4a7c15 ^ entropy) * 0xbf58476d1ce4e5b9;
    __stack_chk_guard = (value ^ value >> 29) & ~0xfful;
}

void __stack_chk_fail(void)
{
    char buffer[128];
    struct text t = TEXT_INIT(buffer);

    text_symbol(&t, (uintptr_t)__builtin_return_address(0));
    panic("stack smashing in %s: an array on its stack was overrun", buffer);
}
