// Boot maps from a fuzzer: whatever firmware claims, the page allocator either has no RAM and says
// so, or hands out only RAM, each page once, and takes it back.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c kernel/lib/string.c
// links: tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/mm/page.c"
#include "kernel/mm/page_boot.c"
#include "kernel/mm/page_show.c"

#include "fuzz.h"
#include "image.h"

#define REACH    (32 * MIB)
#define TAKE_MAX 400 // pages taken per input

IMAGE_TEXT(kernel_start, rodata_start);

uint32_t warn_count;
static jmp_buf no_ram;

// The one panic that a map may cause.
__noreturn void panic(const char *format, ...)
{
    MUST(strncmp(format, "no RAM", 6) == 0);
    longjmp(no_ram, 1);
}

void warn_at(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

void printk(enum log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

unsigned cpu_phys_bits(void)
{
    return 25; // 32 MiB: more pages make the fuzzer slower, not better
}

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    (void)kind;
    MUST(start <= end && name != NULL);
    return 0;
}

static struct boot_info boot;

// The model: which pages RAM regions touch and no other region does. By memset, which the fuzzer
// does not trace.
static uint8_t is_free_ram[REACH / PAGE_SIZE];

static void fuzz_model_mark(bool ram)
{
    for (unsigned i = 0; i < boot.region_count; i++) {
        const struct boot_region *r = &boot.regions[i];

        if ((r->type == BOOT_REGION_RAM) == ram && r->size != 0 && r->base < REACH) {
            uint64_t size = min(r->size, REACH - r->base);
            uint64_t last = r->base + size - 1;
            memset(is_free_ram + r->base / PAGE_SIZE, ram,
                   last / PAGE_SIZE - r->base / PAGE_SIZE + 1);
        }
    }
}

static void fuzz_model(void)
{
    memset(is_free_ram, 0, sizeof(is_free_ram));
    fuzz_model_mark(true);
    fuzz_model_mark(false);
    is_free_ram[0] = 0;
    memset(is_free_ram + IMAGE_START / PAGE_SIZE, 0, (IMAGE_END - IMAGE_START) / PAGE_SIZE);
}

static void fuzz_start(void)
{
    static struct cpu cpu;
    static bool mapped;

    syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu);
    if (!mapped) {
        MUST(mmap((void *)PHYS_BASE, REACH, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1,
                  0) == (void *)PHYS_BASE);
        mapped = true;
    }
    image_place();
    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
        memset(zones[z].free_blocks, 0, sizeof(zones[z].free_blocks));
    }
    page_region_count = page_span_count = page_keep_count = 0;
    page_total = 0;
    page_low = 0;
    memset(&boot, 0, sizeof(boot));
}

// A region is 10 bytes: where and how long, each shifted down, and the type. So small and huge,
// touching and far are all near.
static void fuzz_read_map(const uint8_t *data, size_t size)
{
    while (size >= 10 && boot.region_count < BOOT_MAX_REGIONS) {
        uint64_t base = get_le32(data) >> (4 + (data[8] & 15));
        uint64_t length = (uint64_t)get_le32(data + 4) >> (data[8] >> 4);
        unsigned type = data[9] & 7;

        if (data[9] & 0x80) { // whole megabytes: where real maps have their edges
            base &= ~(MIB - 1);
            length &= ~(MIB - 1);
        }
        boot.regions[boot.region_count++] =
            (struct boot_region){base, length, (enum boot_region_type)(type > 5 ? 1 : type)};
        data += 10;
        size -= 10;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *taken[TAKE_MAX];
    unsigned count = 0;

    fuzz_start();
    fuzz_read_map(data, size);
    fuzz_model();
    if (setjmp(no_ram) != 0) {
        return 0;
    }
    page_init(&boot);
    MUST(page_free_count() <= page_total);
    uint64_t before = page_free_count();
    unsigned order = size % 3;
    while (count < TAKE_MAX && (taken[count] = alloc_pages(GFP_ATOMIC, order)) != NULL) {
        struct page *page = page_of(taken[count]);
        uint64_t at = page_pfn(page) << PAGE_SHIFT;

        for (uint64_t k = 0; k < 1ull << order; k++) {
            MUST(at < REACH && is_free_ram[at / PAGE_SIZE + k]);
        }
        MUST(page->owner == NULL); // not taken before
        page->owner = page;
        count++;
    }
    MUST(before - page_free_count() == (uint64_t)count << order);
    while (count > 0) {
        free_pages(taken[--count], order);
    }
    MUST(page_free_count() == before);
    MUST(page_selfcheck() == 0);
    madvise((void *)PHYS_BASE, REACH, MADV_DONTNEED);
    return 0;
}
