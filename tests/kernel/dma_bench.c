// What lending memory to a device costs: a page alone, and many in a row before any is taken back.
// With intel_iommu=on the same with translation: strict and lazy (iommu.strict=0) differ here.
#include <contract/bench.h>
#include <mm/page.h>
#include <dma/dma.h>
#include <pci/pci.h>

enum { DMA_BENCH_LOOPS = 500, DMA_BENCH_BATCH = 32 };

// A device that some unit serves: translation is by requester.
static struct pci_dev *dma_bench_device(void)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (dev->dev.driver != NULL) {
            return dev;
        }
    }
    return NULL;
}

static void dma_bench(struct bench_run *bench, unsigned batch)
{
    static dma_addr_t handles[DMA_BENCH_BATCH];
    struct pci_dev *dev = dma_bench_device();
    char *block = alloc_pages(GFP_KERNEL, page_order(batch * PAGE_SIZE));

    if (dev == NULL || block == NULL) {
        bench->skip = dev == NULL ? "no device with a driver" : "no memory";
    }
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < DMA_BENCH_LOOPS; i += batch) {
            for (unsigned j = 0; j < batch; j++) {
                handles[j] =
                    dma_map_single(&dev->dev, block + j * PAGE_SIZE, PAGE_SIZE, DMA_TO_DEVICE);
            }
            for (unsigned j = 0; j < batch; j++) {
                dma_unmap_single(&dev->dev, handles[j], PAGE_SIZE, DMA_TO_DEVICE);
            }
        }
        bench_stop(bench, ALIGN_UP(DMA_BENCH_LOOPS, batch));
    }
    if (block != NULL) {
        free_pages(block, page_order(batch * PAGE_SIZE));
    }
}

BENCH(dma, map, "a page mapped and unmapped")
{
    dma_bench(bench, 1);
}

BENCH(dma, map_32, "the same, 32 before the first is unmapped")
{
    dma_bench(bench, DMA_BENCH_BATCH);
}
