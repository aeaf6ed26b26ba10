// The memory of who owns what: each misuse of the DMA interface gives one report that names it, and
// harms no other mapping.
//
// links: kernel/lib/text.c kernel/lib/format.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#include "dma_case.h"

// ---- who owns it already, and who gives it back -------------------------------------------------

static void mapped_twice(void **state)
{
    (void)state;
    map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    reported("owns it already");
    map(&disk, 0x57ff, 1, DMA_TO_DEVICE); // the last byte of both
    reported("owns it already");
}

// All ways to overlap, short and long, from before and from behind, across page borders.
static void overlaps_are_found(void **state)
{
    static const struct {
        uint64_t at;
        size_t size;
    } a[] = {{0x8000, 64},   {0x8fc0, 128},  {0x8000, 4096},
             {0x8800, 4096}, {0x8000, 4097}, {0x8000, 0x20000}};

    for (unsigned i = 0; i < ARRAY_SIZE(a); i++) {
        for (uint64_t at = 0x6000; at < 0x2a000; at += 0x7c0) {
            static const size_t sizes[] = {1, 0x800, 0x1000, 0x1001, 0x30000};

            for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
                bool overlap = at < a[i].at + a[i].size && a[i].at < at + sizes[k];

                reset(state);
                map(&disk, a[i].at, a[i].size, DMA_FROM_DEVICE);
                map(&nic, at, sizes[k], DMA_TO_DEVICE);
                assert_int_equal(dma_errors, overlap);
                reset(state);
                map(&nic, at, sizes[k], DMA_TO_DEVICE);
                map(&disk, a[i].at, a[i].size, DMA_FROM_DEVICE);
                assert_int_equal(dma_errors, overlap);
            }
        }
    }
}

// Whoever frees memory is told, if and only if some of it is lent; the mark that makes the free ask
// goes with the mapping.
static void freed_while_a_device_owns_it(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5800, 1500, DMA_TO_DEVICE);
    dma_addr_t crossing = map(&disk, 0x8f00, 512, DMA_FROM_DEVICE);
    dma_addr_t large = map(&disk, 0x10000, 65536, DMA_FROM_DEVICE);

    assert_int_equal(lent[5], 1);
    assert_int_equal(lent[8] + lent[9], 2);
    assert_int_equal(lent[16] + lent[31], 2);
    assert_int_equal(lent[20], 0); // in the middle: the price does not grow with the size
    assert_false(dma_debug_freed(ram + 0x5000, 2048, NULL)); // its neighbour in the page
    assert_false(dma_debug_freed(ram + 0x6000, PAGE_SIZE, NULL));
    quiet();
    assert_true(dma_debug_freed(ram + 0x5800, 2048, (void *)0x1234));
    assert_non_null(strstr(stub_log(), "nic [0x5800, +2048) to-device by 0x1234"));
    assert_non_null(strstr(stub_log(), "mapped: nic [0x5800, +1500) to-device by 0x"));
    reported("freed although a device owns it");
    assert_true(dma_debug_freed(ram + 0x9000, PAGE_SIZE, NULL)); // the second page of a mapping
    reported("disk [0x9000, +4096)");
    assert_true(dma_debug_freed(ram + 0x10000, 65536, NULL));
    reported("disk [0x10000, +65536)");
    dma_unmap_single(&nic, handle, 1500, DMA_TO_DEVICE);
    dma_unmap_single(&disk, crossing, 512, DMA_FROM_DEVICE);
    dma_unmap_single(&disk, large, 65536, DMA_FROM_DEVICE);
    for (unsigned page = 0; page < ARRAY_SIZE(lent); page++) {
        assert_int_equal(lent[page], 0);
    }
    quiet();
}

static void unmapped_twice(void **state)
{
    (void)state;
    dma_addr_t other = map(&nic, 0x9000, 64, DMA_TO_DEVICE);
    dma_addr_t handle = map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    reported("unmapped twice");
    assert_int_equal(dma_outstanding(&nic), 1);
    dma_unmap_single(&nic, other, 64, DMA_TO_DEVICE);
    quiet();
}

static void never_mapped(void **state)
{
    (void)state;
    dma_unmap_single(&nic, (dma_addr_t){0x77777}, 64, DMA_TO_DEVICE);
    reported("is not mapped");
    dma_unmap_single(&nic, (dma_addr_t){DMA_NO_ADDRESS}, 64,
                     DMA_TO_DEVICE); // a mapping error, unchecked
    reported("is not mapped");
    dma_unmap_single(&nic, (dma_addr_t){0}, 0, DMA_TO_DEVICE);
    reported("is not mapped");
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void another_size(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {
        {2048, 1024}, {2048, 8192}, {8192, 2048}, {8192, 16384}, {2048, 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        dma_addr_t handle = map(&nic, 0x5000, sizes[i][0], DMA_FROM_DEVICE);
        dma_unmap_single(&nic, handle, sizes[i][1], DMA_FROM_DEVICE);
        reported("with another size");
        assert_int_equal(dma_outstanding(&nic), 0);
        assert_int_equal(dma_live, 0);
        for (unsigned k = 0; k < ARRAY_SIZE(dma_long_regions); k++) {
            assert_int_equal(dma_long_regions[k], 0);
        }
    }
}

static void another_direction(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_TO_DEVICE);
    reported("with another direction");
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void another_device(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&disk, handle, 2048, DMA_FROM_DEVICE);
    reported("by another device");
    assert_int_equal(dma_outstanding(&nic), 1); // it still owns it
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    quiet();
}

static void another_kind(void **state)
{
    (void)state;
    dma_addr_t handle;
    void *ring = dma_alloc_coherent(&nic, 4096, &handle);
    dma_unmap_single(&nic, handle, 4096, DMA_BIDIRECTIONAL);
    reported("is coherent memory");
    dma_free_coherent(&nic, 4096, ring, (dma_addr_t){handle.value + PAGE_SIZE});
    reported("not at the address");
    dma_free_coherent(&nic, 4096, ring, handle);
    quiet();
    assert_int_equal(pages_freed, 1);
    dma_free_coherent(&nic, 4096, ring, handle);
    reported("is not mapped");
    assert_int_equal(pages_freed, 1);

    handle = map(&nic, 0x5000, 4096, DMA_BIDIRECTIONAL);
    dma_free_coherent(&nic, 4096, ram + 0x5000, handle);
    reported("is a streaming mapping");
    assert_int_equal(pages_freed, 1);
}

static void wrong_syncs(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    dma_sync_single_for_cpu(&nic, handle, 2049, DMA_FROM_DEVICE);
    reported("beyond the end");
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_TO_DEVICE);
    reported("in another direction");
    dma_sync_single_for_cpu(&disk, handle, 64, DMA_FROM_DEVICE);
    reported("is not mapped");
    dma_sync_single_for_cpu(&nic, (dma_addr_t){0x57ff}, 1, DMA_FROM_DEVICE);
    reported("is not mapped");
    dma_sync_single_for_cpu(&nic, (dma_addr_t){0x5fff}, 1, DMA_FROM_DEVICE); // the last byte
    quiet();

    map(&nic, 0x8f80, 256, DMA_BIDIRECTIONAL); // crosses: the second half is in the next page
    dma_sync_single_for_cpu(&nic, (dma_addr_t){0x9000}, 64, DMA_FROM_DEVICE);
    map(&disk, 0x20000, 0x10000, DMA_TO_DEVICE);
    dma_sync_single_for_device(&disk, (dma_addr_t){0x2ffff}, 1, DMA_TO_DEVICE);
    quiet();
}

// ---- what the CPU does meanwhile ----------------------------------------------------------------

static void strict_sees_the_cpu_write(void **state)
{
    (void)state;
    dma_debug_strict = true;
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    quiet();
    handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    ram[0x5010]++;
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    reported("the CPU wrote to it");
    handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_TO_DEVICE);
    ram[0x5010]++; // now it may
    dma_sync_single_for_device(&nic, handle, 64, DMA_TO_DEVICE);
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    quiet();
}

// What the device writes lies in the copy: the original is nobody's to write until it is unmapped.
static void strict_sees_more_of_copies(void **state)
{
    (void)state;
    dma_debug_strict = dma_bounce_forced = true;
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_FROM_DEVICE);
    memset(ram + handle.value, 'd', 64);
    dma_unmap_single(&nic, handle, 64, DMA_FROM_DEVICE);
    assert_int_equal(ram[0x5010], 'd');
    quiet();
    handle = map(&nic, 0x5000, 64, DMA_FROM_DEVICE);
    ram[0x5010]++; // which is lost
    dma_unmap_single(&nic, handle, 64, DMA_FROM_DEVICE);
    reported("the CPU wrote to it");
    handle = map(&nic, 0x5000, 64, DMA_BIDIRECTIONAL);
    memset(ram + handle.value, 'e', 64);
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_BIDIRECTIONAL);
    ram[0x5010]++;
    dma_unmap_single(&nic, handle, 64, DMA_BIDIRECTIONAL); // it need not be the device's again
    quiet();
}

// ---- when records run out -----------------------------------------------------------------------

static void records_run_out(void **state)
{
    (void)state;
    unsigned more = DEBUG_RECORDS + 100;

    for (unsigned i = 0; i < more; i++) {
        map(&nic, 0x10000 + i * 64, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_live, DEBUG_RECORDS);
    assert_int_equal(dma_debug_unrecorded(), 100);
    assert_int_equal(dma_outstanding(&nic), more);
    assert_non_null(strstr(stub_log(), "records are in use"));
    assert_int_equal(dma_errors, 0);
    for (unsigned i = 0; i < more; i++) {
        dma_unmap_single(&nic, (dma_addr_t){0x10000 + i * 64}, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_outstanding(&nic), 0);
    assert_int_equal(dma_errors, 0);
    assert_int_equal(dma_debug_unrecorded(), 0);
}

static void no_memory_for_records(void **state)
{
    (void)state;
    no_memory = true;
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    assert_int_equal(dma_debug_unrecorded(), 1);
    dma_unmap_single(&nic, (dma_addr_t){0x9000}, 64, DMA_TO_DEVICE); // that is not the one
    assert_int_equal(dma_errors, 1);
    assert_int_equal(dma_debug_unrecorded(), 1);
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    assert_int_equal(dma_errors, 1);
    assert_int_equal(dma_debug_unrecorded(), 0);
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void switched_off(void **state)
{
    (void)state;
    assert_int_equal(dma_set_debug("off"), 0);
    assert_int_equal(dma_set_debug("of"), -EINVAL);
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    map(&nic, 0x5000, 64, DMA_FROM_DEVICE);
    assert_int_equal(dma_live, 0);
    assert_int_equal(dma_outstanding(&nic), 2);
    for (unsigned i = 0; i < 3; i++) {
        dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_outstanding(&nic), 0); // not below
    quiet();
}

static void reports_are_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        dma_unmap_single(&nic, (dma_addr_t){0x5000}, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_debug_errors(), 1000);
    assert_int_equal(warn_count, DEBUG_REPORTS);
    seconds++;
    dma_unmap_single(&nic, (dma_addr_t){0x5000}, 64, DMA_TO_DEVICE);
    assert_int_equal(warn_count, DEBUG_REPORTS + 1);
}

// ---- what people see ----------------------------------------------------------------------------

static void the_proc_file(void **state)
{
    (void)state;
    char buffer[2000];
    struct text t = TEXT_INIT(buffer);
    dma_addr_t ring;

    dma_addr_t handle = map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    dma_alloc_coherent(&disk, 4096, &ring);
    dma_show_map(&t, 0);
    assert_non_null(strstr(buffer, "mappings 2, most at once 2, unrecorded 0, errors 0\n"));
    assert_non_null(
        strstr(buffer, "nic            0x0000000000005800     2048 from-device   device "));
    assert_non_null(
        strstr(buffer, "disk           0x0000000000010000     4096 coherent      both "));
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_FROM_DEVICE);
    text_init(&t, buffer, sizeof(buffer));
    dma_show_map(&t, 0);
    assert_non_null(strstr(buffer, "2048 from-device   cpu "));
    no_memory = true;
    text_init(&t, buffer, sizeof(buffer));
    dma_show_map(&t, 0);
    assert_non_null(strstr(buffer, "mappings 2, "));
}

static void the_proc_file_is_sorted(void **state)
{
    (void)state;
    static char buffer[60000];
    struct text t = TEXT_INIT(buffer);
    unsigned long long last = 0, bus;
    unsigned lines = 0;

    srand(5);
    for (unsigned i = 0; i < 300; i++) {
        map(i % 2 ? &nic : &disk, (uint64_t)(2 + i * 37 % 300) * 0x2000, 64, DMA_TO_DEVICE);
    }
    dma_show_map(&t, 0);
    bool seen_nic = false;
    for (char *line = strchr(strchr(buffer, '\n') + 1, '\n') + 1; *line;
         line = strchr(line, '\n') + 1) {
        bool is_nic = strncmp(line, "nic ", 4) == 0;

        if (is_nic && !seen_nic) {
            seen_nic = true;
            last = 0;
        }
        assert_int_equal(is_nic, seen_nic); // all of the disk's stand before
        assert_int_equal(sscanf(line, "%*s %llx", &bus), 1);
        assert_true(bus > last);
        last = bus;
        lines++;
    }
    assert_int_equal(lines, 300);
}

// A thousand rounds of maps and unmaps against a list that a child could check.
static void random_traffic(void **state)
{
    (void)state;
    enum { SLOTS = 400 };
    static struct {
        size_t size;
        dma_addr_t handle;
    } slot[SLOTS];
    unsigned live = 0;

    srand(3);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = (unsigned)rand() % SLOTS;
        struct device *dev = i % 2 ? &nic : &disk;
        enum dma_data_direction direction = (enum dma_data_direction)(i % 3);

        if (slot[i].size == 0) {
            slot[i].size = 1 + (size_t)rand() % (i % 50 == 0 ? 65536 : 2048);
            slot[i].handle = map(dev, 0x10000 + (uint64_t)i * 0x10000, slot[i].size, direction);
            live++;
        } else {
            dma_unmap_single(dev, slot[i].handle, slot[i].size, direction);
            slot[i].size = 0;
            live--;
        }
        assert_int_equal(dma_live, live);
        assert_int_equal(dma_outstanding(&nic) + dma_outstanding(&disk), live);
    }
    quiet();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(mapped_twice, reset),
        cmocka_unit_test_setup(overlaps_are_found, reset),
        cmocka_unit_test_setup(freed_while_a_device_owns_it, reset),
        cmocka_unit_test_setup(unmapped_twice, reset),
        cmocka_unit_test_setup(never_mapped, reset),
        cmocka_unit_test_setup(another_size, reset),
        cmocka_unit_test_setup(another_direction, reset),
        cmocka_unit_test_setup(another_device, reset),
        cmocka_unit_test_setup(another_kind, reset),
        cmocka_unit_test_setup(wrong_syncs, reset),
        cmocka_unit_test_setup(strict_sees_the_cpu_write, reset),
        cmocka_unit_test_setup(strict_sees_more_of_copies, reset),
        cmocka_unit_test_setup(records_run_out, reset),
        cmocka_unit_test_setup(no_memory_for_records, reset),
        cmocka_unit_test_setup(switched_off, reset),
        cmocka_unit_test_setup(reports_are_bounded, reset),
        cmocka_unit_test_setup(the_proc_file, reset),
        cmocka_unit_test_setup(the_proc_file_is_sorted, reset),
        cmocka_unit_test_setup(random_traffic, reset),
    };

    return cmocka_run_group_tests_name("dma_debug", tests, NULL, NULL);
}
