// What the tests of the interrupt core share: a controller that writes down what it is told
// (stubs/irq_machine.h), three devices with a handler that writes down that it was called, and an
// edge and a level.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <core/cpu.h>
#include <x86/acpi.h>
#include <irq/desc.h>
#include <irq/route.h>

#include "stubs/irq_machine.h"
#include "stubs/stubs.h"

enum { EDGE = 4, LEVEL = 20, OTHER = 21 };

static struct acpi_info tables;

// Devices of the tests: dev_id is one of these.
struct device_fake {
    const char *name;
    irqreturn_t answer;
    unsigned calls;
    void (*inside)(struct device_fake *device); // done in the handler
};
static struct device_fake a, b, c;

static inline irqreturn_t handler(int irq, void *dev_id)
{
    struct device_fake *device = dev_id;
    (void)irq;
    device->calls++;
    fake_note("%s", device->name);
    if (device->inside != NULL) {
        device->inside(device);
    }
    return device->answer;
}

static inline int setup(void **state)
{
    (void)state;
    fake_reset();
    a = (struct device_fake){.name = "a", .answer = IRQ_HANDLED};
    b = (struct device_fake){.name = "b", .answer = IRQ_HANDLED};
    c = (struct device_fake){.name = "c", .answer = IRQ_HANDLED};
    memset(&tables, 0, sizeof(tables));
    route_init(&tables);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fake_free_all();
    assert_int_equal(fake_allocations, 0);
    return 0;
}

static inline void take(unsigned irq, struct device_fake *device, unsigned long flags)
{
    assert_int_equal(request_irq(irq, handler, flags, device->name, device), 0);
}

static inline unsigned vector_of(unsigned irq)
{
    return irq_to_desc(irq)->data.vector;
}

#define expect_journal(text) assert_string_equal(fake_journal(), text)

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
