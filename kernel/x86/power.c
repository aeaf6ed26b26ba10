// The ends of the machine: soft off and reset, by the ways that the firmware's tables name, then by
// the old ones.
//
// ACPI 6.4, 4.8.3.2 (PM1 control), 4.8.3.6 (reset register), 16.3.4 (entering S5). Context: thread
// or panic; polls, never sleeps.
#include <core/clock.h>
#include <core/cpu.h>
#include <core/io.h>
#include <core/log.h>
#include <x86/acpi.h>

#include "acpi_regs.h"

enum {
    ACPI_ENABLE_TIMEOUT_US =
        300 * 1000, // firmware does this in SMM; 300 ms is what others grant it
    POWER_TIMEOUT_US = 100 * 1000,
    RESET_TIMEOUT_US = 50 * 1000,

    PORT_8042_COMMAND = 0x64,
    PORT_8042_INPUT_FULL = 0x02,
    COMMAND_8042_RESET = 0xfe,  // pulse the processor's reset line
    PORT_RESET_CONTROL = 0xcf9, // ICH9 data sheet, 13.7.5: bit 1 kind, bit 2 do it
};

// Hands the power registers from the firmware to us. True when they are ours.
static bool acpi_enable(void)
{
    uint16_t control = (uint16_t)acpi.pm1a_control;
    if (inw(control) & PM1_SCI_ENABLE) {
        return true;
    }
    if (acpi.smi_command == 0 || acpi.acpi_enable == 0) {
        return true; // 4.8.2.5: no SMI command port means that ACPI is always on
    }
    outb(acpi.acpi_enable, (uint16_t)acpi.smi_command);
    return wait_until(inw(control) & PM1_SCI_ENABLE, ACPI_ENABLE_TIMEOUT_US);
}

static void acpi_sleep_now(uint32_t port, uint8_t type)
{
    uint16_t keep = (uint16_t)(inw((uint16_t)port) & ~(PM1_SLP_TYP_MASK | PM1_SLP_ENABLE));
    outw((uint16_t)(keep | PM1_SLP_TYP(type) | PM1_SLP_ENABLE), (uint16_t)port);
}

void acpi_poweroff(void)
{
    if (!acpi.has_s5 || acpi.pm1a_control == 0) {
        pr_err("power: %s: switch the machine off by hand",
               acpi.has_s5 ? "no PM1 control port in the FADT" : "no _S5_ values in the DSDT");
        return;
    }
    if (!acpi_enable()) {
        pr_warn("power: the firmware does not hand ACPI over, trying all the same");
    }
    acpi_sleep_now(acpi.pm1a_control, acpi.s5_type_a);
    if (acpi.pm1b_control != 0) {
        acpi_sleep_now(acpi.pm1b_control, acpi.s5_type_b);
    }
    wait_until(false, POWER_TIMEOUT_US);
    pr_err("power: the machine ignored S5: switch it off by hand");
}

// Loads an empty interrupt table and raises an exception: with no handler for it, none for the
// double fault that follows and none for that one's, the CPU shuts down and the board resets it
// (Intel SDM vol. 3, 6.15, interrupt 8).
static void power_triple_fault(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed nothing = {0, 0};
    __asm__ volatile("lidt %0; ud2" ::"m"(nothing));
}

void acpi_reboot(void)
{
    local_irq_disable();
    // A reset register in memory would have to be mapped, and reset is also how a panic ends, when
    // nothing can be: the next ways serve.
    if (acpi.has_reset && acpi.reset_space == GAS_SPACE_PORTS) {
        outb(acpi.reset_value, (uint16_t)acpi.reset_address);
        wait_until(false, RESET_TIMEOUT_US);
    }
    outb(0x02, PORT_RESET_CONTROL); // a full reset
    outb(0x06, PORT_RESET_CONTROL); // now
    wait_until(false, RESET_TIMEOUT_US);

    if (wait_until((inb(PORT_8042_COMMAND) & PORT_8042_INPUT_FULL) == 0, RESET_TIMEOUT_US)) {
        outb(COMMAND_8042_RESET, PORT_8042_COMMAND);
        wait_until(false, RESET_TIMEOUT_US);
    }
    pr_warn("power: no reset register obeys, a triple fault will");
    power_triple_fault();
}
