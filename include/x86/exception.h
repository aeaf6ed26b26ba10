// The CPU's own exceptions, vectors 0 to 31: named, decoded, counted; repaired, given to whoever expected them, or fatal.
#pragma once

#include <lib/text.h>
#include <lib/types.h>

struct frame;

enum {
    EXC_DE = 0,
    EXC_DB,
    EXC_NMI,
    EXC_BP,
    EXC_OF,
    EXC_BR,
    EXC_UD,
    EXC_NM,
    EXC_DF,
    EXC_TS = 10,
    EXC_NP,
    EXC_SS,
    EXC_GP,
    EXC_PF,
    EXC_MF = 16,
    EXC_AC,
    EXC_MC,
    EXC_XM,
    EXC_VE,
    EXC_CP,
    EXC_COUNT = 32,
};

// The spine hands every vector below 32 here. Context: the exception's own, interrupts off.
void exception(struct frame *frame);

// "#PF" and "page fault"; never NULL.
const char *exception_mnemonic(unsigned vector);
const char *exception_name(unsigned vector);

// Registers, error-code bits, CR2 and the rest, a line each, as a panic prints them.
void exception_show(struct text *t, const struct frame *frame);
void exception_print(const struct frame *frame); // the same into the log

uint64_t exception_count(unsigned vector, unsigned cpu);

// Runs fn(arg) so that a fault inside (any of #DE #DB #BP #OF #BR #UD #NM #NP #SS #GP #PF #AC #MF #XM raised in kernel code by
// this thread outside of interrupts) comes back here instead of ending in a panic. Returns -1 when fn returned, else the vector; *frame
// (may be NULL) gets the registers at the fault. Resources that fn held stay held: it is for demonstrations and tests. Context: thread.
int exception_catch(void (*fn)(void *arg), void *arg, struct frame *frame);

// Reads or writes `size` bytes that may not be there. 0 or -EFAULT. Context: any.
int copy_from_kernel_nofault(void *to, const void *from, size_t size);

// A handler that may repair a page fault (address, error code): true when it did. One, tied in kernel_main. Context: exception.
extern bool (*exception_fixup_page)(uintptr_t address, struct frame *frame);
// NMI listeners other than the panic stop; returns true when the NMI was theirs.
extern bool (*exception_nmi)(struct frame *frame);
