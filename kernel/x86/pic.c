// The two 8259s: every PC still has them, and this kernel has no use for them. They cannot be
// removed, so they are moved and silenced: moved, because their power-on vectors 8 to 15 are
// exceptions (a stray timer tick would look like a double fault); silenced, because the IO-APIC
// gets the same wires.
//
//   IRQ 0..7  -> 8259 A -> vectors 0x20..0x27      7: also "I forgot why I called" (spurious)
//   IRQ 8..15 -> 8259 B -> vectors 0x28..0x2f     15: likewise
//                   `-> input 2 of A
//
// A masked 8259 can still raise a spurious 7 or 15: a wire that falls between INTR and the CPU's
// acknowledge cycle. So strays have a home, and pic_stray() tells a real one by the in-service
// register.
//
// Intel 8259A data sheet (231468-003). Context: pic_disable at boot; pic_stray in hard irq.
#include <core/io.h>
#include <core/resource.h>
#include <x86/pic.h>

enum {
    PIC_A = 0x20, // command; data is the next port
    PIC_B = 0xa0,
    PIC_DATA = 1,

    PIC_ICW1 = 0x11, // start initialisation, ICW4 follows; edge, cascaded
    PIC_ICW4 = 0x01, // 8086 mode, normal EOI
    PIC_CASCADE_LINE = 2,
    PIC_READ_ISR = 0x0b,     // OCW3
    PIC_EOI_SPECIFIC = 0x60, // OCW2, plus the line
    PIC_FIRST_VECTOR = 0x20,
};

// The data sheet wants time between initialisation words; a write to an unused port takes about a
// microsecond on a real bus.
static void pic_write(uint16_t port, uint8_t value)
{
    outb(value, port);
    outb(0, 0x80);
}

void pic_disable(void)
{
    resource_add(RESOURCE_PORTS, PIC_A, PIC_A + 1, "pic1");
    resource_add(RESOURCE_PORTS, PIC_B, PIC_B + 1, "pic2");

    pic_write(PIC_A, PIC_ICW1);
    pic_write(PIC_B, PIC_ICW1);
    pic_write(PIC_A + PIC_DATA, PIC_FIRST_VECTOR);
    pic_write(PIC_B + PIC_DATA, PIC_FIRST_VECTOR + 8);
    pic_write(PIC_A + PIC_DATA, 1 << PIC_CASCADE_LINE);
    pic_write(PIC_B + PIC_DATA, PIC_CASCADE_LINE);
    pic_write(PIC_A + PIC_DATA, PIC_ICW4);
    pic_write(PIC_B + PIC_DATA, PIC_ICW4);
    pic_write(PIC_A + PIC_DATA, 0xff);
    pic_write(PIC_B + PIC_DATA, 0xff);
}

static bool pic_in_service(uint16_t pic, unsigned line)
{
    outb(PIC_READ_ISR, pic);
    return (inb(pic) & 1u << line) != 0;
}

bool pic_stray(unsigned line)
{
    bool second = line >= 8;
    uint16_t pic = second ? PIC_B : PIC_A;
    line &= 7;
    bool real = pic_in_service(pic, line);
    if (real) {
        outb((uint8_t)(PIC_EOI_SPECIFIC | line), pic);
    }
    // A spurious 15 is known to the second chip only: the first took the cascade's request for real
    // and waits for its end.
    if (second && pic_in_service(PIC_A, PIC_CASCADE_LINE)) {
        outb(PIC_EOI_SPECIFIC | PIC_CASCADE_LINE, PIC_A);
    }
    return real;
}
