// The scan of PCI buses: a machine made of bytes, some of it honest.
//
// links: drivers/pci/pci_scan.c drivers/pci/pci_caps.c drivers/pci/pci_bars.c kernel/lib/text.c kernel/lib/format.c kernel/lib/string.c tests/host/stubs/log.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <lib/string.h>
#include <mm/slab.h>

#include "../../drivers/pci/pci_config.h"
#include "../../drivers/pci/pci_regs.h"
#include "stubs/stubs.h"

// ---- the machine --------------------------------------------------------------------------------

enum { FAKE_FUNCTIONS = 600 };

struct fake_function {
    uint8_t bus, slot, function;
    uint8_t bytes[256];
};
static struct fake_function functions[FAKE_FUNCTIONS];
static unsigned function_count, unreachable_bus, allocations_left;
static bool every_slot_answers; // a bus that shows 00:00.0 everywhere

static LIST_HEAD(devices);
static unsigned device_count;

static struct fake_function *fake_find(const struct pci_dev *dev)
{
    for (unsigned i = 0; i < function_count; i++) {
        struct fake_function *f = &functions[i];
        if (f->bus == dev->bus && f->slot == dev->slot && f->function == dev->function) {
            return f;
        }
    }
    return every_slot_answers ? &functions[0] : NULL;
}

uint8_t pci_read8(const struct pci_dev *dev, uint16_t offset)
{
    const struct fake_function *f = fake_find(dev);
    return f == NULL || offset > 255 ? 0xff : f->bytes[offset];
}

uint16_t pci_read16(const struct pci_dev *dev, uint16_t offset)
{
    return (uint16_t)(pci_read8(dev, offset) | pci_read8(dev, (uint16_t)(offset + 1)) << 8);
}

uint32_t pci_read32(const struct pci_dev *dev, uint16_t offset)
{
    return pci_read16(dev, offset) | (uint32_t)pci_read16(dev, (uint16_t)(offset + 2)) << 16;
}

// Only commands and capabilities can be written here; BARs are not there.
void pci_write16(const struct pci_dev *dev, uint16_t offset, uint16_t value)
{
    struct fake_function *f = fake_find(dev);
    if (f != NULL && offset >= 0x40) {
        f->bytes[offset] = (uint8_t)value;
        f->bytes[offset + 1] = (uint8_t)(value >> 8);
    }
}

void pci_write32(const struct pci_dev *dev, uint16_t offset, uint32_t value)
{
    (void)dev;
    (void)offset;
    (void)value;
}

bool pci_access_add_bus(uint16_t segment, uint8_t bus)
{
    (void)segment;
    return bus != unreachable_bus;
}

uint16_t pci_access_size(uint16_t segment, uint8_t bus)
{
    (void)segment;
    (void)bus;
    return 256;
}

void *kzalloc(size_t size, enum gfp flags)
{
    (void)flags;
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return calloc(1, size);
}

static struct fake_function *put(uint8_t bus, uint8_t slot, uint8_t function, uint8_t header)
{
    struct fake_function *f = &functions[function_count++];
    memset(f, 0, sizeof(*f));
    f->bus = bus;
    f->slot = slot;
    f->function = function;
    f->bytes[0] = 0x86;
    f->bytes[1] = 0x80;
    f->bytes[PCI_HEADER_TYPE] = header;
    return f;
}

static struct fake_function *put_bridge(uint8_t bus, uint8_t slot, uint8_t first, uint8_t last)
{
    struct fake_function *f = put(bus, slot, 0, PCI_HEADER_TYPE_BRIDGE);
    f->bytes[PCI_PRIMARY_BUS] = bus;
    f->bytes[PCI_SECONDARY_BUS] = first;
    f->bytes[PCI_SUBORDINATE_BUS] = last;
    return f;
}

static int setup(void **state)
{
    (void)state;
    function_count = 0;
    unreachable_bus = 256;
    allocations_left = UINT32_MAX;
    every_slot_answers = false;
    device_count = 0;
    INIT_LIST_HEAD(&devices);
    stub_log_clear();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    while (!list_empty(&devices)) {
        struct pci_dev *dev = list_first_entry(&devices, struct pci_dev, link);
        list_del(&dev->link);
        free(dev);
    }
    return 0;
}

static void scan(void)
{
    pci_scan(0, 0, 255, &devices, &device_count);
}

// The names of what was found, each with a blank.
static const char *found(void)
{
    static char buffer[8192];
    struct text t = TEXT_INIT(buffer);
    struct pci_dev *dev;
    buffer[0] = '\0';
    list_for_each_entry (dev, &devices, link) {
        text_printf(&t, "%s ", dev->dev.name + 5); // without the segment
    }
    return buffer;
}

// ---- the tests ----------------------------------------------------------------------------------

static void test_bridges_are_followed(void **state)
{
    (void)state;
    put(0, 0, 0, 0);
    put_bridge(0, 8, 1, 2);
    put(0, 31, 0, 0);
    put_bridge(1, 3, 2, 2);
    put(2, 5, 0, 0);
    scan();
    assert_string_equal(found(), "00:00.0 00:08.0 00:1f.0 01:03.0 02:05.0 ");
    struct pci_dev *last = list_entry(devices.prev, struct pci_dev, link);
    assert_string_equal(last->bridge->dev.name, "0000:01:03.0");
    assert_string_equal(last->bridge->bridge->dev.name, "0000:00:08.0");
    assert_null(last->bridge->bridge->bridge);
    assert_int_equal(last->irq, -1);
    assert_string_equal(stub_log(), "");
}

static void put_express(struct fake_function *f, unsigned type)
{
    f->bytes[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    f->bytes[PCI_CAPABILITIES] = 0x40;
    f->bytes[0x40] = PCI_CAP_EXPRESS;
    f->bytes[0x42] = (uint8_t)(type << 4 | 2);
}

static uint16_t source_of(const char *name)
{
    struct pci_dev *dev;
    list_for_each_entry (dev, &devices, link) {
        if (strcmp(dev->dev.name + 5, name) == 0) {
            return dev->dev.source;
        }
    }
    fail();
    return 0;
}

// As whom a device's accesses arrive: its own name through PCI Express, a bridge's from behind one.
static void test_bridges_speak_for_those_behind(void **state)
{
    (void)state;
    put(0, 2, 0, 0);
    put_express(put_bridge(0, 3, 1, 1), 4); // a root port
    put(1, 0, 1, 0);
    put(1, 0, 0, PCI_HEADER_MULTI);
    put_bridge(0, 4, 2, 3); // a bridge of conventional PCI
    put(2, 7, 0, 0);
    put_bridge(2, 8, 3, 3); // behind it another
    put(3, 1, 0, 0);
    put_express(put_bridge(0, 5, 4, 5), 4);
    put_express(put_bridge(4, 0, 5, 5), PCI_EXPRESS_TO_PCI);
    put(5, 6, 0, 0);
    put_bridge(0, 6, 6, 8);
    put_express(put_bridge(6, 1, 7, 7), PCI_EXPRESS_FROM_PCI);
    put(7, 0, 0, 0);
    scan();
    assert_int_equal(source_of("00:02.0"), 0x0010);
    assert_int_equal(source_of("01:00.1"), 0x0101);
    assert_int_equal(source_of("02:07.0"), 0x0020);
    assert_int_equal(source_of("03:01.0"), 0x0020);
    assert_int_equal(source_of("04:00.0"), 0x0400); // the bridge itself
    assert_int_equal(source_of("05:06.0"), 0x0500); // device 0 of the bus behind it
    assert_int_equal(source_of("07:00.0"), 0x0030); // the upper one speaks for the lower
}

static void test_bridges_in_a_circle(void **state)
{
    (void)state;
    put_bridge(0, 1, 1, 3);
    put_bridge(1, 1, 2, 3);
    put_bridge(2, 1, 1, 3); // back to bus 1
    put_bridge(2, 2, 2, 2); // to itself
    put_bridge(2, 3, 0, 0); // to the root
    put_bridge(2, 4, 3, 2); // backwards
    scan();
    assert_string_equal(found(), "00:01.0 01:01.0 02:01.0 02:02.0 02:03.0 02:04.0 ");
    assert_non_null(strstr(stub_log(), "0000:02:01.0: bridge to buses 1 to 3 makes no sense"));
    assert_non_null(strstr(stub_log(), "0000:02:02.0: bridge to buses 2 to 2 makes no sense"));
    assert_non_null(strstr(stub_log(), "0000:02:03.0: bridge to buses 0 to 0 makes no sense"));
    assert_non_null(strstr(stub_log(), "0000:02:04.0: bridge to buses 3 to 2 makes no sense"));
}

static void test_two_bridges_to_one_bus(void **state)
{
    (void)state;
    put_bridge(0, 1, 1, 1);
    put_bridge(0, 2, 1, 1);
    put(1, 0, 0, 0);
    scan();
    assert_string_equal(found(), "00:01.0 00:02.0 01:00.0 "); // once
    assert_non_null(strstr(stub_log(), "0000:00:02.0: bridge to buses 1 to 1 makes no sense"));
}

static void test_a_bridge_on_every_bus(void **state)
{
    (void)state;
    for (unsigned bus = 0; bus < 255; bus++) {
        put_bridge((uint8_t)bus, 0, (uint8_t)(bus + 1), 255);
    }
    put_bridge(255, 0, 0, 255);
    scan();
    assert_int_equal(device_count, 256);
}

static void test_unknown_header(void **state)
{
    (void)state;
    put(0, 0, 0, 0);
    put(0, 3, 0, 0x7f);
    put(0, 4, 0, 2); // a CardBus bridge
    put(0, 5, 0, 0);
    scan();
    assert_string_equal(found(), "00:00.0 00:05.0 ");
    assert_non_null(strstr(stub_log(), "0000:00:03.0: header type 0x7f is unknown"));
    assert_non_null(strstr(stub_log(), "0000:00:04.0: header type 0x2 is unknown"));
}

static void test_functions(void **state)
{
    (void)state;
    put(0, 1, 0, PCI_HEADER_MULTI);
    put(0, 1, 3, 0);
    put(0, 1, 7, 0);
    put(0, 2, 0, 0);
    put(0, 2, 1, 0); // not to be looked for: function 0 says that it is alone
    put(0, 3, 1, 0); // nor this: there is no function 0
    put(0, 4, 0, 0x7f | PCI_HEADER_MULTI);
    put(0, 4, 1, 0); // but this, although its function 0 is nonsense
    scan();
    assert_string_equal(found(), "00:01.0 00:01.3 00:01.7 00:02.0 00:04.1 ");
}

static void test_vendor_that_is_none(void **state)
{
    (void)state;
    memset(put(0, 1, 0, 0)->bytes, 0, 2);
    memset(put(0, 2, 0, 0)->bytes, 0xff, 256);
    scan();
    assert_string_equal(found(), "");
}

static void test_bus_out_of_reach(void **state)
{
    (void)state;
    unreachable_bus = 7;
    put_bridge(0, 1, 7, 7);
    put(7, 0, 0, 0);
    scan();
    assert_string_equal(found(), "00:01.0 ");
    assert_non_null(strstr(stub_log(), "cannot reach bus 0000:07"));
}

static void test_bus_beyond_the_last(void **state)
{
    (void)state;
    put_bridge(0, 1, 64, 64);
    put(64, 0, 0, 0);
    pci_scan(0, 0, 63, &devices, &device_count);
    assert_string_equal(found(), "00:01.0 ");
}

static void test_everything_answers(void **state)
{
    (void)state;
    put(0, 0, 0, PCI_HEADER_MULTI);
    for (unsigned bus = 0; bus < 4; bus++) {
        put_bridge((uint8_t)bus, 9, (uint8_t)(bus + 1), 255);
    }
    every_slot_answers = true;
    scan();
    assert_int_equal(device_count, 512); // as many as there is room for, and no more
    assert_non_null(strstr(stub_log(), "no room for another function"));
}

static void test_no_memory(void **state)
{
    (void)state;
    put(0, 0, 0, 0);
    put_bridge(0, 1, 1, 1);
    put(0, 2, 0, 0);
    put(1, 0, 0, 0);
    allocations_left = 1;
    scan();
    assert_string_equal(found(), "00:00.0 ");
    assert_non_null(strstr(stub_log(), "0000:00:01.0: no room"));
}

static void test_messages_are_off(void **state)
{
    (void)state;
    struct fake_function *f = put(0, 0, 0, 0);
    f->bytes[PCI_STATUS] = PCI_STATUS_CAPABILITIES;
    f->bytes[PCI_CAPABILITIES] = 0x50;
    f->bytes[0x50] = PCI_CAP_MSI;
    f->bytes[0x51] = 0x70;
    f->bytes[0x52] = 0x81; // 64 bits, on
    f->bytes[0x70] = PCI_CAP_MSIX;
    f->bytes[0x72] = 0x04;
    f->bytes[0x73] = 0xc0; // on, masked
    scan();
    assert_int_equal(f->bytes[0x52], 0x80);
    assert_int_equal(f->bytes[0x72], 0x04);
    assert_int_equal(f->bytes[0x73], 0x40);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bridges_are_followed),
        TEST(test_bridges_speak_for_those_behind),
        TEST(test_bridges_in_a_circle),
        TEST(test_two_bridges_to_one_bus),
        TEST(test_a_bridge_on_every_bus),
        TEST(test_unknown_header),
        TEST(test_functions),
        TEST(test_vendor_that_is_none),
        TEST(test_bus_out_of_reach),
        TEST(test_bus_beyond_the_last),
        TEST(test_everything_answers),
        TEST(test_no_memory),
        TEST(test_messages_are_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
