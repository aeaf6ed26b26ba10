// VGA text, mode 3: 80 by 25 cells of two bytes at 0xb8000, a character and its colours. The cells
// are what vt.c keeps, so showing one is a store.
//
// Is there one? The cursor's position in the CRT controller keeps what is written to it; and the
// graphics controller says whether the adapter shows text at 0xb8000 at the moment. Firmware that
// runs in graphics (UEFI) leaves it in another mode.
//
// IBM VGA: CRTC index 0x0e/0x0f cursor location, 0x0a cursor start; graphics controller
// index 6 miscellaneous. Context: as screen.c.
#include <core/io.h>
#include <core/resource.h>
#include <mm/map.h>
#include "screen_ops.h"

enum vga_port { VGA_GRAPHICS = 0x3ce, VGA_CRTC = 0x3d4 }; // index; data one above
enum { VGA_CRTC_CURSOR_START = 0x0a, VGA_CRTC_CURSOR_LOW = 0x0f, VGA_GRAPHICS_MISC = 6 };
enum { TEXT_COLUMNS = 80, TEXT_ROWS = 25, TEXT_BASE = 0xb8000 };

#define VGA_MISC_GRAPHICS 0x01u
#define VGA_MISC_MAP      0x0cu // both set: memory at 0xb8000
#define VGA_CURSOR_OFF    0x20u

static volatile void __iomem *text_memory;

static uint8_t text_rd(uint16_t port, uint8_t index)
{
    outb(index, port);
    return inb((uint16_t)(port + 1));
}

static void text_wr(uint16_t port, uint8_t index, uint8_t value)
{
    outb(index, port);
    outb(value, (uint16_t)(port + 1));
}

static bool text_answers(void)
{
    uint8_t was = text_rd(VGA_CRTC, VGA_CRTC_CURSOR_LOW);
    text_wr(VGA_CRTC, VGA_CRTC_CURSOR_LOW, 0x5a);
    bool kept = text_rd(VGA_CRTC, VGA_CRTC_CURSOR_LOW) == 0x5a;
    text_wr(VGA_CRTC, VGA_CRTC_CURSOR_LOW, was);
    uint8_t misc = text_rd(VGA_GRAPHICS, VGA_GRAPHICS_MISC);
    return kept && !(misc & VGA_MISC_GRAPHICS) && (misc & VGA_MISC_MAP) == VGA_MISC_MAP;
}

static bool text_probe(const struct boot_framebuffer *fb, unsigned *columns, unsigned *rows)
{
    (void)fb; // kind 2 says text as well, and says it at the same address
    if (!text_answers()) {
        return false;
    }
    text_memory = ioremap(TEXT_BASE, TEXT_COLUMNS * TEXT_ROWS * 2);
    if (!text_memory) {
        return false;
    }
    text_wr(VGA_CRTC, VGA_CRTC_CURSOR_START, VGA_CURSOR_OFF); // screen.c draws its own
    resource_add(RESOURCE_PORTS, VGA_GRAPHICS, VGA_GRAPHICS + 1, "vga");
    resource_add(RESOURCE_PORTS, VGA_CRTC, VGA_CRTC + 1, "vga");
    *columns = TEXT_COLUMNS;
    *rows = TEXT_ROWS;
    return true;
}

static void text_draw(unsigned column, unsigned row, uint16_t cell)
{
    writew(cell, (volatile char __iomem *)text_memory + (row * TEXT_COLUMNS + column) * 2);
}

const struct screen_ops screen_vga_text = {
    .name = "VGA text", .probe = text_probe, .draw = text_draw};
