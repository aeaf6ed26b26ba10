// The scan of a PCI function against configuration spaces that lie: capability lists and BARs.
//
// links: drivers/pci/pci_caps.c drivers/pci/pci_bars.c kernel/lib/text.c kernel/lib/format.c kernel/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lib/string.h>
#include <lib/text.h>

#include "../../drivers/pci/pci_config.h"
#include "../../drivers/pci/pci_regs.h"

// A function made of bytes. BAR registers keep only the bits of `writable`, as hardware does.
struct fake {
    uint8_t bytes[4096];
    uint32_t writable[6];
    unsigned reads, bar_writes_while_decoding;
    struct pci_dev dev;
    struct pci_config config;
    char note_buffer[200];
    struct text notes;
};

static uint32_t fake_read32(void *context, uint16_t offset)
{
    struct fake *fake = context;
    assert_int_equal(offset % 4, 0);
    assert_true(offset + 4 <= fake->config.size);
    fake->reads++;
    assert_true(fake->reads < 5000); // a walk that does not end
    return get_le32(&fake->bytes[offset]);
}

static void put_le32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static void fake_write32(void *context, uint16_t offset, uint32_t value)
{
    struct fake *fake = context;
    if (offset >= PCI_BAR0 && offset < PCI_BAR0 + 24) {
        unsigned bar = (offset - PCI_BAR0) / 4u;
        uint32_t old = get_le32(&fake->bytes[offset]);
        fake->bar_writes_while_decoding +=
            (get_le32(&fake->bytes[PCI_COMMAND]) & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY)) != 0;
        value = (value & fake->writable[bar]) | (old & ~fake->writable[bar]);
    } else {
        assert_int_equal(offset, PCI_COMMAND); // nothing else may be written
        value = (value & 0xffff) | (get_le32(&fake->bytes[PCI_COMMAND]) & 0xffff0000);
    }
    put_le32(&fake->bytes[offset], value);
}

static struct fake fake;

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.config = (struct pci_config){
        .read32 = fake_read32, .write32 = fake_write32, .context = &fake, .size = 256};
    text_init(&fake.notes, fake.note_buffer, sizeof(fake.note_buffer));
    fake.bytes[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY;
    fake.bytes[PCI_STATUS] = PCI_STATUS_CAPABILITIES;
    return 0;
}

static void put_cap(uint8_t offset, uint8_t id, uint8_t next)
{
    fake.bytes[offset] = id;
    fake.bytes[offset + 1] = next;
}

static void read_caps(void)
{
    pci_read_capabilities(&fake.dev, &fake.config, &fake.notes);
}

static bool noted(const char *what)
{
    return strstr(fake.note_buffer, what) != NULL;
}

// ---- capabilities -------------------------------------------------------------------------------

static void test_caps_list(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0x80 | 3; // the low bits are reserved and must be ignored
    put_cap(0x80, PCI_CAP_MSI, 0xa8);
    put_cap(0xa8, PCI_CAP_SATA, 0);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 2);
    assert_int_equal(pci_find_capability(&fake.dev, PCI_CAP_MSI), 0x80);
    assert_int_equal(pci_find_capability(&fake.dev, PCI_CAP_SATA), 0xa8);
    assert_int_equal(pci_find_capability(&fake.dev, PCI_CAP_MSIX), 0);
    assert_string_equal(fake.note_buffer, "");
}

static void test_caps_status_says_none(void **state)
{
    (void)state;
    fake.bytes[PCI_STATUS] = 0;
    fake.bytes[PCI_CAPABILITIES] = 0x80;
    put_cap(0x80, PCI_CAP_MSI, 0);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 0);
}

static void test_caps_loop(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0x40;
    put_cap(0x40, PCI_CAP_POWER, 0x50);
    put_cap(0x50, PCI_CAP_MSI, 0x40);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 2);
    assert_true(noted("loops at 0x40"));
}

static void test_caps_points_at_itself(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0x44;
    put_cap(0x44, PCI_CAP_MSI, 0x44);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 1);
    assert_true(noted("loops at 0x44"));
}

static void test_caps_into_header(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0x40;
    put_cap(0x40, PCI_CAP_POWER, 0x10);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 1);
    assert_true(noted("inside the header at 0x10"));
}

static void test_caps_at_the_end(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0xff; // masked to 0xfc, the last place
    put_cap(0xfc, PCI_CAP_MSI, 0);
    read_caps();
    assert_int_equal(pci_find_capability(&fake.dev, PCI_CAP_MSI), 0xfc);
}

static void test_caps_all_ones(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0x40;
    memset(&fake.bytes[0x40], 0xff, 256 - 0x40);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 0);
    assert_true(noted("all ones"));
}

static void test_caps_as_many_as_fit(void **state)
{
    (void)state;
    fake.bytes[PCI_CAPABILITIES] = 0x40;
    for (unsigned at = 0x40; at < 0x100; at += 4) {
        put_cap((uint8_t)at, PCI_CAP_VENDOR, (uint8_t)(at + 4));
    }
    read_caps();
    assert_int_equal(fake.dev.cap_count, PCI_MAX_CAPS);
}

static void test_caps_extended(void **state)
{
    (void)state;
    fake.config.size = 4096;
    fake.bytes[PCI_CAPABILITIES] = 0x40;
    put_cap(0x40, PCI_CAP_EXPRESS, 0);
    put_le32(&fake.bytes[0x100], 0x1 | 1 << 16 | 0x148u << 20);
    put_le32(&fake.bytes[0x148], 0x3 | 1 << 16 | 0x100u << 20); // back to the first
    read_caps();
    assert_int_equal(fake.dev.cap_count, 3);
    assert_int_equal(pci_find_capability(&fake.dev, 0x1001), 0x100);
    assert_int_equal(pci_find_capability(&fake.dev, 0x1003), 0x148);
    assert_true(noted("loops at 0x100"));
}

static void test_caps_extended_needs_express(void **state)
{
    (void)state;
    fake.config.size = 4096;
    put_le32(&fake.bytes[0x100], 0x1 | 1 << 16);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 0);
}

static void test_caps_extended_into_header(void **state)
{
    (void)state;
    fake.config.size = 4096;
    fake.bytes[PCI_CAPABILITIES] = 0x40;
    put_cap(0x40, PCI_CAP_EXPRESS, 0);
    put_le32(&fake.bytes[0x100], 0x1 | 1 << 16 | 0x40u << 20);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 2);
    assert_true(noted("below 0x100 at 0x40"));
}

// ---- BARs ---------------------------------------------------------------------------------------

static void put_bar(unsigned bar, uint32_t value, uint32_t writable)
{
    put_le32(&fake.bytes[PCI_BAR0 + bar * 4], value);
    fake.writable[bar] = writable;
}

static void read_bars(unsigned count)
{
    uint8_t before[24];
    memcpy(before, &fake.bytes[PCI_BAR0], sizeof(before));
    pci_read_bars(&fake.dev, &fake.config, count, &fake.notes);
    // Whatever was found, everything is back as it was.
    assert_memory_equal(before, &fake.bytes[PCI_BAR0], sizeof(before));
    assert_int_equal(fake.bytes[PCI_COMMAND], PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

static void test_bars_plain(void **state)
{
    (void)state;
    put_bar(0, 0xfeb80000, 0xfffe0000);
    put_bar(1, 0xc001, 0xffffffc0);
    put_bar(2, 0xe0000008, 0xff000000);
    read_bars(6);
    assert_int_equal(fake.dev.bars[0].base, 0xfeb80000);
    assert_int_equal(fake.dev.bars[0].size, 0x20000);
    assert_false(fake.dev.bars[0].is_port);
    assert_true(fake.dev.bars[1].is_port);
    assert_int_equal(fake.dev.bars[1].base, 0xc000);
    assert_int_equal(fake.dev.bars[1].size, 0x40);
    assert_true(fake.dev.bars[2].is_prefetchable);
    assert_int_equal(fake.dev.bars[2].size, 16 << 20);
    assert_int_equal(fake.dev.bars[3].size, 0);
    assert_int_equal(fake.bar_writes_while_decoding, 0);
    assert_string_equal(fake.note_buffer, "");
}

static void test_bars_64bit(void **state)
{
    (void)state;
    put_bar(0, 0x00000004, 0x00000000); // 8 GiB: no writable bit in the lower half
    put_bar(1, 0x00000010, 0xfffffffe);
    put_bar(2, 0xfe000004, 0xffffc000);
    put_bar(3, 0, 0xffffffff);
    put_bar(4, 0xfeb00000, 0xfffff000);
    read_bars(6);
    assert_true(fake.dev.bars[0].is_64bit);
    assert_int_equal(fake.dev.bars[0].base, 0x1000000000);
    assert_int_equal(fake.dev.bars[0].size, 0x200000000);
    assert_int_equal(fake.dev.bars[1].size, 0); // the second half is no BAR of its own
    assert_int_equal(fake.dev.bars[2].base, 0xfe000000);
    assert_int_equal(fake.dev.bars[2].size, 0x4000);
    assert_int_equal(fake.dev.bars[4].size, 0x1000);
}

static void test_bars_64bit_last(void **state)
{
    (void)state;
    put_bar(5, 0xfe000004, 0xffffc000);
    read_bars(6);
    assert_int_equal(fake.dev.bars[5].size, 0);
    assert_true(noted("BAR 5 has 64 bits but is the last"));
}

static void test_bars_bridge_has_two(void **state)
{
    (void)state;
    put_bar(1, 0xfe000004, 0xffffc000);
    put_bar(2, 0x12345678, 0xffffffff); // bus numbers in a bridge: must not be written
    read_bars(2);
    assert_int_equal(fake.dev.bars[1].size, 0);
    assert_true(noted("BAR 1 has 64 bits but is the last"));
}

static void test_bars_odd_size(void **state)
{
    (void)state;
    put_bar(0, 0xfe000000, 0xff0ff000);
    put_bar(1, 0xfe001002, 0xfffff000); // reserved type 1
    read_bars(6);
    assert_int_equal(fake.dev.bars[0].size, 0);
    assert_true(noted("BAR 0 has a size that is no power of two"));
    assert_int_equal(fake.dev.bars[1].size, 0);
    assert_true(noted("BAR 1 has a reserved type"));
}

static void test_bars_wrap(void **state)
{
    (void)state;
    put_bar(0, 0xfffff004, 0xfffff000);
    put_bar(1, 0xffffffff, 0xffffffff); // the very last page: ends at 2^64 - 1, which is no wrap
    read_bars(6);
    assert_int_equal(fake.dev.bars[0].size, 0x1000);
}

static void test_bars_16bit_port(void **state)
{
    (void)state;
    put_bar(0, 0x1f1, 0x0000fff8); // the upper half reads zero
    put_bar(1, 0x12340001, 0xfffffff8);
    read_bars(6);
    assert_int_equal(fake.dev.bars[0].base, 0x1f0);
    assert_int_equal(fake.dev.bars[0].size, 8);
    assert_int_equal(fake.dev.bars[1].size, 0);
    assert_true(noted("BAR 1 lies beyond the last port"));
}

static void test_bars_host_bridge_keeps_decoding(void **state)
{
    (void)state;
    fake.dev.class_code = 0x060000;
    put_bar(0, 0xe0000000, 0xf0000000);
    read_bars(6);
    assert_int_equal(fake.bar_writes_while_decoding, 12);
    assert_int_equal(fake.dev.bars[0].size, 0x10000000);
}

static void test_device_gone(void **state)
{
    (void)state;
    memset(fake.bytes, 0xff, sizeof(fake.bytes));
    fake.config.size = 4096;
    pci_read_bars(&fake.dev, &fake.config, 6, &fake.notes);
    read_caps();
    assert_int_equal(fake.dev.cap_count, 0);
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        assert_int_equal(fake.dev.bars[i].size, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_caps_list, setup),
        cmocka_unit_test_setup(test_caps_status_says_none, setup),
        cmocka_unit_test_setup(test_caps_loop, setup),
        cmocka_unit_test_setup(test_caps_points_at_itself, setup),
        cmocka_unit_test_setup(test_caps_into_header, setup),
        cmocka_unit_test_setup(test_caps_at_the_end, setup),
        cmocka_unit_test_setup(test_caps_all_ones, setup),
        cmocka_unit_test_setup(test_caps_as_many_as_fit, setup),
        cmocka_unit_test_setup(test_caps_extended, setup),
        cmocka_unit_test_setup(test_caps_extended_needs_express, setup),
        cmocka_unit_test_setup(test_caps_extended_into_header, setup),
        cmocka_unit_test_setup(test_bars_plain, setup),
        cmocka_unit_test_setup(test_bars_64bit, setup),
        cmocka_unit_test_setup(test_bars_64bit_last, setup),
        cmocka_unit_test_setup(test_bars_bridge_has_two, setup),
        cmocka_unit_test_setup(test_bars_odd_size, setup),
        cmocka_unit_test_setup(test_bars_wrap, setup),
        cmocka_unit_test_setup(test_bars_16bit_port, setup),
        cmocka_unit_test_setup(test_bars_host_bridge_keeps_decoding, setup),
        cmocka_unit_test_setup(test_device_gone, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
