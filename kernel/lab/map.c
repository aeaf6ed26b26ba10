// `lab map-cost`: what it costs to lend memory to a device and to take it back, by how much is lent
// at a time, beside what it would cost to copy the same bytes.
//
//   many pieces  map map map ... map | unmap unmap ... unmap     a scatter list of single pages
//   one piece    map                 | unmap                     the same pages in a row
//
// Without translation a mapping is arithmetic and a record (dma_debug), whatever its size. With it,
// each page is an entry in a table, and the unmapping, in strict mode, a command to the unit that
// is waited for: once for each piece, however large that is. That is why large batches are what
// makes an IOMMU bearable, and why lazy unmapping (iommu.strict=0) waits for many pieces before it
// asks the unit once. The copy is what bounce buffers pay, and what all of it avoids.
//
// One run shows one way: boot with intel_iommu=on, with iommu.strict=0, with iommu=pt, and without,
// and lay the tables side by side. Each figure is the least of several rounds, so that interrupts
// do not count. An emulator makes the copy dearer than a machine does. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>
#include <iommu/iommu.h>
#include <pci/pci.h>

enum { MAP_MOST = 256, MAP_ROUNDS = 12 }; // pages; measurements of which the best counts

struct map_cost {
    uint64_t map, unmap; // ticks for the whole batch
};

struct map_lab {
    struct device *dev;
    char *pages, *copy; // MAP_MOST pages each, in one piece
    struct scatterlist list[MAP_MOST];
    uint64_t copy_ticks; // of the batch at hand
};

static const struct lab_column map_columns[] = {
    {"pages", 5},     {"as", -11},      {"map/page", 9},  {"unmap/page", 10},
    {"both/page", 9}, {"copy/page", 9}, {"of a copy", 9}, {NULL, 0},
};

// ---- measuring ----------------------------------------------------------------------------------

// `count` pages in `pieces` pieces of equal size. 0 or -ENOMEM.
static int map_once(struct map_lab *lab, unsigned count, unsigned pieces, struct map_cost *cost)
{
    size_t length = (size_t)count / pieces * PAGE_SIZE;

    for (unsigned i = 0; i < pieces; i++) {
        lab->list[i] = (struct scatterlist){.cpu = lab->pages + i * length, .length = length};
    }
    uint64_t start = rdtsc();
    unsigned mapped = dma_map_sg(lab->dev, lab->list, pieces, DMA_TO_DEVICE);
    uint64_t middle = rdtsc();
    if (mapped == 0) {
        return -ENOMEM;
    }
    dma_unmap_sg(lab->dev, lab->list, pieces, DMA_TO_DEVICE);
    uint64_t end = rdtsc();
    cost->map = min(cost->map, middle - start);
    cost->unmap = min(cost->unmap, end - middle);
    return 0;
}

static int map_measure(struct map_lab *lab, unsigned count, unsigned pieces, struct map_cost *cost)
{
    int error = 0;

    *cost = (struct map_cost){.map = UINT64_MAX, .unmap = UINT64_MAX};
    for (unsigned round = 0; round < MAP_ROUNDS && error == 0; round++) {
        error = map_once(lab, count, pieces, cost);
    }
    return error;
}

static uint64_t map_copy(struct map_lab *lab, unsigned count)
{
    uint64_t least = UINT64_MAX;

    for (unsigned round = 0; round < MAP_ROUNDS; round++) {
        uint64_t start = rdtsc();

        memcpy(lab->copy, lab->pages, (size_t)count * PAGE_SIZE);
        least = min(least, rdtsc() - start);
    }
    return least;
}

// ---- showing ------------------------------------------------------------------------------------

static void map_row(struct shell *sh, const struct map_lab *lab, unsigned count, unsigned pieces,
                    const struct map_cost *cost)
{
    char cells[7][24];
    const char *row[ARRAY_SIZE(cells)];
    uint64_t figures[] = {cost->map, cost->unmap, cost->map + cost->unmap, lab->copy_ticks};

    snprintf(cells[0], sizeof(cells[0]), "%u", count);
    snprintf(cells[1], sizeof(cells[1]), pieces == 1 ? "one piece" : "%u pieces", pieces);
    for (unsigned i = 0; i < ARRAY_SIZE(figures); i++) {
        snprintf(cells[2 + i], sizeof(cells[0]), "%llu", (unsigned long long)figures[i] / count);
    }
    snprintf(cells[6], sizeof(cells[0]), "%llu%%",
             (unsigned long long)(figures[2] * 100 / max(lab->copy_ticks, 1ull)));
    for (unsigned i = 0; i < ARRAY_SIZE(cells); i++) {
        row[i] = cells[i];
    }
    lab_row(sh, map_columns, row);
}

static int map_failed(struct shell *sh, int error)
{
    return shell_error(sh, "the pages could not be mapped: %s (cat /proc/dma-bounce, iommu)",
                       strerror(-error));
}

// The table; what the first and the last row of single pieces, and the last as one, cost per page.
static int map_table(struct shell *sh, struct map_lab *lab, uint64_t *alone, uint64_t *many,
                     uint64_t *together)
{
    struct map_cost cost;

    lab_table(sh, map_columns);
    for (unsigned count = 1; count <= MAP_MOST; count *= 4) {
        unsigned ways[] = {count, 1};

        if (shell_interrupted(sh)) {
            return 130;
        }
        lab->copy_ticks = map_copy(lab, count);
        for (unsigned i = count == 1 ? 1 : 0; i < ARRAY_SIZE(ways); i++) {
            int error = map_measure(lab, count, ways[i], &cost);
            if (error != 0) {
                return map_failed(sh, error);
            }
            uint64_t *keep = count == 1 ? alone : ways[i] == 1 ? together : many;
            *keep = (cost.map + cost.unmap) / count;
            map_row(sh, lab, count, ways[i], &cost);
        }
    }
    return 0;
}

// The claim: what a mapping costs, large batches carry. True for one large piece always; for many
// small ones only where the price is one of the batch, not of the piece.
static void map_verdict(struct shell *sh, const char *mode, uint64_t alone, uint64_t many,
                        uint64_t together)
{
    shell_printf(sh,
                 "\n\"Large batches dominate the cost of mapping\" (translation: %s): %s.\n"
                 "A page alone costs %llu ticks, one of %d in one piece %llu, one of %d pieces "
                 "%llu.\n",
                 mode,
                 together * 4 > alone ? "no, a page of a large piece costs nearly as much as one"
                 : many * 4 <= alone  ? "yes, for one large piece and for many small ones"
                                      : "yes for one large piece, no for many small ones",
                 (unsigned long long)alone, MAP_MOST, (unsigned long long)together, MAP_MOST,
                 (unsigned long long)many);
}

static struct device *map_find_device(void)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (dev->dev.driver != NULL) {
            return &dev->dev;
        }
    }
    return NULL;
}

static int map_run(struct shell *sh, struct map_lab *lab)
{
    uint64_t alone = 0, many = 0, together = 0;
    const char *mode = iommu_mode(lab->dev);

    shell_printf(sh,
                 "device %s, translation: %s, mappings are %s; ticks of the time stamp counter\n",
                 lab->dev->name, mode, dma_debug_is_on() ? "checked" : "not checked");
    int status = map_table(sh, lab, &alone, &many, &together);
    if (status == 0) {
        map_verdict(sh, mode, alone, many, together);
    }
    return status;
}

static int lab_map(struct shell *sh, int argc, char **argv)
{
    unsigned order = page_order((size_t)MAP_MOST * PAGE_SIZE);

    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    struct map_lab *lab = kzalloc(sizeof(*lab), GFP_KERNEL);
    if (lab == NULL) {
        return shell_error(sh, "no memory");
    }
    int status = 1;
    lab->dev = map_find_device();
    lab->pages = alloc_pages(GFP_KERNEL | GFP_ZERO, order);
    lab->copy = alloc_pages(GFP_KERNEL | GFP_ZERO, order);
    if (lab->dev == NULL) {
        status = shell_error(sh, "no device with a driver: start QEMU with a disk or a card");
    } else if (lab->pages == NULL || lab->copy == NULL) {
        status = shell_error(sh, "no memory for twice %d pages in a row", MAP_MOST);
    } else {
        status = map_run(sh, lab);
    }
    free_pages(lab->copy, order);
    free_pages(lab->pages, order);
    kfree(lab);
    return status;
}

LAB("map-cost", lab_map, "",
    "lending memory to a device and taking it back, by how much at a time");
