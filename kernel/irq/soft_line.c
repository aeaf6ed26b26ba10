// Interrupt lines without a device (include/irq/soft_line.h): a chip with nothing to program.
//
//   soft_line_send ── IPI(vector) ──> local APIC ──> stub, spine, flow_edge, action list
//
// To the core it is a message irq like an MSI's: a number behind the last wire, a vector of its
// own, an edge. So there is nothing to mask at, and an interrupt that comes while the line is
// disabled is remembered by the flow, as an MSI's without a mask is.
//
// Context: as the header says.
#include <core/cpu.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <irq/soft_line.h>

static void soft_line_nothing(struct irq_data *data)
{
    (void)data;
}

static int soft_line_moved(struct irq_data *data)
{
    (void)data;
    return 0;
}

const struct irq_chip soft_line_chip = {
    .oneshot_safe = true,
    .name = "SOFT",
    .irq_startup = soft_line_nothing,
    .irq_shutdown = soft_line_nothing,
    .irq_mask = soft_line_nothing,
    .irq_unmask = soft_line_nothing,
    .irq_retrigger = lapic_irq_retrigger,
    .irq_set_affinity = soft_line_moved,
};

int soft_line_open_threaded(irq_handler_t handler, irq_handler_t thread_fn, void *dev_id,
                            const char *name)
{
    might_sleep();
    int irq = route_alloc_message(&soft_line_chip, NULL, 0);
    int err = irq;

    if (irq >= 0) {
        err = request_threaded_irq((unsigned)irq, handler, thread_fn, IRQF_NO_THREAD, name, dev_id);
    }
    if (irq >= 0 && err != 0) {
        route_free_message((unsigned)irq);
    }
    return err != 0 ? err : irq;
}

int soft_line_open(irq_handler_t handler, void *dev_id, const char *name)
{
    might_sleep();
    return soft_line_open_threaded(handler, NULL, dev_id, name);
}

void soft_line_close(int irq, void *dev_id)
{
    might_sleep();
    free_irq((unsigned)irq, dev_id);
    route_free_message((unsigned)irq);
}

uint8_t soft_line_vector(int irq)
{
    return irq_to_desc((unsigned)irq)->data.vector;
}

void soft_line_send(int irq, unsigned cpu)
{
    lapic_ipi(cpus[cpu].apic_id, soft_line_vector(irq));
}
