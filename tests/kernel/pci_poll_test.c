// A device without any interrupt is asked by a clock, and its driver does not know the difference.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <irq/desc.h>
#include <sched/sleep.h>
#include <pci/pci.h>

#include "eventually.h"

static uint32_t poll_test_calls; // A

static irqreturn_t poll_test_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    __atomic_fetch_add(&poll_test_calls, 1, __ATOMIC_RELAXED);
    return in_hardirq() ? IRQ_NONE : IRQ_HANDLED;
}

static bool poll_test_calls_reach(uint32_t count)
{
    return EVENTUALLY(__atomic_load_n(&poll_test_calls, __ATOMIC_RELAXED) >= count);
}

// No device of the bus: one that has no capability, no wire and no driver.
KTEST(pci_poll, a_clock_asks_in_the_devices_place)
{
    struct pci_dev dev = {.dev = {.name = "none"}, .irq = -1};
    struct pci_dev *first = pci_next(NULL);

    REQUIRE(first != NULL);
    dev.segment = first->segment; // its command register is the host bridge's: harmless
    REQUIRE(pci_alloc_irq_vectors(&dev, 1, 4, PCI_IRQ_ALL_TYPES & ~PCI_IRQ_POLL) == -ENOSPC);
    REQUIRE(pci_alloc_irq_vectors(&dev, 2, 4, PCI_IRQ_ALL_TYPES) == -ENOSPC);
    REQUIRE(pci_alloc_irq_vectors(&dev, 1, 4, PCI_IRQ_ALL_TYPES) == 1);
    EXPECT_EQ(strcmp(pci_irq_type_name(&dev), "POLL"), 0);
    EXPECT_EQ(pci_irq_vector(&dev, 1), -EINVAL);
    EXPECT_EQ(pci_alloc_irq_vectors(&dev, 1, 1, PCI_IRQ_ALL_TYPES), -EINVAL);

    unsigned irq = (unsigned)pci_irq_vector(&dev, 0);
    poll_test_calls = 0;
    REQUIRE(request_irq(irq, poll_test_handler, 0, "poll test", &dev) == 0);
    EXPECT(poll_test_calls_reach(2));
    EXPECT_EQ(irq_to_desc(irq)->unhandled, 0); // that nobody had anything to do is no fault
    disable_irq(irq);
    uint32_t before = __atomic_load_n(&poll_test_calls, __ATOMIC_RELAXED);
    msleep(250);
    EXPECT_EQ(__atomic_load_n(&poll_test_calls, __ATOMIC_RELAXED), before);
    enable_irq(irq);
    EXPECT(poll_test_calls_reach(before + 1));
    free_irq(irq, &dev);
    pci_free_irq_vectors(&dev);
    EXPECT(dev.poll == NULL);
    EXPECT_EQ(pci_irq_vector(&dev, 0), -EINVAL);
}
