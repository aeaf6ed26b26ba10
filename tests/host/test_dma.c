// The DMA interface: a mapping's life, coherent memory, masks; copies for what a device does not
// reach, and addresses that hardware translates. What its checker objects to: test_dma_debug.c.
//
// links: kernel/lib/text.c kernel/lib/format.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#include "dma_case.h"

// ---- mappings and coherent memory ---------------------------------------------------------------

static void a_mapping_lives_and_ends(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    assert_int_equal(handle.value, 0x5800);
    assert_int_equal(dma_outstanding(&nic), 1);
    assert_int_equal(dma_live, 1);
    dma_sync_single_for_cpu(&nic, handle, 2048, DMA_FROM_DEVICE);
    dma_sync_single_for_device(&nic, handle, 64, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    assert_int_equal(dma_outstanding(&nic), 0);
    assert_int_equal(dma_live, 0);
    assert_int_equal(traced[TRACE_DMA_MAP], 1);
    assert_int_equal(traced[TRACE_DMA_UNMAP], 1);
    quiet();
}

static void neighbours_are_no_collision(void **state)
{
    (void)state;
    map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    map(&disk, 0x6000, 65536, DMA_FROM_DEVICE);
    map(&disk, 0x4f00, 256, DMA_FROM_DEVICE);
    quiet();
}

static void two_readers_may_share(void **state)
{
    (void)state;
    map(&nic, 0x5000, 1500, DMA_TO_DEVICE);
    map(&disk, 0x5000, 4096, DMA_TO_DEVICE);
    quiet();
}

static void coherent_memory(void **state)
{
    (void)state;
    dma_addr_t handle;
    void *ring = dma_alloc_coherent(&nic, 5000, &handle);
    assert_ptr_equal(ring, ram + 16 * PAGE_SIZE);
    assert_int_equal(handle.value, 16 * PAGE_SIZE);
    assert_int_equal(dma_outstanding(&nic), 1);
    assert_int_equal(shown, 1);
    dma_free_coherent(&nic, 5000, ring, handle);
    assert_int_equal(shown, 0);
    assert_int_equal(pages_freed, 1);
    assert_int_equal(dma_outstanding(&nic), 0);
    quiet();
}

static void coherent_memory_beyond_the_mask(void **state)
{
    (void)state;
    dma_addr_t handle;
    assert_int_equal(dma_set_mask(&nic, 0xffff), 0);
    assert_null(dma_alloc_coherent(&nic, 4096, &handle));
    assert_true(dma_mapping_error(&nic, handle));
    assert_non_null(strstr(stub_log(), "nic"));
    assert_null(dma_alloc_coherent(&nic, 0, &handle));
    assert_null(dma_alloc_coherent(&nic, SIZE_MAX / 2, &handle));
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void masks(void **state)
{
    (void)state;
    assert_int_equal(dma_set_mask(&nic, DMA_BIT_MASK(28)), 0);
    assert_int_equal(nic.dma_mask, 0xfffffff);
    assert_int_equal(dma_set_mask(&nic, 0xfff), -EIO); // no RAM lies there
    assert_int_equal(nic.dma_mask, 0xfffffff);
    assert_int_equal(DMA_BIT_MASK(64), UINT64_MAX);
}

static void refused_memory(void **state)
{
    (void)state;
    char stack[64];

    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, stack, 64, DMA_TO_DEVICE)));
    reported("not from kmalloc");
    assert_true(
        dma_mapping_error(&nic, dma_map_single(&nic, ram + RAM_SIZE - 64, 65, DMA_TO_DEVICE)));
    reported("not from kmalloc");
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5000, 0, DMA_TO_DEVICE)));
    reported("no size");
    assert_true(
        dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5000, SIZE_MAX, DMA_TO_DEVICE)));
    reported("no size");
    freed = ram + 0x6000;
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x6000, 8, DMA_TO_DEVICE)));
    reported("was freed");
    nic.dma_mask = 0x5fff; // and alloc_pages_within has nothing below that
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5fff, 2, DMA_TO_DEVICE)));
    assert_non_null(strstr(stub_log(), "nic reaches up to 0x5fff, the buffer lies at 0x5fff"));
    stub_log_clear();
    map(&nic, 0x5ffe, 2, DMA_TO_DEVICE);
    quiet();
    assert_int_equal(dma_outstanding(&nic), 1);
}

// ---- copies -------------------------------------------------------------------------------------

// The device reaches up to 0x1ffff; the buffer lies beyond. Bytes go there at the map, and come
// back at the unmap, by direction.
static void what_cannot_be_reached_is_copied(void **state)
{
    (void)state;
    char *buffer = ram + 0x345678;
    nic.dma_mask = 0x1ffff;
    memset(buffer, 'a', 100);
    dma_addr_t handle = dma_map_single(&nic, buffer, 100, DMA_BIDIRECTIONAL);
    assert_int_equal(handle.value, 16 * PAGE_SIZE + 0x678); // as far into a page as the original
    assert_int_equal(dma_bounce_count(&nic), 1);
    assert_memory_equal(ram + handle.value, buffer, 100);
    memset(ram + handle.value, 'b', 100); // the device writes
    assert_int_equal(buffer[0], 'a');
    dma_sync_single_for_cpu(&nic, handle, 10, DMA_BIDIRECTIONAL);
    assert_int_equal(buffer[9], 'b');
    assert_int_equal(buffer[10], 'a');
    buffer[0] = 'c';
    dma_sync_single_for_device(&nic, handle, 10, DMA_BIDIRECTIONAL);
    assert_int_equal(ram[handle.value], 'c');
    dma_unmap_single(&nic, handle, 100, DMA_BIDIRECTIONAL);
    assert_int_equal(buffer[99], 'b');
    assert_int_equal(dma_bounce_count(&nic), 0);
    assert_int_equal(dma_outstanding(&nic), 0);
    assert_int_equal(pages_freed, 1);
    quiet();
}

static void copies_on_request(void **state)
{
    (void)state;
    assert_int_equal(dma_max_mapping_size(&disk), UINT64_MAX);
    assert_int_equal(dma_max_mapping_size(&nic), UINT64_MAX);
    nic.dma_mask = 0x1ffff;
    assert_int_equal(dma_max_mapping_size(&nic), DMA_BOUNCE_BYTES);
    assert_int_equal(bounce_set_forced("yes"), -EINVAL);
    assert_int_equal(bounce_set_forced("force"), 0);
    assert_int_equal(dma_max_mapping_size(&disk), DMA_BOUNCE_BYTES);
    memset(ram + 0x5ffe, 'a', 4);
    dma_addr_t handle = map(&disk, 0x5ffe, 4, DMA_TO_DEVICE); // it could reach it
    assert_int_equal(handle.value, 16 * PAGE_SIZE + 0xffe);
    assert_int_equal(last_order, 1); // across the page's end, as the original
    assert_memory_equal(ram + handle.value, "aaaa", 4);
    dma_unmap_single(&disk, handle, 4, DMA_TO_DEVICE);
    assert_int_equal(dma_bounce_count(&disk), 0);
    quiet();
}

static void copies_go_one_way_only(void **state)
{
    (void)state;
    char *buffer = ram + 0x345000;
    nic.dma_mask = 0x1ffff;
    memset(buffer, 'a', 5000);
    dma_addr_t handle = dma_map_single(&nic, buffer, 5000, DMA_TO_DEVICE);
    assert_int_equal(last_order, 1);
    memset(ram + handle.value, 'x', 5000);
    dma_unmap_single(&nic, handle, 5000, DMA_TO_DEVICE);
    assert_int_equal(buffer[0], 'a');
    handle = dma_map_single(&nic, buffer, 100, DMA_FROM_DEVICE);
    assert_int_equal(ram[handle.value], 0); // nothing of the CPU's is shown to the device
    dma_unmap_single(&nic, handle, 100, DMA_FROM_DEVICE);
    assert_int_equal(buffer[0], 0);
    quiet();
}

// Found by its original, a copied mapping is checked like any other.
static void copies_are_checked(void **state)
{
    (void)state;
    nic.dma_mask = 0x1ffff;
    dma_addr_t handle = map(&nic, 0x345000, 64, DMA_TO_DEVICE);
    map(&disk, 0x345020, 64, DMA_FROM_DEVICE);
    reported("owns it already");
    dma_unmap_single(&nic, handle, 32, DMA_TO_DEVICE);
    reported("with another size");
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    reported("not mapped");
    assert_int_equal(dma_bounce_count(&nic), 0);
}

// ---- translation --------------------------------------------------------------------------------

enum { TRANSLATED = 0x40000000 }; // what the fake adds to each address
static unsigned translations, untranslations;
static size_t untranslated_size;

static uint64_t fake_map(struct device *dev, phys_t phys, size_t size,
                         enum dma_data_direction direction)
{
    (void)dev;
    (void)size;
    (void)direction;
    translations++;
    return phys + TRANSLATED;
}

static void fake_unmap(struct device *dev, uint64_t bus, size_t size)
{
    (void)dev;
    (void)bus;
    untranslations++;
    untranslated_size = size;
}

static bool fake_translates(struct device *dev)
{
    (void)dev;
    return true;
}

static uint64_t fake_translate(struct device *dev, uint64_t bus)
{
    (void)dev;
    return bus >= TRANSLATED ? bus - TRANSLATED : DMA_NO_ADDRESS;
}

static const struct iommu_ops fake_iommu = {fake_map, fake_unmap, fake_translates, fake_translate};

// The device is told another address, and the checker still sees the memory behind it.
static void translated_addresses(void **state)
{
    (void)state;
    dma_iommu = &fake_iommu;
    translations = untranslations = 0;
    dma_addr_t handle = map(&nic, 0x5000, 100, DMA_FROM_DEVICE);
    assert_int_equal(handle.value, 0x5000 + TRANSLATED);
    map(&disk, 0x5010, 4, DMA_FROM_DEVICE);
    reported("owns it already");
    dma_unmap_single(&nic, handle, 60, DMA_FROM_DEVICE);
    reported("with another size");
    assert_int_equal(untranslated_size, 100); // all of it is taken back
    dma_unmap_single(&nic, handle, 100, DMA_FROM_DEVICE);
    reported("not mapped");
    dma_unmap_single(&nic, (dma_addr_t){7}, 100, DMA_FROM_DEVICE);
    reported("not mapped");
    assert_int_equal(translations, 2);
    assert_int_equal(untranslations, 1);
    dma_addr_t coherent;
    void *cpu = dma_alloc_coherent(&nic, 4096, &coherent);
    assert_non_null(cpu);
    assert_int_equal(coherent.value, virt_to_phys(cpu) + TRANSLATED);
    dma_free_coherent(&nic, 4096, cpu, coherent);
    assert_int_equal(untranslations, 2);
    quiet();
}

static uint64_t refuse_map(struct device *dev, phys_t phys, size_t size,
                           enum dma_data_direction direction)
{
    (void)dev;
    (void)phys;
    (void)size;
    (void)direction;
    return DMA_NO_ADDRESS;
}

static bool refuse_translates(struct device *dev)
{
    (void)dev;
    return false; // it knows nothing of the device
}

// A device that no unit serves: it is told so, and gets no copy, which it would not reach either.
static void what_translation_refuses_is_not_copied(void **state)
{
    (void)state;
    static const struct iommu_ops refusing = {refuse_map, fake_unmap, refuse_translates,
                                              fake_translate};
    dma_iommu = &refusing;
    untranslations = 0;
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5000, 100, DMA_FROM_DEVICE)));
    assert_int_equal(dma_bounce_count(&nic), 0);
    assert_int_equal(dma_outstanding(&nic), 0);
    dma_addr_t coherent;
    assert_null(dma_alloc_coherent(&nic, 4096, &coherent));
    assert_int_equal(untranslations, 0);
}

// ---- several pieces -----------------------------------------------------------------------------

static void a_list_is_mapped_whole_or_not_at_all(void **state)
{
    (void)state;
    struct scatterlist list[] = {{.cpu = ram + 0x5000, .length = 512},
                                 {.cpu = ram + 0x9000, .length = 4096},
                                 {.cpu = ram + 0xb000, .length = 8}};
    assert_int_equal(dma_map_sg(&nic, list, 3, DMA_TO_DEVICE), 3);
    assert_int_equal(list[1].address.value, 0x9000);
    assert_int_equal(dma_outstanding(&nic), 3);
    dma_unmap_sg(&nic, list, 3, DMA_TO_DEVICE);
    quiet();
    list[2].cpu = (char *)&list; // a stack
    assert_int_equal(dma_map_sg(&nic, list, 3, DMA_TO_DEVICE), 0);
    reported("not from kmalloc");
    assert_int_equal(dma_outstanding(&nic), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_mapping_lives_and_ends, reset),
        cmocka_unit_test_setup(neighbours_are_no_collision, reset),
        cmocka_unit_test_setup(two_readers_may_share, reset),
        cmocka_unit_test_setup(coherent_memory, reset),
        cmocka_unit_test_setup(coherent_memory_beyond_the_mask, reset),
        cmocka_unit_test_setup(masks, reset),
        cmocka_unit_test_setup(refused_memory, reset),
        cmocka_unit_test_setup(what_cannot_be_reached_is_copied, reset),
        cmocka_unit_test_setup(copies_on_request, reset),
        cmocka_unit_test_setup(copies_go_one_way_only, reset),
        cmocka_unit_test_setup(copies_are_checked, reset),
        cmocka_unit_test_setup(translated_addresses, reset),
        cmocka_unit_test_setup(what_translation_refuses_is_not_copied, reset),
        cmocka_unit_test_setup(a_list_is_mapped_whole_or_not_at_all, reset),
    };

    return cmocka_run_group_tests_name("dma", tests, NULL, NULL);
}
