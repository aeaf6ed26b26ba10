// The serial ports: a 16550 driven by its interrupt in both directions.
//
// The chip has two FIFOs of 16 bytes and raises its line when the receiver has something or the
// transmitter has run dry. The top half does what a top half may: it sees that the interrupt is the
// chip's, forbids the chip further ones (IER = 0) and schedules a tasklet. The tasklet moves the
// bytes, a bounded number each time, and allows interrupts again when it is done:
//
//   uart_interrupt ── IER = 0 ──> uart_tasklet ──> uart_receive ──> tty_receive
//                                       └────────> uart_transmit <── ring <── uart_put <── tty_write
//
// Between IER = 0 and its restoration nothing is lost: the chip keeps its causes, and writing IER
// raises the line anew when one of them holds, which is the edge that the IO-APIC waits for.
//
//   ring: tx[head, tail) waits for the chip; a writer appends at tail, the tasklet takes at head
//
// What may go wrong is expected here. No chip: the scratch register does not keep what is written.
// An interrupt that never comes, or a chip that says "pending" for ever: a timer drives the port in
// its place, said in one line. A transmitter that takes nothing: writers wait a bounded time, then
// their text is dropped and counted, until the port moves again.
//
// PC16550D: 8.2 to 8.9 registers, 8.10 FIFO operation. Context: uart_write and the console's output
// from threads, the rest as said.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/io.h>
#include <core/log.h>
#include <core/resource.h>
#include <core/spinlock.h>
#include <irq/irq.h>
#include <irq/route.h>
#include <sched/sleep.h>
#include <sched/wait.h>
#include <defer/tasklet.h>
#include <defer/timer.h>
#include <dev/tty.h>
#include <char/uart.h>
#include "uart_regs.h"

enum {
    UART_BAUD = 115200,
    UART_RING = 4096, // bytes that wait for the transmitter; a power of two
    UART_BUDGET = 64, // bytes that one run of the tasklet takes from the receiver
    // At LSR before a polled byte is given up: 2 s at a microsecond each. A chip needs 1.4 ms for a
    // full FIFO; who reads a virtual one, on a busy host, may need a hundred times that.
    UART_LOOKS = 2000000,
    UART_STALL_MS = 1000,       // a writer waits so long for the first free byte
    UART_STALLS = 5,            // so often, before the port is called stuck
    UART_IDLE_INTERRUPTS = 500, // in a row that found nothing to do: the chip's IIR lies
    UART_LOST_MAX = 3,          // lost transmit interrupts in a row: there are none
    UART_WATCH_MS = 100,        // between two looks whether the interrupt comes
    UART_TIMER_MS = 10,         // between two polls, where it does not
};

struct uart {
    const char *name;
    uint16_t base;    // I: first port
    uint8_t isa_line; // I
    bool present;     // I
    bool running;     // I: uart_init has come to it
    unsigned fifo;    // I: depth, 1 without
    int irq;          // I: -1: driven by the timer

    struct spinlock lock;
    char ring[UART_RING];  // L
    uint32_t watched_head; // L: head when the timer looked last
    uint32_t head, tail;   // L: free-running; tail - head bytes wait
    uint8_t ier;           // L: what the chip may interrupt for, when the tasklet does not run
    bool by_timer;         // L: interrupts failed us
    uint32_t lost;         // A: transmit interrupts in a row that did not come
    uint32_t idle;         // C of the tasklet: runs in a row without anything to do
    bool stuck;            // A: the transmitter takes nothing; writers don't wait

    struct wait_queue_head room;
    struct tasklet_struct tasklet;
    struct timer_list timer;
    struct tty_output output;

    uint64_t tx, rx;  // L; rx of the tasklet
    uint64_t dropped; // A: written here; the console has its own count
    uint32_t overruns, parity, framing, breaks, spurious; // of the tasklet; spurious H
};

static struct uart uarts[UART_COUNT] = {
    {.name = "ttyS0", .base = 0x3f8, .isa_line = 4, .irq = -1, .lock = SPINLOCK_INIT("ttyS0")},
    {.name = "ttyS1", .base = 0x2f8, .isa_line = 3, .irq = -1, .lock = SPINLOCK_INIT("ttyS1")},
};

static uint8_t uart_rd(const struct uart *u, enum uart_reg reg)
{
    return inb((uint16_t)(u->base + reg));
}

static void uart_wr(const struct uart *u, enum uart_reg reg, uint8_t value)
{
    outb(value, (uint16_t)(u->base + reg));
}

// ---- finding and setting up ---------------------------------------------------------------------

// The scratch register keeps a byte and does nothing else: nobody there reads back as ones.
static bool uart_probe(struct uart *u)
{
    uart_wr(u, UART_SCR, 0x5a);
    uint8_t first = uart_rd(u, UART_SCR);
    uart_wr(u, UART_SCR, 0xa5);
    return first == 0x5a && uart_rd(u, UART_SCR) == 0xa5;
}

// 115200 8N1 with FIFOs. What firmware or the boot loader still has in the transmitter is let out
// first.
static void uart_setup(struct uart *u)
{
    uart_wr(u, UART_LCR, UART_LCR_8N1); // DLAB off, or IER would be a divisor
    uart_wr(u, UART_IER, 0);
    for (int look = 0; look < UART_LOOKS && !(uart_rd(u, UART_LSR) & UART_LSR_TEMT); look++) {
    }
    uint16_t divisor = UART_CLOCK_HZ / 16 / UART_BAUD;
    uart_wr(u, UART_LCR, UART_LCR_8N1 | UART_LCR_DLAB);
    uart_wr(u, UART_DLL, (uint8_t)divisor);
    uart_wr(u, UART_DLM, (uint8_t)(divisor >> 8));
    uart_wr(u, UART_LCR, UART_LCR_8N1);
    uart_wr(u, UART_FCR,
            UART_FCR_ENABLE | UART_FCR_CLEAR_RX | UART_FCR_CLEAR_TX | UART_FCR_TRIGGER_8);
    u->fifo = (uart_rd(u, UART_IIR) & UART_IIR_FIFO) == UART_IIR_FIFO ? UART_FIFO_DEPTH : 1;
    uart_wr(u, UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
    (void)uart_rd(u, UART_LSR); // clears what the set-up left behind
    (void)uart_rd(u, UART_MSR);
}

void uart_early_init(void)
{
    for (unsigned port = 0; port < UART_COUNT; port++) {
        struct uart *u = &uarts[port];
        u->present = uart_probe(u);
        if (u->present) {
            uart_setup(u);
        }
    }
}

// ---- polled output: before interrupts, and in a panic -------------------------------------------

static void uart_poll_byte(struct uart *u, char byte)
{
    // A port that took nothing once is looked at once only from then on: a panic must end.
    int looks = READ_ONCE(u->stuck) ? 1 : UART_LOOKS;
    while (!(uart_rd(u, UART_LSR) & UART_LSR_THRE)) {
        if (--looks == 0) {
            WRITE_ONCE(u->stuck, true);
            u->dropped++;
            return;
        }
        cpu_relax();
    }
    WRITE_ONCE(u->stuck, false);
    uart_wr(u, UART_THR, (uint8_t)byte);
    u->tx++;
}

// What still waits in the ring goes first. The lock is taken if it is free: in a panic its holder
// may have been stopped for good.
static void uart_poll_write(struct uart *u, const char *data, size_t size)
{
    unsigned long flags = local_irq_save();
    bool locked = spin_trylock(&u->lock);
    while (u->head != u->tail) {
        uart_poll_byte(u, u->ring[u->head++ % UART_RING]);
    }
    for (size_t i = 0; i < size; i++) {
        uart_poll_byte(u, data[i]);
    }
    if (locked) {
        spin_unlock(&u->lock);
    }
    local_irq_restore(flags);
}

void uart_write_polled(const char *data, size_t size)
{
    struct uart *u = &uarts[UART_COM1];
    if (!u->present) {
        return;
    }
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(data + at, '\n', size - at);
        size_t length = newline ? (size_t)(newline - (data + at)) : size - at;
        uart_poll_write(u, data + at, length);
        at += length;
        if (newline) {
            uart_poll_write(u, "\r\n", 2);
            at++;
        }
    }
}

// ---- the interrupt and its tasklet --------------------------------------------------------------

static irqreturn_t uart_interrupt(int irq, void *dev_id)
{
    (void)irq;
    struct uart *u = dev_id;
    if (uart_rd(u, UART_IIR) & UART_IIR_NONE) {
        u->spurious++; // an edge that was latched while the tasklet already took its cause away
        return IRQ_NONE;
    }
    uart_wr(u, UART_IER, 0);
    WRITE_ONCE(u->lost, 0);
    tasklet_schedule(&u->tasklet);
    return IRQ_HANDLED;
}

static void uart_count_errors(struct uart *u, uint8_t lsr)
{
    if (lsr & UART_LSR_OE) {
        u->overruns++;
        pr_ratelimited(LOG_WARNING, "%s: receiver overrun, input was lost (%u so far)", u->name,
                       u->overruns);
    }
    u->parity += (lsr & UART_LSR_PE) != 0;
    u->framing += (lsr & UART_LSR_FE) != 0;
    u->breaks += (lsr & UART_LSR_BI) != 0;
}

// Empties the receiver, at most UART_BUDGET bytes. Bytes with a parity or framing error and breaks
// are counted, not passed on.
static unsigned uart_receive(struct uart *u)
{
    char bytes[UART_BUDGET];
    unsigned looks = 0, count = 0;
    for (; looks < UART_BUDGET; looks++) {
        uint8_t lsr = uart_rd(u, UART_LSR);
        if (!(lsr & UART_LSR_DR) || lsr == 0xff) { // all ones: nobody there any more
            break;
        }
        uint8_t byte = uart_rd(u, UART_RBR);
        uart_count_errors(u, lsr);
        if (!(lsr & (UART_LSR_PE | UART_LSR_FE | UART_LSR_BI))) {
            bytes[count++] = (char)byte;
        }
    }
    if (count != 0) {
        u->rx += count;
        if (u == &uarts[UART_COM1]) {
            tty_receive(bytes, count);
        }
    }
    return looks;
}

// Fills the empty transmit FIFO from the ring. Called under the lock.
static unsigned uart_transmit_locked(struct uart *u)
{
    if (u->head == u->tail || !(uart_rd(u, UART_LSR) & UART_LSR_THRE)) {
        return 0;
    }
    unsigned count = min(u->fifo, u->tail - u->head);
    for (unsigned i = 0; i < count; i++) {
        uart_wr(u, UART_THR, (uint8_t)u->ring[u->head++ % UART_RING]);
    }
    u->tx += count;
    return count;
}

// The chip says "pending" again and again, and there is nothing. Reading the other two status
// registers clears every cause there is; when even that does not help, the line would storm: it
// stays quiet from now on.
static void uart_check_idle(struct uart *u, unsigned moved)
{
    if (moved != 0) {
        u->idle = 0;
        return;
    }
    (void)uart_rd(u, UART_MSR);
    (void)uart_rd(u, UART_IIR);
    if (++u->idle == UART_IDLE_INTERRUPTS && !u->by_timer) {
        u->by_timer = true;
        mod_timer(&u->timer, jiffies + msecs_to_jiffies(UART_TIMER_MS));
        pr_warn("%s: interrupts without a cause, the port is polled from now on", u->name);
    }
}

static void uart_tasklet(struct tasklet_struct *t)
{
    struct uart *u = container_of(t, struct uart, tasklet);
    unsigned received = uart_receive(u);

    unsigned long flags;
    spin_lock_irqsave(&u->lock, flags);
    unsigned sent = uart_transmit_locked(u);
    uart_check_idle(u, received + sent);
    u->ier = UART_IER_RDI | UART_IER_RLSI | (u->head != u->tail ? UART_IER_THRI : 0);
    bool again = received == UART_BUDGET;
    if (!again && !u->by_timer) {
        uart_wr(u, UART_IER, u->ier); // raises the line at once when something came meanwhile
    }
    spin_unlock_irqrestore(&u->lock, flags);

    if (sent != 0) {
        WRITE_ONCE(u->stuck, false);
        wake_up_all(&u->room);
    }
    if (again) {
        tasklet_schedule(t); // let the others have their turn
    }
}

// Called under the lock: does something wait that the transmitter could have taken since the last
// look? Then nobody told us.
static bool uart_interrupt_lost_locked(struct uart *u)
{
    bool lost =
        u->head != u->tail && u->head == u->watched_head && (uart_rd(u, UART_LSR) & UART_LSR_THRE);
    u->watched_head = u->head;
    return lost;
}

// While something waits to be sent it watches that the interrupt comes. A single one that is lost
// is made good by a run of the tasklet; when none comes at all, the timer takes its place.
static void uart_timer(struct timer_list *timer)
{
    struct uart *u = container_of(timer, struct uart, timer);
    unsigned long flags;
    spin_lock_irqsave(&u->lock, flags);
    bool lost = !u->by_timer && uart_interrupt_lost_locked(u);
    bool give_up = lost && ++u->lost == UART_LOST_MAX;
    if (give_up) {
        u->by_timer = true;
        uart_wr(u, UART_IER, 0);
    }
    bool by_timer = u->by_timer, waiting = u->head != u->tail;
    bool doubted = u->lost != 0; // until an interrupt comes; what is received may be stuck as well
    spin_unlock_irqrestore(&u->lock, flags);
    if (give_up) {
        pr_warn("%s: no transmit interrupt comes on irq %d, the port is polled from now on",
                u->name, u->irq);
    }
    if (by_timer || doubted) {
        tasklet_schedule(&u->tasklet);
    }
    if (by_timer || doubted || waiting) {
        mod_timer(timer, jiffies + msecs_to_jiffies(by_timer ? UART_TIMER_MS : UART_WATCH_MS));
    }
}

// ---- output by interrupt ------------------------------------------------------------------------

// Appends what fits and makes sure that the transmitter's interrupt is on its way.
static size_t uart_put(struct uart *u, const char *data, size_t size)
{
    unsigned long flags;
    spin_lock_irqsave(&u->lock, flags);
    size_t count = min(size, (size_t)(UART_RING - (u->tail - u->head)));
    for (size_t i = 0; i < count; i++) {
        u->ring[u->tail++ % UART_RING] = data[i];
    }
    if (count != 0 && !(u->ier & UART_IER_THRI)) {
        u->ier |= UART_IER_THRI;
        if (!u->by_timer) {
            uart_wr(u, UART_IER, u->ier);
        }
    }
    bool watch = count != 0 && !timer_pending(&u->timer);
    u->watched_head = watch ? u->head - 1 : u->watched_head; // at the first look it has moved
    spin_unlock_irqrestore(&u->lock, flags);
    if (watch) {
        mod_timer(&u->timer, jiffies + msecs_to_jiffies(UART_WATCH_MS));
    }
    return count;
}

static uint32_t uart_waiting(struct uart *u)
{
    unsigned long flags;
    spin_lock_irqsave(&u->lock, flags);
    uint32_t waiting = u->tail - u->head;
    spin_unlock_irqrestore(&u->lock, flags);
    return waiting;
}

// Waits until at most `left` bytes wait in the ring. False when nothing has moved for UART_STALLS
// seconds.
static bool uart_wait_drained(struct uart *u, uint32_t left)
{
    for (int stalls = 0; uart_waiting(u) > left; stalls++) {
        if (READ_ONCE(u->stuck) || stalls == UART_STALLS) {
            if (!u->stuck) {
                WRITE_ONCE(u->stuck, true);
                pr_warn("%s: the port takes nothing, output is dropped until it does", u->name);
            }
            return false;
        }
        uint32_t before = uart_waiting(u);
        if (wait_event_timeout(&u->room, uart_waiting(u) <= left, msecs_to_jiffies(UART_STALL_MS)) >
            0) {
            break;
        }
        if (uart_waiting(u) < before) {
            stalls = -1; // slow, but it moves
        }
    }
    return true;
}

static bool uart_wait_room(struct uart *u)
{
    return uart_wait_drained(u, UART_RING * 3 / 4);
}

bool uart_present(enum uart_port port)
{
    return port < UART_COUNT && uarts[port].present;
}

static int uart_write_all(struct uart *u, const char *data, size_t size)
{
    while (size != 0) {
        size_t count = uart_put(u, data, size);
        data += count;
        size -= count;
        if (size != 0 && !uart_wait_room(u)) {
            __atomic_fetch_add(&u->dropped, size, __ATOMIC_RELAXED);
            return -EIO;
        }
    }
    return 0;
}

int uart_write(enum uart_port port, const char *data, size_t size)
{
    if (!uart_present(port) || !uarts[port].running) {
        return -ENODEV;
    }
    struct uart *u = &uarts[port];
    int error = 0;
    for (size_t at = 0; at < size && error == 0;) {
        const char *newline = memchr(data + at, '\n', size - at);
        size_t length = newline ? (size_t)(newline - (data + at)) : size - at;
        error = uart_write_all(u, data + at, length);
        at += length;
        if (newline && error == 0) {
            error = uart_write_all(u, "\r\n", 2);
            at++;
        }
    }
    return error;
}

void uart_flush(enum uart_port port)
{
    if (!uart_present(port) || !uarts[port].running) {
        return;
    }
    struct uart *u = &uarts[port];
    if (uart_wait_drained(u, 0)) {
        for (int tick = 0; tick < 50 && !(uart_rd(u, UART_LSR) & UART_LSR_TEMT); tick++) {
            msleep(1);
        }
    }
}

// ---- as an output of the console ----------------------------------------------------------------

static size_t uart_tty_write(struct tty_output *output, const char *data, size_t size)
{
    return uart_put(container_of(output, struct uart, output), data, size);
}

static bool uart_tty_wait_room(struct tty_output *output)
{
    return uart_wait_room(container_of(output, struct uart, output));
}

static void uart_tty_flush(struct tty_output *output)
{
    (void)output;
    uart_flush(UART_COM1);
}

static void uart_tty_write_polled(struct tty_output *output, const char *data, size_t size)
{
    uart_poll_write(container_of(output, struct uart, output), data, size);
}

static void uart_start(struct uart *u)
{
    init_waitqueue_head(&u->room, u->name);
    tasklet_setup(&u->tasklet, uart_tasklet, u->name);
    timer_setup(&u->timer, uart_timer, 0);
    resource_add(RESOURCE_PORTS, u->base, u->base + 7u, "serial");
    u->irq = route_isa(u->isa_line);
    if (u->irq >= 0 && request_irq((unsigned)u->irq, uart_interrupt, 0, u->name, u) != 0) {
        u->irq = -1;
    }
    u->running = true;
    if (u->irq < 0) {
        u->by_timer = true;
        uart_timer(&u->timer);
    } else {
        tasklet_schedule(&u->tasklet); // takes what has come so far, and allows interrupts
    }
    pr_info("%s at ports 0x%x, irq %d, is a %s%s", u->name, u->base, u->irq,
            u->fifo > 1 ? "16550A" : "8250", u->by_timer ? ", polled" : "");
}

void uart_init(void)
{
    for (unsigned port = 0; port < UART_COUNT; port++) {
        if (uarts[port].present) {
            uart_start(&uarts[port]);
        }
    }
    struct uart *u = &uarts[UART_COM1];
    if (!u->present) {
        pr_notice("ttyS0: no serial port at 0x%x, the console is the screen only", u->base);
        return;
    }
    u->output = (struct tty_output){
        .name = u->name,
        .write = uart_tty_write,
        .wait_room = uart_tty_wait_room,
        .flush = uart_tty_flush,
        .write_polled = uart_tty_write_polled,
    };
    tty_add_output(&u->output);
}

// As Linux prints it, with the counters that are not zero.
static void uart_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, "serinfo:1.0 driver revision:\n");
    for (unsigned port = 0; port < UART_COUNT; port++) {
        const struct uart *u = &uarts[port];
        if (!u->present) {
            text_printf(t, "%u: uart:unknown port:%08X irq:%u\n", port, u->base, u->isa_line);
            continue;
        }
        text_printf(t, "%u: uart:%s port:%08X irq:%d tx:%llu rx:%llu", port,
                    u->fifo > 1 ? "16550A" : "8250", u->base, u->irq, (unsigned long long)u->tx,
                    (unsigned long long)u->rx);
        const struct {
            const char *name;
            uint64_t count;
        } counters[] = {{"fe", u->framing},        {"pe", u->parity},
                        {"brk", u->breaks},        {"oe", u->overruns},
                        {"spurious", u->spurious}, {"dropped", u->dropped + u->output.dropped}};
        for (unsigned i = 0; i < ARRAY_SIZE(counters); i++) {
            if (counters[i].count != 0) {
                text_printf(t, " %s:%llu", counters[i].name, (unsigned long long)counters[i].count);
            }
        }
        text_puts(t, u->by_timer ? " RTS|DTR polled\n" : " RTS|DTR\n");
    }
}

PROC_FILE("tty/driver/serial", uart_show);
