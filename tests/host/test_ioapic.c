// Several IO-APICs: which wire is whose, against register files in memory. QEMU has one only.
//
// links: kernel/lib/text.c kernel/lib/format.c kernel/lib/string.c tests/host/stubs/log.c tests/host/stubs/spinlock.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include <core/io.h>

// The window of registers: what is written to the first word selects what the other one is.
struct fake_ioapic {
    uint8_t window[0x20];
    uint32_t selected, registers[256];
    unsigned writes;
};
static struct fake_ioapic fakes[4];

static struct fake_ioapic *fake_of(const volatile void *address, unsigned *offset)
{
    for (unsigned i = 0; i < 4; i++) {
        uintptr_t distance = (uintptr_t)address - (uintptr_t)fakes[i].window;
        if (distance < sizeof(fakes[i].window)) {
            *offset = (unsigned)distance;
            return &fakes[i];
        }
    }
    fail_msg("an address of no IO-APIC");
    return NULL;
}

static uint32_t fake_readl(const volatile void *address)
{
    unsigned offset;
    struct fake_ioapic *fake = fake_of(address, &offset);

    assert_int_equal(offset, 0x10);
    return fake->registers[fake->selected & 0xff];
}

static void fake_writel(uint32_t value, volatile void *address)
{
    unsigned offset;
    struct fake_ioapic *fake = fake_of(address, &offset);

    if (offset == 0) {
        fake->selected = value;
    } else {
        assert_int_equal(offset, 0x10);
        fake->registers[fake->selected & 0xff] = value;
        fake->writes++;
    }
}

#define readl  fake_readl
#define writel fake_writel
#include "../../kernel/x86/ioapic.c"

// ---- what it stands on ----

struct cpu cpus[MAX_CPUS];
const struct irq_remap_ops *irq_remap;

void lapic_eoi(void)
{
}

bool lapic_tmr_test(uint8_t vector)
{
    (void)vector;
    return true;
}

void lapic_irq_retrigger(struct irq_data *data)
{
    (void)data;
}

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    (void)kind, (void)start, (void)end, (void)name;
    return 0;
}

static void *fake_map(phys_t address, size_t size)
{
    assert_true(size >= 0x20);
    return address == 0 ? NULL : fakes[address >> 12 & 3].window;
}

// Pages 0xfec0N000 are the fakes.
static phys_t fake_at(unsigned number, unsigned pins)
{
    memset(&fakes[number], 0, sizeof(fakes[number]));
    fakes[number].registers[IOAPIC_REG_VERSION] = (pins - 1) << 16 | 0x20;
    return 0xfec00000 + number * 0x1000;
}

static void reset(void)
{
    memset(ioapics, 0, sizeof(ioapics));
    ioapics_used = 0;
}

// ---- tests ----

static void test_each_wire_has_its_pin(void **state)
{
    struct irq_data data = {0};

    (void)state;
    reset();
    assert_int_equal(ioapic_add(0, fake_at(0, 24), 0, fake_map), 0);
    assert_int_equal(ioapic_add(1, fake_at(1, 16), 24, fake_map), 0);
    assert_int_equal(ioapic_add(2, fake_at(2, 8), 56, fake_map), 0); // a gap before it
    assert_int_equal(ioapic_count(), 3);
    assert_int_equal(ioapic_gsi_end(), 64);
    assert_int_equal(ioapic_irq_data(23, &data), 0);
    assert_int_equal(data.hwirq, 23);
    assert_ptr_equal(data.chip_data, &ioapics[0]);
    assert_int_equal(ioapic_irq_data(24, &data), 0);
    assert_int_equal(data.hwirq, 0);
    assert_ptr_equal(data.chip_data, &ioapics[1]);
    assert_int_equal(ioapic_irq_data(39, &data), 0);
    assert_int_equal(data.hwirq, 15);
    assert_int_equal(ioapic_irq_data(40, &data), -ENOENT);
    assert_false(ioapic_has_gsi(55));
    assert_int_equal(ioapic_irq_data(56, &data), 0);
    assert_int_equal(data.hwirq, 0);
    assert_ptr_equal(data.chip_data, &ioapics[2]);
}

static void test_all_pins_are_masked_at_first(void **state)
{
    (void)state;
    reset();
    ioapic_add(0, fake_at(0, 24), 0, fake_map);
    ioapic_add(1, fake_at(1, 16), 24, fake_map);
    for (unsigned gsi = 0; gsi < 40; gsi++) {
        assert_true(ioapic_entry_is_masked(ioapic_read_entry(gsi)));
    }
}

static void test_a_start_writes_its_own_controller_only(void **state)
{
    struct irq_data data = {
        .irq = 26, .vector = 0x51, .level = true, .active_low = true, .apic_id = 3};
    struct ioapic_entry entry;

    (void)state;
    reset();
    ioapic_add(0, fake_at(0, 24), 0, fake_map);
    ioapic_add(1, fake_at(1, 16), 24, fake_map);
    assert_int_equal(ioapic_irq_data(26, &data), 0);
    fakes[0].writes = fakes[1].writes = 0;
    ioapic_chip.irq_startup(&data);
    assert_int_equal(fakes[0].writes, 0);
    assert_true(fakes[1].writes > 0);
    assert_int_equal(fakes[1].registers[0x10 + 4], 0xa051); // level, low, vector
    assert_int_equal(fakes[1].registers[0x10 + 5], 3u << 24);
    assert_true(ioapic_read_entry(26) == ioapic_wanted_entry(&data, false));
    assert_true(ioapic_decode(26, &entry));
    assert_int_equal(entry.vector, 0x51);
    assert_int_equal(entry.apic_id, 3);
    assert_false(entry.masked);
    ioapic_chip.irq_mask(&data);
    assert_true(ioapic_read_entry(26) == ioapic_wanted_entry(&data, true));
    data.apic_id = 1;
    assert_int_equal(ioapic_chip.irq_set_affinity(&data), 0);
    assert_int_equal(fakes[1].registers[0x10 + 5], 1u << 24);
    assert_int_equal(fakes[0].writes, 0);
    data.apic_id = 0xff; // the broadcast is nobody's address
    assert_int_equal(ioapic_chip.irq_set_affinity(&data), -EIO);
    ioapic_chip.irq_shutdown(&data);
    assert_true(ioapic_entry_is_masked(ioapic_read_entry(26)));
}

static void test_refused_ones(void **state)
{
    (void)state;
    reset();
    assert_int_equal(ioapic_add(0, fake_at(0, 24), 0, fake_map), 0);
    assert_int_equal(ioapic_add(1, fake_at(1, 24), 23, fake_map), -EINVAL); // a wire is another's
    fakes[2].registers[IOAPIC_REG_VERSION] = UINT32_MAX;
    assert_int_equal(ioapic_add(2, 0xfec02000, 24, fake_map), -ENODEV); // nothing answers
    assert_int_equal(ioapic_add(3, fake_at(3, 24), UINT32_MAX - 5, fake_map), -EINVAL);
    assert_int_equal(ioapic_add(3, 0, 24, fake_map), -ENODEV);
    assert_int_equal(ioapic_count(), 1);
    assert_int_equal(ioapic_gsi_end(), 24);
    reset();
    for (unsigned i = 0; i < MAX_IOAPICS; i++) {
        assert_int_equal(ioapic_add(i, fake_at(0, 24), 24 * i, fake_map), 0);
    }
    assert_int_equal(ioapic_add(99, fake_at(0, 24), 24 * MAX_IOAPICS, fake_map), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_wire_has_its_pin),
        cmocka_unit_test(test_all_pins_are_masked_at_first),
        cmocka_unit_test(test_a_start_writes_its_own_controller_only),
        cmocka_unit_test(test_refused_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
