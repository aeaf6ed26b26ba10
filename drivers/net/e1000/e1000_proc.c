// /proc/rings/e1000: what the rings look like right now, slot by slot, who owns what, and the
// driver's own counters.
//
//   receive ring: 256 descriptors at 0x1f40000, slots [12, 11) belong to the device (RDH 12, RDT 11)
//     ............ooooDDDDDDDDDDDD...          D the device's   o done, not yet taken   . ours
//
// It is a snapshot: the device goes on while it is taken. Context: a thread, under rtnl_lock.
#include <contract/proc_file.h>
#include <dev/netdev.h>

#include "e1000.h"

enum { E1000_SHOW_COLUMNS = 64 };

static void e1000_show_slots(struct text *t, const struct e1000_ring *ring)
{
    uint32_t used = e1000_ring_used(ring), head = ring->head;
    for (uint32_t i = 0; i < ring->count; i++) {
        bool owned = (i + ring->count - head) % ring->count < used;
        bool done = owned && (ring->rx[i].status & E1000_RXD_DD) != 0; // the same bit in both kinds
        if (i % E1000_SHOW_COLUMNS == 0) {
            text_printf(t, "%s    %3u ", i != 0 ? "\n" : "", i);
        }
        text_putc(t, done ? 'o' : owned ? 'D' : '.');
    }
    text_putc(t, '\n');
}

static void e1000_show_ring(struct text *t, const struct e1000 *e, const char *name,
                            const struct e1000_ring *ring, dma_addr_t bus)
{
    bool rx = ring == &e->rx;
    text_printf(t, "  %s ring: %u descriptors at %#llx, slots [%u, %u) belong to the device", name,
                ring->count, (unsigned long long)bus.value, ring->head, ring->tail);
    text_printf(t, rx ? " (RDH %u, RDT %u)\n" : " (TDH %u, TDT %u)\n",
                e1000_rd(e, rx ? E1000_RDH : E1000_TDH), e1000_rd(e, rx ? E1000_RDT : E1000_TDT));
    e1000_show_slots(t, ring);
}

static void e1000_show_counters(struct text *t, const struct e1000 *e)
{
    const struct e1000_stats *s = &e->stats;
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        {"interrupts", s->irqs},
        {"polls", s->polls},
        {"rx_too_long", s->rx_too_long},
        {"rx_bad", s->rx_bad},
        {"rx_no_memory", s->rx_no_memory},
        {"rx_missed", s->missed_packets},
        {"rx_no_descriptor", s->no_buffers},
        {"tx_hangs", s->tx_hangs},
        {"resets", s->resets},
        {"missed_interrupts", s->missed_irqs},
        {"link_changes", s->link_changes},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        text_printf(t, "  %s %llu\n", lines[i].name, (unsigned long long)lines[i].value);
    }
}

static void e1000_show_one(struct text *t, const struct e1000 *e)
{
    text_printf(t, "%s %s irq %d\n", e->netdev.name, e->dev->name, e->irq);
    if (READ_ONCE(e->running)) {
        text_puts(t, "  STATUS ");
        text_bits(t, e1000_rd(e, E1000_STATUS), e1000_status_names);
        text_puts(t, " IMS ");
        text_bits(t, e1000_rd(e, E1000_IMS), e1000_int_names);
        if (e->features & E1000_HAS_ITR) {
            uint32_t units = e1000_rd(e, E1000_ITR);
            text_printf(t, " ITR %u (%u us between interrupts)", units, units * 256 / 1000);
        }
        text_putc(t, '\n');
        e1000_show_ring(t, e, "receive", &e->rx, e->rx_bus);
        e1000_show_ring(t, e, "transmit", &e->tx, e->tx_bus);
    } else {
        text_puts(t, "  down: no rings\n");
    }
    e1000_show_counters(t, e);
}

static void e1000_proc_show(struct text *t, unsigned long index)
{
    (void)index;
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        const struct e1000 *e = e1000_of(dev);
        if (e != NULL) {
            e1000_show_one(t, e);
        }
    }
    rtnl_unlock();
}

PROC_FILE("rings/e1000", e1000_proc_show);
