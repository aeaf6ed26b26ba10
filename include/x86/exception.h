// The CPU's own exceptions, vectors 0 to 31: named, decoded, counted; repaired, given to whoever
// expected them, or fatal.
#pragma once

#include <lib/text.h>
#include <lib/types.h>
#include <x86/frame.h>

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
    EXC_TRACE = 12,
};

// The spine hands every vector below 32 here. Context: the exception's own, interrupts off.
void exception(struct frame *frame);

// "#PF" and "page fault"; never NULL.
const char *exception_mnemonic(unsigned vector);
const char *exception_name(unsigned vector);

// What is known about one exception. CR2 and DR6 are read before a next one can change them.
struct exception_record {
    struct frame frame;
    uint64_t cr2; // #PF: the address
    uint64_t dr6; // #DB: the causes
    // By exception_catch: the way to where it struck, innermost first; the stack is gone
    // afterwards.
    uintptr_t trace[EXC_TRACE];
    unsigned trace_count;
};

// The whole story: name, error code in words, address, registers; the first line alone says most of
// it. Lines end with newlines, the last one too. Context: any.
void exception_show(struct text *t, const struct exception_record *record);

uint64_t exception_count(unsigned vector, unsigned cpu);

// Runs fn(arg) so that a fault inside (any of #DE #DB #BP #OF #BR #UD #NM #TS #NP #SS #GP #PF #AC
// #MF #XM raised in kernel code by this thread outside of interrupts) comes back here instead of
// ending in a panic. Returns -1 when fn returned, else the vector; *record (may be NULL) then says
// what happened. Resources that fn held stay held, but for disabled interrupts, preemption and
// softirqs, which are as before; fn may not end its thread. For demonstrations and tests. Nests.
// Context: thread.
int exception_catch(void (*fn)(void *arg), void *arg, struct exception_record *record);

// Enters the handler as if the CPU had raised this exception here, for those that ring 0 cannot
// provoke. Only vectors with an error code: INT n does the others. Returns when the handler does.
void exception_raise(unsigned vector, uint64_t error);

// Copies `size` bytes from where there may be nothing. 0 or -EFAULT (some may have been copied).
// Context: any.
int copy_from_kernel_nofault(void *to, const void *from, size_t size);

// Tied by whoever is above; each may be NULL. An exception in ring 3: true when its program was
// dealt with, by changing the frame or the program's state. NULL or false: fatal. Context:
// exception, interrupts off, on the stack of TSS.rsp0.
extern bool (*exception_user)(const struct exception_record *record, struct frame *frame);
// May repair a page fault: true when it did. Context: exception, interrupts off.
extern bool (*exception_fixup_page)(uintptr_t address, struct frame *frame);
// Whoever sets traps in the kernel's own code: true when this #BP, #DB or #OF was his, and the code
// goes on behind it. Context: exception, interrupts off.
extern bool (*exception_trap)(const struct exception_record *record, struct frame *frame);
// NMI listeners other than the panic stop; true when the NMI was theirs. Context: NMI.
extern bool (*exception_nmi)(struct frame *frame);
// Whose guard page an address lies in, NULL when in none: map_guard_name. Context: any.
extern const char *(*exception_guard_name)(uintptr_t address);
