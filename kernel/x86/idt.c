// The interrupt descriptor table: for each of the 256 vectors, where the CPU goes.
//
// All gates are interrupt gates: IF is off on the way in, so no handler is interrupted before it
// has said what it is. All lead to the stubs of kernel/x86/entry.S, 16 bytes apart, and one table
// serves every CPU; which stack and which handler follow is decided later.
//
//   gate   offset 15:0 | selector | IST, type, DPL, P | offset 31:16 | offset 63:32 | 0
//
// Intel SDM vol. 3, 6.14.1. Context: boot, then each CPU loads it.
#include <lib/types.h>
#include <x86/exception.h>
#include <x86/segments.h>

enum { IDT_GATES = 256, IDT_STUB_SIZE = 16 };

#define GATE_PRESENT   0x80
#define GATE_INTERRUPT 0x0e
#define GATE_RING3     0x60 // INT n may come from ring 3

// entry.S: the stub of vector n begins at isr_stubs + 16 n.
extern const uint8_t isr_stubs[];

static uint64_t idt[IDT_GATES][2] __aligned(16); // I

static uint8_t idt_ist(unsigned vector)
{
    switch (vector) {
    case EXC_DF:
        return IST_DOUBLE_FAULT;
    case EXC_NMI:
        return IST_NMI;
    case EXC_MC:
        return IST_MACHINE_CHECK;
    default:
        return 0;
    }
}

// What the gate of a vector has to be: the same at boot and at every check.
static void idt_gate(unsigned vector, uint64_t gate[2])
{
    // A program may call the kernel, set a breakpoint and test for overflow; every other INT n from
    // ring 3 is #GP.
    bool open = vector == EXC_BP || vector == EXC_OF || vector == VECTOR_SYSCALL;
    uint8_t flags = GATE_PRESENT | GATE_INTERRUPT | (open ? GATE_RING3 : 0);
    uint64_t offset = (uintptr_t)isr_stubs + vector * IDT_STUB_SIZE;

    gate[0] = (offset & 0xffff) | (uint64_t)KERNEL_CS << 16 | (uint64_t)idt_ist(vector) << 32 |
              (uint64_t)flags << 40 | (offset >> 16 & 0xffff) << 48;
    gate[1] = offset >> 32;
}

void idt_init(void)
{
    for (unsigned vector = 0; vector < IDT_GATES; vector++) {
        idt_gate(vector, idt[vector]);
    }
    idt_load();
}

uintptr_t idt_target(unsigned vector)
{
    const uint64_t *gate = idt[vector % IDT_GATES];

    return (gate[0] & 0xffff) | (gate[0] >> 48 & 0xffff) << 16 | gate[1] << 32;
}

bool idt_gate_is_good(unsigned vector)
{
    uint64_t want[2];

    idt_gate(vector % IDT_GATES, want);
    return idt[vector % IDT_GATES][0] == want[0] && idt[vector % IDT_GATES][1] == want[1];
}

// A CPU that comes by in between finds one half of each: the low one decides, and is written last.
void idt_gate_repair(unsigned vector)
{
    uint64_t want[2];

    idt_gate(vector % IDT_GATES, want);
    WRITE_ONCE(idt[vector % IDT_GATES][1], want[1]);
    WRITE_ONCE(idt[vector % IDT_GATES][0], want[0]);
}

bool idt_is_loaded(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed pointer;

    __asm__ volatile("sidt %0" : "=m"(pointer)::"memory");
    return pointer.base == (uintptr_t)idt && pointer.limit == sizeof(idt) - 1;
}

void idt_load(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed pointer = {sizeof(idt) - 1, (uintptr_t)idt};

    __asm__ volatile("lidt %0" ::"m"(pointer) : "memory");
}
