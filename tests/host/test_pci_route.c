// From a device's pin to an irq, on boards of paper: q35 with its table, pc with its PIIX, and
// boards of which nothing is known.
//
// links: drivers/pci/pci_route.c tests/host/stubs/log.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <x86/acpi.h>
#include <irq/route.h>

#include "../../drivers/pci/pci_config.h"
#include "../../drivers/pci/pci_regs.h"

// ---- the board ----------------------------------------------------------------------------------

struct acpi_info acpi;
static struct pci_dev *isa_bridge; // NULL: none
static uint8_t pirq[4];
static unsigned last_gsi = 23;

struct pci_dev *pci_next(struct pci_dev *after)
{
    return after == NULL ? isa_bridge : NULL;
}

uint8_t pci_read8(const struct pci_dev *dev, uint16_t offset)
{
    assert_ptr_equal(dev, isa_bridge);
    assert_in_range(offset, PIIX_PIRQ_ROUTE, PIIX_PIRQ_ROUTE + 3);
    return pirq[offset - PIIX_PIRQ_ROUTE];
}

int route_gsi_pci(unsigned gsi)
{
    return gsi <= last_gsi ? (int)gsi : -ENOENT;
}

int route_isa(unsigned line)
{
    return line == 0 ? 2 : (int)line;
}

static struct pci_dev piix = {.vendor = 0x8086, .device = 0x7000, .slot = 1};

static int setup(void **state)
{
    (void)state;
    memset(&acpi, 0, sizeof(acpi));
    isa_bridge = NULL;
    last_gsi = 23;
    return 0;
}

// What q35's DSDT says (measured): GSI 20 + (slot + pin) mod 4; but slots 25 to 29 and 31 have
// 16 + pin, and slot 30 has 20 + pin.
static void board_q35(void)
{
    for (unsigned slot = 0; slot < 32; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            bool own = (slot >= 25 && slot <= 29) || slot == 31;
            acpi.intx[acpi.intx_count++] =
                (struct acpi_intx){.slot = (uint8_t)slot,
                                   .pin = (uint8_t)pin,
                                   .gsi = own          ? 16 + pin
                                          : slot == 30 ? 20 + pin
                                                       : 20 + (slot + pin) % 4};
        }
    }
}

static void board_pc(void)
{
    static const uint8_t routes[] = {10, 10, 11, 11};
    memcpy(pirq, routes, sizeof(pirq));
    isa_bridge = &piix;
}

static int route(const struct pci_dev *dev, const char *expected_source)
{
    const char *source = "untouched";
    int irq = pci_route_intx(dev, &source);
    if (expected_source == NULL) {
        assert_null(source);
    } else {
        assert_string_equal(source, expected_source);
    }
    return irq;
}

// ---- the tests ----------------------------------------------------------------------------------

static void test_q35(void **state)
{
    (void)state;
    board_q35();
    static const struct {
        uint8_t slot, pin;
        int irq;
    } measured[] = {{2, 1, 22}, {3, 1, 23}, {4, 1, 20},  {5, 1, 21},  {16, 1, 20}, {30, 1, 20},
                    {2, 2, 23}, {2, 4, 21}, {31, 1, 16}, {31, 4, 19}, {25, 2, 17}};
    for (unsigned i = 0; i < ARRAY_SIZE(measured); i++) {
        struct pci_dev dev = {
            .slot = measured[i].slot, .pin = measured[i].pin, .interrupt_line = 10};
        assert_int_equal(route(&dev, "DSDT"), measured[i].irq);
    }
}

static void test_behind_bridges(void **state)
{
    (void)state;
    board_q35();
    struct pci_dev port = {.slot = 8};
    struct pci_dev dev = {.slot = 0, .pin = 1, .bridge = &port};
    assert_int_equal(route(&dev, "DSDT"), 20); // pin A at slot 8
    dev.slot = 3;
    assert_int_equal(route(&dev, "DSDT"), 23); // pin D at slot 8
    struct pci_dev outer = {.slot = 30}, inner = {.slot = 3, .bridge = &outer};
    struct pci_dev deep = {.slot = 5, .pin = 1, .bridge = &inner};
    assert_int_equal(route(&deep, "DSDT"), 20); // measured: A + 5 + 3 = A at slot 30
}

static void test_pc(void **state)
{
    (void)state;
    board_pc();
    static const struct {
        uint8_t slot;
        int irq;
    } measured[] = {{2, 10}, {3, 11}, {4, 11}, {5, 10}, {6, 10}, {7, 11}, {16, 11}, {25, 10}};
    for (unsigned i = 0; i < ARRAY_SIZE(measured); i++) {
        struct pci_dev dev = {.slot = measured[i].slot, .pin = 1};
        assert_int_equal(route(&dev, "PIIX"), measured[i].irq);
    }
}

static void test_functions_of_the_piix(void **state)
{
    (void)state;
    board_pc();
    struct pci_dev power = {.slot = 1, .function = 3, .pin = 1, .interrupt_line = 9};
    assert_int_equal(route(&power, "INTERRUPT_LINE"), 9);
}

static void test_pirq_that_is_off(void **state)
{
    (void)state;
    board_pc();
    pirq[1] = PIIX_PIRQ_OFF | 10;
    struct pci_dev dev = {.slot = 2, .pin = 1, .interrupt_line = 5};
    assert_int_equal(route(&dev, "INTERRUPT_LINE"), 5);
}

static void test_table_with_a_hole(void **state)
{
    (void)state;
    acpi.intx[0] = (struct acpi_intx){.slot = 2, .pin = 0, .gsi = 99}; // no such wire
    acpi.intx_count = 1;
    struct pci_dev dev = {.slot = 2, .pin = 1, .interrupt_line = 11};
    assert_int_equal(route(&dev, "INTERRUPT_LINE"), 11);
}

static void test_nothing_known(void **state)
{
    (void)state;
    static const uint8_t lines[] = {0, 16, 255};
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        struct pci_dev dev = {.slot = 2, .pin = 1, .interrupt_line = lines[i]};
        assert_int_equal(route(&dev, "nothing: it can raise no interrupt"), -1);
    }
    last_gsi = 3;
    struct pci_dev dev = {.slot = 2, .pin = 1, .interrupt_line = 11}; // a line without a pin
    assert_int_equal(route(&dev, "nothing: it can raise no interrupt"), -1);
}

static void test_no_pin(void **state)
{
    (void)state;
    board_q35();
    static const uint8_t pins[] = {0, 5, 255};
    for (unsigned i = 0; i < ARRAY_SIZE(pins); i++) {
        struct pci_dev dev = {.slot = 2, .pin = pins[i], .interrupt_line = 11};
        assert_int_equal(route(&dev, NULL), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_q35, setup),
        cmocka_unit_test_setup(test_behind_bridges, setup),
        cmocka_unit_test_setup(test_pc, setup),
        cmocka_unit_test_setup(test_functions_of_the_piix, setup),
        cmocka_unit_test_setup(test_pirq_that_is_off, setup),
        cmocka_unit_test_setup(test_table_with_a_hole, setup),
        cmocka_unit_test_setup(test_nothing_known, setup),
        cmocka_unit_test_setup(test_no_pin, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
