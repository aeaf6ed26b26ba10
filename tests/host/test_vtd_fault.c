// Fault records against a model of the unit (VT-d 7.2 and 7.3.1): whatever comes at whatever moment
// of the thread's work, the next fault is heard of.
//
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/iommu/vtd_fault.c"

#include "stubs/stubs.h"

// ---- the unit -----------------------------------------------------------------------------------

enum { MODEL_RECORDS = 4, MODEL_FRO = 0x220, STEPS_MOST = 4000 };

static struct {
    unsigned records;             // it has
    uint64_t high[MODEL_RECORDS]; // of each; bit 63: in use
    unsigned next, oldest;        // where the next one goes; what FSTS names
    bool overflow;
    unsigned messages, sent, dropped; // sent: faults that it recorded
    unsigned steps;                   // accesses of the thread
    unsigned at, count;               // before which of them faults come, and how many
    unsigned storm;                   // faults that come as soon as a record is free
    unsigned pauses;
} model;

static bool model_pending(void)
{
    for (unsigned i = 0; i < model.records; i++) {
        if ((model.high[i] & VTD_FAULT_VALID) != 0) {
            return true;
        }
    }
    return false;
}

static void model_fault(void)
{
    bool quiet = !model_pending() && !model.overflow;
    if (model.overflow || (model.high[model.next] & VTD_FAULT_VALID) != 0) {
        model.dropped++;
        model.overflow = true;
    } else {
        if (!model_pending()) {
            model.oldest = model.next;
        }
        model.high[model.next] = VTD_FAULT_VALID | 5ull << 32 | 0x20;
        model.next = (model.next + 1) % model.records;
        model.sent++;
    }
    model.messages += quiet;
}

static void model_step(void)
{
    assert_true(++model.steps < STEPS_MOST);
    while (model.count != 0 && model.steps >= model.at) {
        model.count--;
        model_fault();
    }
}

// Where in the records it is.
static unsigned model_place(unsigned reg)
{
    assert_true(reg >= MODEL_FRO && reg - MODEL_FRO < model.records * VTD_FAULT_SIZE);
    return reg - MODEL_FRO;
}

uint32_t vtd_rd(const struct vtd_unit *unit, enum vtd_register reg)
{
    (void)unit;
    model_step();
    assert_int_equal(reg, VTD_FSTS);
    return (model.overflow ? VTD_FSTS_OVERFLOW : 0) | (model_pending() ? VTD_FSTS_PENDING : 0) |
           model.oldest << 8;
}

uint64_t vtd_rd64(const struct vtd_unit *unit, enum vtd_register reg)
{
    (void)unit;
    model_step();
    unsigned at = model_place(reg);
    return at % VTD_FAULT_SIZE == 8 ? model.high[at / VTD_FAULT_SIZE] : 0x1234000;
}

void vtd_wr(const struct vtd_unit *unit, enum vtd_register reg, uint32_t value)
{
    (void)unit;
    model_step();
    if (reg == VTD_FSTS) {
        assert_int_equal(value & ~(VTD_FSTS_OVERFLOW | VTD_FSTS_QUEUE_ERRORS), 0);
        model.overflow = model.overflow && (value & VTD_FSTS_OVERFLOW) == 0;
        return;
    }
    unsigned at = model_place(reg);
    assert_int_equal(at % VTD_FAULT_SIZE, 12);
    assert_int_equal(value, VTD_FAULT_VALID_HIGH);
    model.high[at / VTD_FAULT_SIZE] &= ~VTD_FAULT_VALID;
    if (model_pending()) {
        while ((model.high[model.oldest] & VTD_FAULT_VALID) == 0) {
            model.oldest = (model.oldest + 1) % model.records;
        }
    }
    if (model.storm != 0) {
        model.storm--;
        model_fault();
    }
}

// ---- what it asks of the kernel -----------------------------------------------------------------

void msleep(uint32_t ms)
{
    assert_int_equal(ms, FAULT_PAUSE_MS);
    model.pauses++;
    model.steps = 0;
}

struct vtd_domain *vtd_domain_of_requester(const struct vtd_unit *unit, uint16_t requester)
{
    (void)unit;
    assert_int_equal(requester, 0x20);
    return NULL;
}

bool log_limit_ok(struct log_limit *limit, uint32_t *held)
{
    (void)limit;
    *held = 0;
    return true;
}

int route_alloc_message(const struct irq_chip *chip, void *chip_data, unsigned hwirq)
{
    (void)chip;
    (void)chip_data;
    (void)hwirq;
    return -ENOSPC; // the thread is called by hand
}

void route_free_message(unsigned irq)
{
    (void)irq;
}

int request_threaded_irq(unsigned irq, irq_handler_t handler, irq_handler_t thread_fn,
                         unsigned long flags, const char *name, void *dev_id)
{
    (void)irq;
    (void)handler;
    (void)thread_fn;
    (void)flags;
    (void)name;
    (void)dev_id;
    return -ENOSPC;
}

void lapic_irq_retrigger(struct irq_data *data)
{
    (void)data;
}

// ---- tests --------------------------------------------------------------------------------------

static struct vtd_unit unit;

static void reset(unsigned records)
{
    memset(&model, 0, sizeof(model));
    model.records = records;
    memset(&unit, 0, sizeof(unit));
    unit.cap = (uint64_t)(MODEL_FRO / 16) << 24 | (uint64_t)(records - 1) << 40;
    spin_lock_init(&unit.lock, "unit");
    stub_log_clear();
}

// A message runs the thread; one that comes while it runs has it run again.
static void run(unsigned *heard)
{
    while (*heard != model.messages) {
        *heard = model.messages;
        fault_thread(1, &unit);
    }
}

static void test_one(void **state)
{
    (void)state;
    unsigned heard = 0;
    reset(1);
    model_fault();
    run(&heard);
    assert_int_equal(unit.faults, 1);
    assert_int_equal(unit.faults_lost, 0);
    assert_string_equal(stub_log(), "DMAR: [DMA Write] Request device [00:04.0] fault addr 1234000 "
                                    "[fault reason 0x05] PTE Write access is not set\n");
}

// So many faults before each access in turn, then one more when all is quiet.
static void test_at_every_moment(void **state)
{
    (void)state;
    for (unsigned records = 1; records <= MODEL_RECORDS; records++) {
        for (unsigned count = 1; count <= 6; count++) {
            for (unsigned at = 1; at < 40; at++) {
                unsigned heard = 0;
                reset(records);
                model_fault();
                model.at = at;
                model.count = count;
                run(&heard);
                model.count = 0;
                assert_int_equal(unit.faults, model.sent);
                assert_int_equal(unit.faults_lost != 0, model.dropped != 0);
                model_fault();
                assert_int_equal(model.messages, heard + 1);
                run(&heard);
                assert_int_equal(unit.faults, model.sent);
            }
        }
    }
}

// A record is in use again before the thread is back: it pauses, and when the storm is over it has
// missed nothing that was recorded.
static void test_storm(void **state)
{
    (void)state;
    for (unsigned records = 1; records <= MODEL_RECORDS; records++) {
        unsigned heard = 0;
        reset(records);
        for (unsigned i = 0; i < records; i++) {
            model_fault();
        }
        model.storm = 5 * FAULT_ROUNDS;
        run(&heard);
        assert_int_equal(model.storm, 0);
        assert_int_equal(unit.faults, model.sent);
        assert_true(model.pauses >= 1);
        model_fault();
        assert_int_equal(model.messages, heard + 1);
    }
}

// A unit that says that there is something, where there is nothing.
static void test_liar(void **state)
{
    (void)state;
    reset(2);
    model.high[1] = VTD_FAULT_VALID; // which it does not name
    model.oldest = 0;
    fault_thread(1, &unit);
    assert_int_equal(unit.faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_at_every_moment),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_liar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
