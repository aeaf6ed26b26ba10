// The PS/2 keyboard, behind the i8042 controller that every PC still pretends to have.
//
// Two ports: 0x64 takes commands for the controller and gives its status, 0x60 takes and gives
// data. Bit 0 of the status says that a byte waits for us, bit 1 that the controller has not yet
// taken what we wrote; every wait for either is bounded. The controller cannot be told to keep
// quiet for a moment, so the top half does take the byte, one per interrupt; what it means is for
// the tasklet.
//
//   ps2_interrupt ── byte ──> ring ── ps2_tasklet ── keymap_decode ── tty_receive
//
// IBM PS/2 Hardware Interface Technical Reference, keyboard and auxiliary device controller.
// Skipped: the mouse port, which stays off, and the lights. Context: ps2_init from a thread.
#include <lib/errno.h>
#include <core/clock.h>
#include <core/io.h>
#include <core/log.h>
#include <core/resource.h>
#include <irq/irq.h>
#include <irq/route.h>
#include <defer/tasklet.h>
#include <dev/tty.h>
#include <char/ps2.h>
#include "keymap.h"

enum ps2_port { PS2_DATA = 0x60, PS2_STATUS = 0x64, PS2_COMMAND = 0x64 };

#define PS2_STATUS_OUTPUT 0x01u // a byte waits in PS2_DATA
#define PS2_STATUS_INPUT  0x02u // the controller is still busy with ours
#define PS2_STATUS_MOUSE  0x20u // the byte is from the mouse port

enum ps2_command {
    PS2_READ_CONFIG = 0x20,
    PS2_WRITE_CONFIG = 0x60,
    PS2_DISABLE_MOUSE = 0xa7,
    PS2_SELF_TEST = 0xaa, // answers 0x55
    PS2_DISABLE_KEYBOARD = 0xad,
    PS2_ENABLE_KEYBOARD = 0xae,
};

#define PS2_CONFIG_IRQ1      0x01u
#define PS2_CONFIG_IRQ12     0x02u
#define PS2_CONFIG_NO_CLOCK1 0x10u
#define PS2_CONFIG_TRANSLATE 0x40u // set 2 to set 1

enum { PS2_SELF_TEST_GOOD = 0x55, PS2_WAIT_US = 20000, PS2_FLUSH_MAX = 64, PS2_RING = 64 };

static struct {
    char bytes[PS2_RING];
    uint32_t head; // of the tasklet
    uint32_t tail; // H
    uint32_t lost; // H
    struct tasklet_struct tasklet;
    struct keymap map; // of the tasklet
} ps2;

static irqreturn_t ps2_interrupt(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    uint8_t status = inb(PS2_STATUS);
    if (!(status & PS2_STATUS_OUTPUT)) {
        return IRQ_NONE;
    }
    uint8_t byte = inb(PS2_DATA);
    if (status & PS2_STATUS_MOUSE) {
        return IRQ_HANDLED;
    }
    if (ps2.tail - __atomic_load_n(&ps2.head, __ATOMIC_ACQUIRE) == PS2_RING) {
        ps2.lost++;
        return IRQ_HANDLED;
    }
    ps2.bytes[ps2.tail % PS2_RING] = (char)byte;
    __atomic_store_n(&ps2.tail, ps2.tail + 1, __ATOMIC_RELEASE);
    tasklet_schedule(&ps2.tasklet);
    return IRQ_HANDLED;
}

// At most what the ring holds when it begins: what comes meanwhile schedules it again.
static void ps2_tasklet(struct tasklet_struct *t)
{
    (void)t;
    uint32_t tail = __atomic_load_n(&ps2.tail, __ATOMIC_ACQUIRE);
    while (ps2.head != tail) {
        char typed[KEYMAP_MAX_BYTES];
        uint8_t code = (uint8_t)ps2.bytes[ps2.head % PS2_RING];
        __atomic_store_n(&ps2.head, ps2.head + 1, __ATOMIC_RELEASE);
        size_t length = keymap_decode(&ps2.map, code, typed);
        if (length != 0) {
            tty_receive(typed, length);
        }
    }
}

static bool ps2_wait_writable(void)
{
    return wait_until(!(inb(PS2_STATUS) & PS2_STATUS_INPUT), PS2_WAIT_US);
}

static int ps2_command(uint8_t command)
{
    if (!ps2_wait_writable()) {
        return -ETIMEDOUT;
    }
    outb(command, PS2_COMMAND);
    return 0;
}

static int ps2_read(void)
{
    return wait_until(inb(PS2_STATUS) & PS2_STATUS_OUTPUT, PS2_WAIT_US) ? inb(PS2_DATA)
                                                                        : -ETIMEDOUT;
}

static int ps2_write_config(uint8_t config)
{
    int error = ps2_command(PS2_WRITE_CONFIG);
    if (error == 0 && ps2_wait_writable()) {
        outb(config, PS2_DATA);
        return 0;
    }
    return -ETIMEDOUT;
}

static void ps2_flush(void)
{
    for (int i = 0; i < PS2_FLUSH_MAX && (inb(PS2_STATUS) & PS2_STATUS_OUTPUT); i++) {
        (void)inb(PS2_DATA);
    }
}

// Both ports off, controller tested, keyboard on, translating and with its interrupt. 0 or -errno;
// *config is what it says afterwards.
static int ps2_setup(uint8_t *config)
{
    if (inb(PS2_STATUS) == 0xff) {
        return -ENODEV; // nobody drives the bus
    }
    if (ps2_command(PS2_DISABLE_KEYBOARD) != 0 || ps2_command(PS2_DISABLE_MOUSE) != 0) {
        return -ETIMEDOUT;
    }
    ps2_flush();
    if (ps2_command(PS2_SELF_TEST) != 0 || ps2_read() != PS2_SELF_TEST_GOOD) {
        return -EIO;
    }
    int was = ps2_command(PS2_READ_CONFIG) == 0 ? ps2_read() : -ETIMEDOUT;
    if (was < 0) {
        return was;
    }
    uint8_t wanted = (uint8_t)((was & ~(PS2_CONFIG_IRQ12 | PS2_CONFIG_NO_CLOCK1)) |
                               PS2_CONFIG_IRQ1 | PS2_CONFIG_TRANSLATE);
    if (ps2_write_config(wanted) != 0 || ps2_command(PS2_READ_CONFIG) != 0) {
        return -ETIMEDOUT;
    }
    int now = ps2_read();
    *config = (uint8_t)max(now, 0);
    return now < 0 ? now : 0;
}

void ps2_init(void)
{
    uint8_t config = 0;
    int error = ps2_setup(&config);
    if (error != 0) {
        pr_info("i8042: no keyboard controller (%s), the console is the serial line",
                error == -ENODEV ? "nothing there" : "it does not answer");
        return;
    }
    ps2.map.set2 = !(config & PS2_CONFIG_TRANSLATE);
    tasklet_setup(&ps2.tasklet, ps2_tasklet, "i8042");
    resource_add(RESOURCE_PORTS, PS2_DATA, PS2_DATA, "keyboard");
    resource_add(RESOURCE_PORTS, PS2_STATUS, PS2_STATUS, "keyboard");
    int irq = route_isa(1);
    error = irq < 0 ? irq : request_irq((unsigned)irq, ps2_interrupt, 0, "i8042", &ps2);
    if (error != 0) {
        pr_warn("i8042: no interrupt for the keyboard, it stays off");
        return;
    }
    if (ps2_command(PS2_ENABLE_KEYBOARD) != 0) {
        pr_warn("i8042: the keyboard cannot be enabled");
        free_irq((unsigned)irq, &ps2);
        return;
    }
    pr_info("i8042: keyboard on irq %d, scan codes of set %d", irq, ps2.map.set2 ? 2 : 1);
}
