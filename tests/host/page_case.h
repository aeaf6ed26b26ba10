// What the tests of the page allocator, and of what stands on it, share: a machine with RAM, an
// image and one CPU. The allocator is included, not linked, so that each test starts it afresh. Its
// RAM is address space of this process, from PHYS_BASE on: pages that nobody writes to cost
// nothing, so 12 GiB of it is no matter.
//
// Before it: _GNU_SOURCE. The includer links: kernel/mm/region.c kernel/mm/fail.c
// kernel/lib/parse.c kernel/lib/text.c kernel/lib/format.c, and the stubs log.c, panic.c and
// spinlock.c.
#pragma once

#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/mm/page.c"
#include "kernel/mm/page_boot.c"
#include "kernel/mm/page_show.c"

#include "image.h"
#include "stubs/stubs.h"

#define HOST_RAM (12 * GIB)

#define RAM      BOOT_REGION_RAM
#define RESERVED BOOT_REGION_RESERVED

static struct boot_info boot;
static unsigned phys_bits;

unsigned cpu_phys_bits(void)
{
    return phys_bits;
}

// The CPU that the caller is on, by what cpu.h reads at %gs.
static inline void on_cpu_at(struct cpu *cpu)
{
    assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, cpu), 0);
}

// A new machine: RAM without content, an allocator that knows of none, a boot map without regions.
static inline void page_machine(void)
{
    void *want = (void *)PHYS_BASE;

    assert_ptr_equal(mmap(want, HOST_RAM, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0),
                     want);
    image_place();
    memset(&boot, 0, sizeof(boot));
    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
        memset(zones[z].free_blocks, 0, sizeof(zones[z].free_blocks));
    }
    page_region_count = page_span_count = page_keep_count = 0;
    page_total = 0;
    page_low = 0;
    page_ram_limit = UINT64_MAX;
    phys_bits = 40;
    warn_count = 0;
    stub_log_clear();
}

static inline void add(uint64_t base, uint64_t size, enum boot_region_type type)
{
    assert_true(boot.region_count < BOOT_MAX_REGIONS);
    boot.regions[boot.region_count++] = (struct boot_region){base, size, type};
}

// What SeaBIOS says of a machine with 256 MiB.
static inline void add_bios_256m(void)
{
    add(0, 0x9fc00, RAM);
    add(0x9fc00, 0x400, RESERVED);
    add(0xf0000, 0x10000, RESERVED);
    add(0x100000, 0xfee0000, RAM);
    add(0xffe0000, 0x20000, RESERVED);
    add(0xfeffc000, 0x4000, RESERVED);
    add(0xfffc0000, 0x40000, RESERVED);
    add(0xfd00000000, 0x300000000, RESERVED);
}

static inline uint64_t free_bytes(void)
{
    struct page_stats stats;

    page_stats(&stats);
    return stats.free_bytes;
}
