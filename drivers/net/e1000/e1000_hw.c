// The e1000 chip itself, in the order of the SDM: made quiet, reset, programmed, let go; and the
// station address out of its EEPROM.
//
// Steps of the SDM that are left out: VLAN and multicast filters (we want neither), flow control
// thresholds, checksum offload (the checksums are part of what this kernel shows), wake-up, and the
// PHY (the chip negotiates by itself, 14.3). Known erratum not worked around: on a 64-bit PCI bus
// some chips cannot acknowledge a reset that is written by memory access.
//
// Context: thread; nobody else programs the chip meanwhile. Previous: e1000.c, which moves the
// frames. Next: e1000_service.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/log.h>
#include <sched/sleep.h>

#include "e1000.h"

enum {
    E1000_RESET_US = 10000,
    E1000_EERD_US = 10000,
    // 195 * 256 ns = 50 us, at most 20,000 interrupts a second. It only moderates: the first one
    // after a pause comes at once.
    E1000_ITR_20K = 195,
};

static uint32_t e1000_itr = E1000_ITR_20K; // I: boot option

// No interrupts and no DMA. Leaves time for a transfer that is under way.
void e1000_quiet(struct e1000 *e)
{
    e1000_wr(e, E1000_IMC, UINT32_MAX);
    e1000_wr(e, E1000_RCTL, 0);
    e1000_wr(e, E1000_TCTL, E1000_TCTL_PSP);
    (void)e1000_rd(e, E1000_STATUS); // writes to PCI are posted: a read waits for them
}

// SDM 14.2, 13.4.1: the reset bit clears itself when the reset is over. Interrupts are masked
// before and after, as the reset brings the mask's power-up state back.
int e1000_reset(struct e1000 *e)
{
    e1000_quiet(e);
    e1000_wr(e, E1000_CTRL, e1000_rd(e, E1000_CTRL) | E1000_CTRL_RST);
    udelay(2); // at least 1 us before the first access
    if (!wait_until((e1000_rd(e, E1000_CTRL) & E1000_CTRL_RST) == 0, E1000_RESET_US)) {
        return -EIO; // also when it is gone: all ones
    }
    e1000_wr(e, E1000_IMC, UINT32_MAX);
    (void)e1000_rd(e, E1000_ICR);
    memset(e->statistics, 0, sizeof(e->statistics)); // the reset cleared the registers, too
    return 0;
}

// The station address goes into receive address 0, low half first (13.5.3); no multicast.
static void e1000_write_address(struct e1000 *e)
{
    const uint8_t *a = e->netdev.dev_addr;
    e1000_wr(e, E1000_RAL0, get_le32(a));
    e1000_wr(e, E1000_RAH0, get_le16(a + 4) | E1000_RAH_VALID);
    for (unsigned i = 0; i < E1000_MTA_WORDS; i++) {
        writel(0, (volatile uint8_t __iomem *)e->regs + E1000_MTA + 4 * i);
    }
}

// Programs a reset chip and lets it go: SDM 14.3, 14.4, 14.5. The receive ring is filled already,
// the transmit ring is empty.
void e1000_start(struct e1000 *e)
{
    // 14.3: full-duplex and speed as negotiated, link up, no VLAN
    uint32_t ctrl = e1000_rd(e, E1000_CTRL) & ~E1000_CTRL_VME;
    e1000_wr(e, E1000_CTRL, ctrl | E1000_CTRL_SLU | E1000_CTRL_ASDE);
    e1000_write_address(e);

    // 14.4: receive. RDTR stays 0: moderation is ITR's
    e1000_wr(e, E1000_RDBAL, (uint32_t)e->rx_bus.value);
    e1000_wr(e, E1000_RDBAH, (uint32_t)(e->rx_bus.value >> 32));
    e1000_wr(e, E1000_RDLEN, e->rx.count * sizeof(struct e1000_rx_desc));
    e1000_wr(e, E1000_RDH, e->rx.head);
    e1000_wr(e, E1000_RDT, e->rx.head); // none yet: the doorbell below
    e1000_wr(e, E1000_RDTR, 0);
    if (e->features & E1000_HAS_ITR) {
        e1000_wr(e, E1000_ITR, e1000_itr);
    }

    // 14.5: transmit. Collision threshold 15, distance 64 byte times (full duplex)
    e1000_wr(e, E1000_TDBAL, (uint32_t)e->tx_bus.value);
    e1000_wr(e, E1000_TDBAH, (uint32_t)(e->tx_bus.value >> 32));
    e1000_wr(e, E1000_TDLEN, e->tx.count * sizeof(struct e1000_tx_desc));
    e1000_wr(e, E1000_TDH, e->tx.head);
    e1000_wr(e, E1000_TDT, e->tx.tail);
    e1000_wr(e, E1000_TIPG, E1000_TIPG_COPPER);
    e1000_wr(e, E1000_TCTL,
             E1000_TCTL_EN | E1000_TCTL_PSP | 15u << E1000_TCTL_CT_SHIFT |
                 64u << E1000_TCTL_COLD_SHIFT);

    // SECRC: without it a minimal frame takes 64 bytes and, in QEMU's e1000e, a second descriptor
    e1000_wr(e, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_BAM | E1000_RCTL_SECRC);
    e1000_rx_doorbell(e);
}

// ---- the station address --------------------------------------------------------------------

// SDM 13.4.4. 0 or -EIO.
static int e1000_eeprom_read(struct e1000 *e, unsigned word, uint16_t *value)
{
    e1000_wr(e, E1000_EERD, E1000_EERD_START | word << E1000_EERD_ADDR_SHIFT);
    uint32_t eerd = 0;
    if (!wait_until(((eerd = e1000_rd(e, E1000_EERD)) & E1000_EERD_DONE) != 0, E1000_EERD_US)) {
        return -EIO;
    }
    *value = (uint16_t)(eerd >> E1000_EERD_DATA_SHIFT);
    return 0;
}

// Words 0 to 2 hold the address, and all 64 must add up (SDM 5.6). 0 or -EIO.
static int e1000_address_from_eeprom(struct e1000 *e, uint8_t *address)
{
    uint16_t sum = 0, word;
    for (unsigned i = 0; i < E1000_EEPROM_WORDS; i++) {
        if (e1000_eeprom_read(e, i, &word) != 0) {
            return -EIO;
        }
        sum = (uint16_t)(sum + word);
        if (i < 3) {
            address[2 * i] = (uint8_t)word;
            address[2 * i + 1] = (uint8_t)(word >> 8);
        }
    }
    return sum == E1000_EEPROM_SUM ? 0 : -EIO;
}

static bool e1000_address_is_good(const uint8_t *a)
{
    static const uint8_t zero[ETH_ALEN];
    return (a[0] & 1) == 0 && memcmp(a, zero, ETH_ALEN) != 0; // unicast, not nothing
}

int e1000_read_address(struct e1000 *e)
{
    uint8_t *a = e->netdev.dev_addr;
    if ((e->features & E1000_HAS_EERD) && e1000_address_from_eeprom(e, a) == 0 &&
        e1000_address_is_good(a)) {
        return 0;
    }
    if (e->features & E1000_HAS_EERD) {
        dev_warn(e->dev, "EEPROM does not answer or its checksum is wrong, using RAL and RAH");
    }
    msleep(5); // the chip itself loads them from the EEPROM after a reset
    uint32_t low = e1000_rd(e, E1000_RAL0), high = e1000_rd(e, E1000_RAH0);
    for (unsigned i = 0; i < ETH_ALEN; i++) {
        a[i] = (uint8_t)(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
    }
    return e1000_address_is_good(a) ? 0 : -EIO;
}

// ---- moderation -------------------------------------------------------------------------------

// The register has 16 bits. A value that is far too large is worth a look: nothing is lost, and
// everything comes late.
BOOT_NUMBER("e1000.itr", e1000_itr, 0, UINT16_MAX,
            "e1000.itr=N: least time between interrupts, N * 256 ns; 0: none (195, 50 us)");
