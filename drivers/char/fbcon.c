// The framebuffer that the boot loader set up: characters drawn as pixels.
//
//   cell (column, row)  ->  pixels [column * 8, +8) x [row * 16, +16)
//   pixel (x, y)        ->  bytes base + y * pitch + x * bytes a pixel
//
// Everything about it comes from outside and is checked before the first pixel: depth, that a row
// fits its pitch, that the whole is not absurdly large. Multiboot2 3.6.12 (framebuffer info).
// Context: as screen.c.
#include <core/io.h>
#include <core/log.h>
#include <core/resource.h>
#include <mm/map.h>
#include "font.h"
#include "screen_ops.h"

enum { FB_MIN_WIDTH = 160, FB_MAX_WIDTH = 8192, FB_MIN_HEIGHT = 64, FB_MAX_HEIGHT = 8192 };
#define FB_MAX_BYTES (256u << 20)

static struct {
    volatile char __iomem *base;
    uint32_t pitch_bytes, pixel_bytes;
    uint32_t colours[16]; // VGA's, as pixels
} fb;

// One of eight bits a colour to as many bits as the framebuffer has, where it has them.
static uint32_t fb_channel(uint32_t value, uint8_t shift, uint8_t bits)
{
    return bits == 0 || bits > 8 || shift > 31 ? 0 : value >> (8 - bits) << shift;
}

static void fb_make_colours(const struct boot_framebuffer *info)
{
    for (unsigned i = 0; i < 16; i++) {
        uint32_t on = i & 8 ? 0xff : 0xaa, off = i & 8 ? 0x55 : 0x00;
        uint32_t red = i & 4 ? on : off, green = i & 2 ? on : off, blue = i & 1 ? on : off;
        fb.colours[i] = fb_channel(red, info->red_shift, info->red_bits) |
                        fb_channel(green, info->green_shift, info->green_bits) |
                        fb_channel(blue, info->blue_shift, info->blue_bits);
    }
}

static bool fb_is_sane(const struct boot_framebuffer *info)
{
    uint32_t pixel_bytes = (info->bits_per_pixel + 7u) / 8;
    return info->kind == 1 && info->base != 0 && pixel_bytes >= 2 && pixel_bytes <= 4 &&
           info->width >= FB_MIN_WIDTH && info->width <= FB_MAX_WIDTH &&
           info->height >= FB_MIN_HEIGHT && info->height <= FB_MAX_HEIGHT &&
           info->pitch_bytes >= info->width * pixel_bytes &&
           (uint64_t)info->pitch_bytes * info->height <= FB_MAX_BYTES;
}

static bool fb_probe(const struct boot_framebuffer *info, unsigned *columns, unsigned *rows)
{
    if (info->kind != 1) {
        return false;
    }
    if (!fb_is_sane(info)) {
        pr_warn("fbcon: the boot loader's framebuffer makes no sense (%ux%u, %u bits, pitch %u), "
                "it is not used",
                info->width, info->height, info->bits_per_pixel, info->pitch_bytes);
        return false;
    }
    fb.pitch_bytes = info->pitch_bytes;
    fb.pixel_bytes = (info->bits_per_pixel + 7u) / 8;
    size_t size = (size_t)fb.pitch_bytes * info->height;
    fb.base = ioremap_wc(info->base, size);
    if (!fb.base) {
        pr_warn("fbcon: the framebuffer cannot be mapped");
        return false;
    }
    fb_make_colours(info);
    resource_add(RESOURCE_MEMORY, info->base, info->base + size - 1, "fbcon");
    *columns = info->width / FONT_WIDTH;
    *rows = info->height / FONT_HEIGHT;
    return true;
}

static void fb_pixel(volatile char __iomem *at, uint32_t colour)
{
    if (fb.pixel_bytes == 4) {
        writel(colour, at);
        return;
    }
    writew((uint16_t)colour, at);
    if (fb.pixel_bytes == 3) {
        writeb((uint8_t)(colour >> 16), at + 2);
    }
}

static void fb_draw(unsigned column, unsigned row, uint16_t cell)
{
    uint32_t ink = fb.colours[cell >> 8 & 15], paper = fb.colours[cell >> 12 & 7];
    for (unsigned y = 0; y < FONT_HEIGHT; y++) {
        uint8_t pixels = font_row((unsigned char)cell, y);
        volatile char __iomem *at = fb.base + (size_t)(row * FONT_HEIGHT + y) * fb.pitch_bytes +
                                    (size_t)column * FONT_WIDTH * fb.pixel_bytes;
        for (unsigned x = 0; x < FONT_WIDTH; x++, at += fb.pixel_bytes) {
            fb_pixel(at, pixels & (0x80u >> x) ? ink : paper);
        }
    }
}

const struct screen_ops screen_fbcon = {.name = "framebuffer", .probe = fb_probe, .draw = fb_draw};
