// Data pointers of NVMe commands: see nvme_prp.h for the picture.
//
// Pieces that follow each other in memory need not begin at a page: they go on where the last one
// ended.
//
// NVMe 1.4, 4.3, 4.4. Context: any. Next: nvme_disk.c, which maps the memory.
#include "nvme_prp.h"

#include <lib/errno.h>
#include <lib/string.h>

void nvme_prp_begin(struct nvme_prp_builder *b, uint64_t prp[2], uint64_t *list, uint64_t list_bus)
{
    *b = (struct nvme_prp_builder){.prp = prp, .list = list, .list_bus = list_bus};
    prp[0] = prp[1] = 0;
}

// The first page goes into the command, the second and the rest into the list, until it is known
// that there are only two.
static int nvme_prp_entry(struct nvme_prp_builder *b, uint64_t page)
{
    if (b->count == 0) {
        b->prp[0] = page;
    } else if (b->count == 1) {
        b->prp[1] = page;
    } else if (b->list == NULL || b->count > NVME_LIST_PRPS) {
        return -E2BIG;
    }
    if (b->count > 0 && b->list != NULL) {
        b->list[b->count - 1] = page;
    }
    b->count++;
    return 0;
}

int nvme_prp_add(struct nvme_prp_builder *b, uint64_t bus, uint32_t length)
{
    const uint64_t in_page = NVME_PAGE_SIZE - 1;
    uint64_t end = bus + length;

    if (b->count == 0) {
        if ((bus & 3) != 0) {
            return -EINVAL; // 4.3: bits 1:0 of an offset are 0
        }
        int error = nvme_prp_entry(b, bus);
        b->next = (bus & ~in_page) + NVME_PAGE_SIZE;
        if (error != 0) {
            return error;
        }
    } else if (bus != b->end) {
        if (((b->end | bus) & in_page) != 0) {
            return -EINVAL; // a hole within a page
        }
        b->next = bus;
    }
    for (; b->next < end; b->next += NVME_PAGE_SIZE) {
        int error = nvme_prp_entry(b, b->next);
        if (error != 0) {
            return error;
        }
    }
    b->end = end;
    return 0;
}

void nvme_prp_end(struct nvme_prp_builder *b)
{
    if (b->count > 2) {
        b->prp[1] = b->list_bus;
    }
}

void nvme_sgl_add(struct nvme_sgl *list, unsigned index, uint64_t bus, uint32_t length)
{
    list[index] = (struct nvme_sgl){.address = bus, .length = length, .type = NVME_SGL_DATA};
}

void nvme_sgl_end(uint64_t prp[2], const struct nvme_sgl *list, uint64_t list_bus, unsigned count)
{
    struct nvme_sgl whole = list[0];
    if (count > 1) {
        whole = (struct nvme_sgl){.address = list_bus,
                                  .length = (uint32_t)(count * sizeof(struct nvme_sgl)),
                                  .type = NVME_SGL_LAST_SEGMENT};
    }
    memcpy(prp, &whole, sizeof(whole));
}
