// Any bytes as a multiboot2 information structure: no byte beyond them is read, and what arrives
// keeps its bounds.
//
// links: boot/multiboot2.c boot/boot_info.c

#include "fuzz_boot.h"

static void check_framebuffer(const struct boot_framebuffer *fb)
{
    if (fb->kind == 0) {
        return;
    }
    MUST(fb->base != 0 && fb->width != 0 && fb->height != 0);
    MUST(fb->kind == 1 || fb->kind == 2);
    uint64_t cell = fb->kind == 2 ? 2 : (fb->bits_per_pixel + 7u) / 8;
    MUST(fb->width * cell <= fb->pitch_bytes);
    MUST(fb->base + (uint64_t)fb->pitch_bytes * fb->height > fb->base);
    MUST(fb->red_shift + fb->red_bits <= 32 && fb->green_shift + fb->green_bits <= 32 &&
         fb->blue_shift + fb->blue_bits <= 32);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info boot;

    memset(&boot, 0, sizeof(boot));
    multiboot2_read(data, size, &boot);

    must_be_boot_info(&boot);
    MUST(boot.rsdp_copy_size == 0 || boot.rsdp_copy_size == 20 || boot.rsdp_copy_size == 36);
    check_framebuffer(&boot.framebuffer);
    return 0;
}
