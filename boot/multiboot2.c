// Multiboot2 information, as GRUB leaves it: a size, then tags, each 8-aligned with its own type
// and size.
//
//   +0 total size   +4 reserved   +8 tag   ...   end tag
//              tag: +0 type   +4 size (this header included, padding not)   +8 what the type says
//
// Nothing of it is trusted: each tag must lie inside the whole, each field inside its tag; what
// does not is left out with a note that names the tag, and reading goes on with the next.
// Multiboot2 Specification 2.0, 3.6.
//
// Pure: reads its argument, writes *boot. Tested and fuzzed on the host
// (tests/host/test_multiboot2.c).
#include <lib/string.h>

#include "boot.h"

enum {
    TAG_END = 0,
    TAG_CMDLINE = 1,
    TAG_LOADER = 2,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_FRAMEBUFFER = 8,
    TAG_EFI64 = 12,
    TAG_RSDP_OLD = 14,
    TAG_RSDP_NEW = 15,
};

enum {
    TAG_HEADER = 8,
    MAP_HEADER = 16,    // header, entry size, entry version
    MAP_ENTRY_MIN = 20, // base, length, type; the reserved word behind may be missing
    MODULE_HEADER = 16, // header, start, end
    FRAMEBUFFER_MIN = 31,
    FRAMEBUFFER_RGB_MIN = 38,
    RSDP_OLD_SIZE = 20, // ACPI 6.4, 5.2.5.3
    RSDP_NEW_SIZE = 36,
};

static void read_memory_map(const uint8_t *tag, uint32_t size, struct boot_info *boot)
{
    uint32_t entry_size = size >= MAP_HEADER ? get_le32(tag + 8) : 0;
    if (entry_size < MAP_ENTRY_MIN) {
        boot_note(boot, "tag 6 (memory map): entries are too short, left out");
        return;
    }
    uint32_t at = MAP_HEADER;
    for (; size - at >= entry_size; at += entry_size) {
        boot_add_region(boot, get_le64(tag + at), get_le64(tag + at + 8), get_le32(tag + at + 16));
    }
    if (at != size) {
        boot_note(boot, "tag 6 (memory map): its last entry is cut off");
    }
}

static void read_module(const uint8_t *tag, uint32_t size, struct boot_info *boot)
{
    if (size < MODULE_HEADER) {
        boot_note(boot, "tag 3 (module): too short, left out");
        return;
    }
    uint32_t start = get_le32(tag + 8), end = get_le32(tag + 12);
    if (end < start) {
        boot_note(boot, "tag 3 (module): ends before it starts, left out");
        return;
    }
    boot_add_module(boot, start, end - start, (const char *)tag + MODULE_HEADER,
                    size - MODULE_HEADER);
}

static bool framebuffer_channel_ok(uint8_t shift, uint8_t bits, uint8_t bits_per_pixel)
{
    return bits >= 1 && bits <= 16 && shift + bits <= bits_per_pixel;
}

static bool framebuffer_rgb_ok(const struct boot_framebuffer *fb)
{
    uint32_t bytes = (fb->bits_per_pixel + 7u) / 8;
    return (fb->bits_per_pixel == 15 || fb->bits_per_pixel == 16 || fb->bits_per_pixel == 24 ||
            fb->bits_per_pixel == 32) &&
           fb->pitch_bytes / bytes >= fb->width &&
           framebuffer_channel_ok(fb->red_shift, fb->red_bits, fb->bits_per_pixel) &&
           framebuffer_channel_ok(fb->green_shift, fb->green_bits, fb->bits_per_pixel) &&
           framebuffer_channel_ok(fb->blue_shift, fb->blue_bits, fb->bits_per_pixel);
}

static void read_framebuffer(const uint8_t *tag, uint32_t size, struct boot_info *boot)
{
    enum { INDEXED = 0, RGB = 1, EGA_TEXT = 2, MAX_SIDE = 16384 };

    if (size < FRAMEBUFFER_MIN) {
        boot_note(boot, "tag 8 (framebuffer): too short, left out");
        return;
    }
    struct boot_framebuffer fb = {
        .base = get_le64(tag + 8),
        .pitch_bytes = get_le32(tag + 16),
        .width = get_le32(tag + 20),
        .height = get_le32(tag + 24),
        .bits_per_pixel = tag[28],
        .kind = tag[29],
    };
    bool ok = fb.base != 0 && fb.width >= 1 && fb.width <= MAX_SIDE && fb.height >= 1 &&
              fb.height <= MAX_SIDE && fb.pitch_bytes <= 8 * MAX_SIDE &&
              fb.base + (uint64_t)fb.pitch_bytes * fb.height > fb.base;
    if (ok && fb.kind == RGB && size >= FRAMEBUFFER_RGB_MIN) {
        fb.red_shift = tag[32];
        fb.red_bits = tag[33];
        fb.green_shift = tag[34];
        fb.green_bits = tag[35];
        fb.blue_shift = tag[36];
        fb.blue_bits = tag[37];
        ok = framebuffer_rgb_ok(&fb);
    } else {
        ok = ok && fb.kind == EGA_TEXT && fb.pitch_bytes / 2 >= fb.width;
    }
    if (!ok) {
        boot_note(boot, "tag 8 (framebuffer): not one that the kernel can draw on");
        return;
    }
    boot->framebuffer = fb;
}

static void read_rsdp(const uint8_t *tag, uint32_t size, uint32_t wanted, struct boot_info *boot)
{
    if (size < TAG_HEADER + wanted) {
        boot_note(boot, wanted == RSDP_NEW_SIZE ? "tag 15 (ACPI 2 RSDP): too short, left out"
                                                : "tag 14 (ACPI 1 RSDP): too short, left out");
        return;
    }
    if (wanted > boot->rsdp_copy_size) { // the new one tells more
        memcpy(boot->rsdp_copy, tag + TAG_HEADER, wanted);
        boot->rsdp_copy_size = wanted;
    }
}

static void read_efi64(const uint8_t *tag, uint32_t size, struct boot_info *boot)
{
    if (size < TAG_HEADER + 8) {
        boot_note(boot, "tag 12 (EFI system table): too short, left out");
        return;
    }
    boot->efi_system_table = get_le64(tag + 8);
}

static void read_tag(const uint8_t *tag, uint32_t type, uint32_t size, struct boot_info *boot)
{
    const char *text = (const char *)tag + TAG_HEADER;
    size_t text_size = size - TAG_HEADER;

    switch (type) {
    case TAG_CMDLINE:
        if (!boot_copy_text(boot->cmdline, sizeof(boot->cmdline), text, text_size)) {
            boot_note(boot, "tag 1 (command line): longer than 2047 bytes, cut");
        }
        break;
    case TAG_LOADER:
        boot_copy_text(boot->loader, sizeof(boot->loader), text, text_size);
        break;
    case TAG_MODULE:
        read_module(tag, size, boot);
        break;
    case TAG_MEMORY_MAP:
        read_memory_map(tag, size, boot);
        break;
    case TAG_FRAMEBUFFER:
        read_framebuffer(tag, size, boot);
        break;
    case TAG_EFI64:
        read_efi64(tag, size, boot);
        break;
    case TAG_RSDP_OLD:
        read_rsdp(tag, size, RSDP_OLD_SIZE, boot);
        break;
    case TAG_RSDP_NEW:
        read_rsdp(tag, size, RSDP_NEW_SIZE, boot);
        break;
    default: // the others say nothing that the kernel needs
        break;
    }
}

void multiboot2_read(const void *info, size_t size, struct boot_info *boot)
{
    boot->protocol = "multiboot2";
    if (size < TAG_HEADER) {
        boot_note(boot, "there is no information structure");
        return;
    }
    uint32_t total = get_le32(info);
    if (total > size) {
        boot_note(boot, "the information structure claims an absurd size");
        total = (uint32_t)size;
    }

    // Invariant: at <= total. Each round goes on by at least a tag's header.
    for (uint32_t at = TAG_HEADER; at <= total && total - at >= TAG_HEADER;) {
        const uint8_t *tag = (const uint8_t *)info + at;
        uint32_t type = get_le32(tag), tag_size = get_le32(tag + 4);
        if (tag_size < TAG_HEADER || tag_size > total - at) {
            boot_note(boot, "a tag is larger than its surroundings, stopped there");
            return;
        }
        if (type == TAG_END) {
            return;
        }
        read_tag(tag, type, tag_size, boot);
        if (total - at < ALIGN_UP(tag_size, 8)) {
            break;
        }
        at += ALIGN_UP(tag_size, 8);
    }
    boot_note(boot, "no end tag");
}
