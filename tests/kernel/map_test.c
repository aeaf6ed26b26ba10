// The page tables as the CPU enforces them: each forbidden access must fault, at the address where
// it was made, on every CPU.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/panic.h>
#include <core/sections.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <mm/map.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "every_cpu.h"

extern char boot_stack_guard[];

static void map_read_byte(void *address)
{
    (void)*(volatile char *)address;
}

static void map_write_byte(void *address)
{
    *(volatile char *)address = 0;
}

static void map_call(void *address)
{
    ((void (*)(void))address)();
}

// A page fault at this address, and not the whole way through.
static bool map_faults(void (*access)(void *address), void *address)
{
    struct exception_record record = {0};

    return exception_catch(access, address, &record) == EXC_PF && record.cr2 == (uintptr_t)address;
}

// Two ways to the same byte: the image's address, and the direct map's.
static void *map_alias(const void *image)
{
    return phys_to_virt(virt_to_phys(image));
}

KTEST(map, nothing_is_writable_and_executable)
{
    EXPECT_EQ(map_audit(), 0);
}

KTEST(map, text_and_constants_are_read_only)
{
    EXPECT(map_faults(map_write_byte, text_start));
    EXPECT(map_faults(map_write_byte, rodata_start));
    EXPECT(map_faults(map_write_byte, map_alias(text_start)));
    EXPECT(map_faults(map_write_byte, map_alias(rodata_start)));
    EXPECT(!map_faults(map_read_byte, map_alias(text_start)));
}

KTEST(map, data_does_not_execute)
{
    static char code[16] = {(char)0xc3}; // ret
    char stack_code[16] = {(char)0xc3};
    char *heap_code = kzalloc(16, GFP_KERNEL);

    REQUIRE(heap_code != NULL);
    if (!cpu_has(FEATURE_NX)) {
        kfree(heap_code);
        SKIP("this CPU has no no-execute bit");
    }
    heap_code[0] = (char)0xc3;
    EXPECT(map_faults(map_call, code));
    EXPECT(map_faults(map_call, stack_code));
    EXPECT(map_faults(map_call, heap_code));
    EXPECT(map_faults(map_call, rodata_start));
    EXPECT(map_faults(map_call, map_alias(text_start)));
    kfree(heap_code);
}

KTEST(map, the_lower_half_is_empty)
{
    EXPECT(map_faults(map_read_byte, (void *)8));
    EXPECT(map_faults(map_read_byte, (void *)0x100000));
    EXPECT(map_faults(map_write_byte, (void *)0x7fffffffffff));
    EXPECT(map_faults(map_read_byte, phys_to_virt(0xa0000))); // no RAM: not in the direct map
}

KTEST(map, stacks_have_guards)
{
    unsigned level;
    char *stack = map_stack();

    REQUIRE(stack != NULL);
    memset(stack, 0x5a, KERNEL_STACK_SIZE);
    EXPECT(map_is_stack((uintptr_t)stack, KERNEL_STACK_SIZE));
    EXPECT(!map_is_stack((uintptr_t)stack - 1, 2));
    EXPECT(!map_is_stack((uintptr_t)stack + 8, KERNEL_STACK_SIZE));
    EXPECT(!map_is_stack((uintptr_t)stack, SIZE_MAX));
    EXPECT(map_faults(map_write_byte, stack - 1));
    EXPECT(map_faults(map_write_byte, stack + KERNEL_STACK_SIZE) ||
           map_lookup((uintptr_t)stack + KERNEL_STACK_SIZE, &level) == 0);
    const char *name = map_guard_name((uintptr_t)stack - 8);
    REQUIRE(name != NULL);
    EXPECT(strcmp(name, "guard page below a kernel stack") == 0);
    unmap_stack(stack);
    ktest->warnings_expected = 2;
    unmap_stack(stack);        // twice
    unmap_stack(stack + 4096); // never was one
}

// Some are kept for the next thread, the others go for good, guard and all.
KTEST(map, stacks_come_back)
{
    enum { STACKS = 40 };
    char *stacks[STACKS];
    unsigned made = 0, kept = 0, wrong = 0;

    while (made < STACKS && (stacks[made] = map_stack()) != NULL) {
        made++;
    }
    EXPECT_EQ(made, STACKS);
    for (unsigned i = 0; i < made; i++) {
        unmap_stack(stacks[i]);
    }
    for (unsigned i = 0; i < made; i++) {
        bool mapped = !map_faults(map_read_byte, stacks[i]);

        kept += mapped;
        wrong += mapped != (map_guard_name((uintptr_t)stacks[i] - 8) != NULL);
        wrong += mapped != map_is_stack((uintptr_t)stacks[i], 8);
    }
    EXPECT_EQ(wrong, 0);
    EXPECT(kept < STACKS); // others' threads take and give meanwhile
    EXPECT_EQ(page_selfcheck(), 0);
}

KTEST(map, the_boot_stack_has_a_guard)
{
    unsigned level;
    const char *name;

    EXPECT(map_faults(map_write_byte, boot_stack_guard));
    name = map_guard_name((uintptr_t)boot_stack_guard + 100);
    EXPECT(name != NULL && strcmp(name, "guard page below the boot stack") == 0);
    EXPECT(map_guard_name((uintptr_t)&level) == NULL);
    EXPECT(map_guard_name(0x1000000000000000) == NULL); // not canonical
}

KTEST(map, registers_are_no_ram)
{
    EXPECT(ioremap(0x100000, PAGE_SIZE) == NULL);
    EXPECT(ioremap(virt_to_phys(ktest), 1) == NULL);
    EXPECT(ioremap(0xfee00000, 0) == NULL);
    EXPECT(ioremap(0xfee00000, SIZE_MAX) == NULL);
    EXPECT(ioremap(SIZE_MAX - 10, 100) == NULL);
    EXPECT(ioremap(BIT64(cpu_phys_bits()), PAGE_SIZE) == NULL);
    EXPECT(ioremap(BIT64(cpu_phys_bits()) - PAGE_SIZE, PAGE_SIZE + 1) == NULL);
    EXPECT(memremap(0, SIZE_MAX) == NULL);
}

KTEST(map, registers_are_uncached_and_tables_read_only)
{
    unsigned level;
    char *registers = ioremap(0xfed00104, 8); // the HPET's page, or an empty one
    char *frames = ioremap_wc(0xfd000000, 16u << 20);
    char *table = memremap(0xf0000, 0x10000); // the BIOS, on BIOS machines

    REQUIRE(registers != NULL && frames != NULL && table != NULL);
    uint64_t entry = map_lookup((uintptr_t)registers, &level);
    EXPECT_EQ((uintptr_t)registers % PAGE_SIZE, 0x104);
    EXPECT_EQ(entry & PTE_ADDRESS, 0xfed00000);
    EXPECT_EQ(entry & (PTE_PCD | PTE_PWT | PTE_W), PTE_UC | PTE_W);
    entry = map_lookup((uintptr_t)frames, &level);
    EXPECT_EQ(level, 2); // by large pages
    EXPECT_EQ(entry & (PTE_PCD | PTE_PWT | PTE_W), PTE_WC | PTE_W);
    entry = map_lookup((uintptr_t)table, &level);
    EXPECT_EQ(entry & (PTE_PCD | PTE_PWT | PTE_W), 0);
    EXPECT(map_faults(map_write_byte, table));
    iounmap(registers);
    iounmap(frames);
    iounmap(table);
    EXPECT_EQ(map_lookup((uintptr_t)frames + (8u << 20), &level), 0);
    EXPECT(map_faults(map_read_byte, table));
    ktest->warnings_expected = 1;
    iounmap(table);
    EXPECT_EQ(map_audit(), 0);
}

KTEST(map, vmalloc_is_one_piece)
{
    enum { SIZE = 3 << 20 };
    uint64_t *buffer = vmalloc(SIZE);

    REQUIRE(buffer != NULL);
    for (size_t i = 0; i < SIZE / 8; i += 64) {
        buffer[i] = i;
    }
    unsigned wrong = 0;
    for (size_t i = 0; i < SIZE / 8; i += 64) {
        wrong += buffer[i] != i;
    }
    EXPECT_EQ(wrong, 0);
    EXPECT(map_faults(map_write_byte, (char *)buffer - 1));
    vfree(buffer);
    EXPECT(map_faults(map_read_byte, buffer));
    EXPECT(vmalloc(0) == NULL);
    EXPECT(vmalloc(BIT64(45)) == NULL);
    EXPECT(vmalloc(SIZE_MAX) == NULL);
    vfree(NULL);
    EXPECT_EQ(page_selfcheck(), 0);
}

static void map_touch(struct every_cpu *self)
{
    map_read_byte(self->arg);
}

static void map_expect_gone(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;

    EXPECT(map_faults(map_read_byte, self->arg));
}

// Each CPU has the translation in its TLB; after vfree none may still use it, or it would read
// memory that has a new owner.
KTEST(map, unmapping_reaches_every_cpu)
{
    for (unsigned round = 0; round < 3; round++) {
        char *buffer = vmalloc(PAGE_SIZE);
        uint64_t before = map_shootdown_count;

        REQUIRE(buffer != NULL);
        buffer[0] = 1;
        REQUIRE(every_cpu_run(ktest, map_touch, buffer));
        vfree(buffer);
        EXPECT(map_shootdown_count > before);
        REQUIRE(every_cpu_run(ktest, map_expect_gone, buffer));
    }
}

static void map_areas_come_and_go(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    unsigned wrong = 0;

    for (unsigned round = 0; round < 8; round++) {
        char *area = vmalloc(3 * PAGE_SIZE), *stack = map_stack();

        wrong += area == NULL || stack == NULL;
        if (area != NULL && stack != NULL) {
            memset(area, (int)self->cpu, 3 * PAGE_SIZE);
            memset(stack, (int)self->cpu + 1, KERNEL_STACK_SIZE);
            yield();
            wrong += area[0] != (char)self->cpu || area[3 * PAGE_SIZE - 1] != (char)self->cpu;
            wrong += stack[0] != (char)(self->cpu + 1);
            unmap_stack(stack);
            vfree(area);
        }
    }
    EXPECT_EQ(wrong, 0);
}

KTEST(map, areas_on_every_cpu_at_once)
{
    REQUIRE(every_cpu_run(ktest, map_areas_come_and_go, NULL));
    EXPECT_EQ(page_selfcheck(), 0);
    EXPECT_EQ(map_audit(), 0);
}

KTEST(map, the_lookup_agrees_with_the_arithmetic)
{
    unsigned level, wrong = 0;
    phys_t start, end;

    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        for (phys_t at = start; at < end;
             at += max((end - start) / 97 & ~(phys_t)0xfff, (phys_t)PAGE_SIZE)) {
            uint64_t entry = map_lookup((uintptr_t)phys_to_virt(at), &level);
            uint64_t size = 1ull << (PAGE_SHIFT + 9 * (level - 1));

            wrong += entry == 0 || (entry & PTE_ADDRESS & ~(size - 1)) != (at & ~(size - 1));
        }
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(virt_to_phys(phys_to_virt(0x123456)), 0x123456);
    EXPECT_EQ(virt_to_phys(text_start), (uintptr_t)text_start - KERNEL_BASE);
}
