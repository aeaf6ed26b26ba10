// The local APIC: what takes interrupts into a CPU. xAPIC through its page, x2APIC through MSRs
// where the CPU has it. Intel SDM vol. 3, chapter 11 (APIC).
#pragma once

#include <lib/text.h>
#include <lib/types.h>

// Vectors that the kernel keeps for itself; classes 0xe and 0xf outrank every device: what a
// handler has in service, however long, holds back neither the timer nor another CPU's message. The
// values are Linux's (the shoot-down's from before it became a function call there; kept apart to
// be seen), but that Linux deals what is left of class 0xe to devices. VECTOR_IRQ_WORK is "soon, on
// this CPU, but not under the locks that are held now": the log wakes the console by it.
enum {
    VECTOR_FIRST_DEVICE = 0x30, // 0x20 .. 0x2f: the 8259s' strays
    VECTOR_LAST_DEVICE = 0xdf,
    VECTOR_TIMER = 0xec,
    VECTOR_TLB_SHOOTDOWN = 0xf0,
    VECTOR_ON_REQUEST = 0xf5, // an interrupt that a CPU sends itself to be in one: `break`
    VECTOR_IRQ_WORK = 0xf6,
    VECTOR_CALL_FUNCTION = 0xfc,
    VECTOR_RESCHEDULE = 0xfd,
    VECTOR_LAPIC_ERROR = 0xfe,
    VECTOR_SPURIOUS = 0xff,
};

// What a message is on this machine: a write that the CPUs' local APICs take (Intel SDM vol. 3,
// 11.11): the CPU in bits 19:12 of the address, the vector in the data, fixed delivery, an edge.
#define MSI_ADDRESS_BASE            0xfee00000u
#define MSI_ADDRESS_CPU_SHIFT       12
#define MSI_DATA_FIXED_EDGE(vector) ((uint32_t)(vector))

// Chooses xAPIC or x2APIC, maps the page where it is needed, and enables the boot CPU's. Context:
// boot CPU, once. Returns false when the CPU has no APIC, or its page cannot be mapped; said in the
// log.
bool lapic_init(phys_t base, void *(*map)(phys_t address, size_t size));
// Enables this CPU's APIC: SVR, TPR 0, LVTs masked, LINT0 masked, LINT1 NMI, error vector. Context:
// once per CPU, interrupts off.
void lapic_init_cpu(void);
bool lapic_is_x2apic(void);

uint32_t lapic_id(void);
// Ends the interrupt of the highest class that is in service on this CPU. Context: hard irq.
#ifdef HOST_TEST
void lapic_eoi(void);
#else
extern volatile uint32_t *lapic_eoi_register; // I: NULL: the registers are MSRs (x2APIC)
void lapic_eoi_x2apic(void);
static inline void lapic_eoi(void)
{
    barrier(); // what was done for the interrupt is done
    if (likely(lapic_eoi_register != NULL)) {
        *lapic_eoi_register = 0;
    } else {
        lapic_eoi_x2apic();
    }
}
#endif

// Primitive of a chip (contract/irq_chip.h), for controllers whose interrupts end at a local APIC.
struct irq_data;
void lapic_irq_retrigger(struct irq_data *data); // by an IPI to data->apic_id

// Inter-processor interrupts. Each waits, bounded, for the previous one of this CPU to be accepted.
// Context: any.
void lapic_ipi(uint32_t apic_id, uint8_t vector);
void lapic_ipi_self(uint8_t vector);
void lapic_ipi_all_but_self(uint8_t vector);
void lapic_nmi(uint32_t apic_id);
void lapic_nmi_all_but_self(void);
// INIT and start-up at a page below 1 MiB (page = address >> 12). 0 or -ETIMEDOUT when the APIC
// does not take it.
int lapic_send_init(uint32_t apic_id);
int lapic_send_startup(uint32_t apic_id, uint8_t page);

// Timer. clock_calibrate() measures it in its own window; calibrate does so here, against
// clock_ns(), when that came too early, and says the rate. Context: boot CPU. hz is the rate of its
// counter.
void lapic_timer_calibrate(void);
uint64_t lapic_timer_hz(void);
void lapic_timer_periodic(uint32_t hz); // this CPU, VECTOR_TIMER
void lapic_timer_oneshot(
    uint64_t ns); // this CPU; 0 fires at once, what 32 bits cannot count: early
void lapic_timer_stop(void);
// This CPU's timer fires once, at that moment on clock_ns()'s scale: at once if it is past, early
// if it is too far ahead to be counted, never again for LAPIC_TIMER_NEVER. By the TSC itself where
// the CPU can (11.5.4.1). Context: interrupts off.
#define LAPIC_TIMER_NEVER UINT64_MAX
void lapic_timer_deadline(uint64_t at_ns);
bool lapic_timer_is_deadline(void); // by the TSC?

// The counter alone, for measuring against the TSC: begins anew, without an interrupt; then how far
// it came. Without an APIC it stands at 0.
void lapic_timer_count_start(void);
uint32_t lapic_timer_count(void);
uint32_t lapic_timer_left(void);      // the counter as it is, counting down
void lapic_timer_set_hz(uint64_t hz); // what such a measurement found; 0 is not taken

uint32_t lapic_error_read(void);                        // reads and clears the error status
void lapic_error_text(struct text *t, uint32_t status); // its bits by name
void lapic_error_report(void); // the same into the log, by name; run at VECTOR_LAPIC_ERROR
// How often an IPI of this CPU found the one before it still under way.
uint32_t lapic_icr_retries(unsigned cpu);
bool lapic_tmr_test(uint8_t vector);
bool lapic_irr_test(uint8_t vector);
bool lapic_isr_test(uint8_t vector);
// Is vector a held back while b is in service? The class decides (11.8.3.1).
static inline bool lapic_is_held_back(uint8_t a, uint8_t b)
{
    return b >> 4 >= a >> 4;
}
// An EOI for each vector in service on this CPU that holds back `vector`, for whoever knows that
// nobody serves it: it would for ever. 0 is held back by all. How many, and the highest `room` of
// them, highest first. Context: any, with interrupts off, of no interrupt of those that still owes
// its EOI.
unsigned lapic_end_in_service(uint8_t vector, uint8_t *vectors, unsigned room);
// Priorities of this CPU: the task's, which holds back vectors of its class and below; and the
// processor's, which is the higher of that and of what is in service (11.8.3.1).
void lapic_set_tpr(uint8_t tpr);
uint8_t lapic_tpr(void);
uint8_t lapic_ppr(void);
// One register of this CPU's by its offset in the page (kernel/x86/lapic_regs.h names them): for
// tests and demonstrations, which put back what they change. Context: interrupts off.
uint32_t lapic_register(unsigned offset);
void lapic_register_write(unsigned offset, uint32_t value);
void lapic_show(struct text *t); // this CPU's registers, decoded
