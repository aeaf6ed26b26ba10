// Any bytes as a multiboot2 information structure: no byte beyond them is read, and what arrives
// keeps its bounds.
//
// links: boot/multiboot2.c boot/boot_info.c
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_framebuffer(const struct boot_framebuffer *fb)
{
    if (fb->kind == 0) {
        return;
    }
    must(fb->base != 0 && fb->width != 0 && fb->height != 0);
    must(fb->kind == 1 || fb->kind == 2);
    uint64_t cell = fb->kind == 2 ? 2 : (fb->bits_per_pixel + 7u) / 8;
    must(fb->width * cell <= fb->pitch_bytes);
    must(fb->base + (uint64_t)fb->pitch_bytes * fb->height > fb->base);
    must(fb->red_shift + fb->red_bits <= 32 && fb->green_shift + fb->green_bits <= 32 &&
         fb->blue_shift + fb->blue_bits <= 32);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info boot;

    memset(&boot, 0, sizeof(boot));
    multiboot2_read(data, size, &boot);

    must(boot.note_count <= BOOT_MAX_NOTES && boot.region_count <= BOOT_MAX_REGIONS &&
         boot.module_count <= BOOT_MAX_MODULES);
    must(strnlen(boot.cmdline, sizeof(boot.cmdline)) < sizeof(boot.cmdline));
    must(strnlen(boot.loader, sizeof(boot.loader)) < sizeof(boot.loader));
    for (uint32_t n = 0; n < boot.note_count; n++) {
        must(boot.notes[n] != NULL);
    }
    for (uint32_t n = 0; n < boot.region_count; n++) {
        const struct boot_region *r = &boot.regions[n];
        must(r->size != 0 && r->base + r->size >= r->base && r->type >= BOOT_REGION_RAM &&
             r->type <= BOOT_REGION_BAD);
    }
    for (uint32_t n = 0; n < boot.module_count; n++) {
        const struct boot_module *m = &boot.modules[n];
        must(m->size != 0 && strnlen(m->name, sizeof(m->name)) < sizeof(m->name));
    }
    must(boot.rsdp_copy_size == 0 || boot.rsdp_copy_size == 20 || boot.rsdp_copy_size == 36);
    check_framebuffer(&boot.framebuffer);
    return 0;
}
