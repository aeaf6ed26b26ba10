// Lists memory for the bus master:
//
//   table  [ base | bytes | 0 ] [ base | bytes | 0 ] ... [ base | bytes | last ]
//
// Programming Interface for Bus Master IDE Controller 1.0, 1.2. Pure. Next: ide.c.
#include "ide_prd.h"

#include <lib/errno.h>

int ide_prd_add(struct ide_prd *table, unsigned count, unsigned most, uint64_t bus, uint32_t bytes)
{
    if ((bus & 1) != 0 || (bytes & 1) != 0 || bytes == 0 || bus + bytes > BIT64(32)) {
        return -EINVAL;
    }
    while (bytes > 0) {
        uint32_t part = min(bytes, IDE_PRD_BOUNDARY - (uint32_t)(bus & (IDE_PRD_BOUNDARY - 1)));

        if (count == most) {
            return -EINVAL;
        }
        table[count++] = (struct ide_prd){.base = (uint32_t)bus, .bytes = (uint16_t)part};
        bus += part;
        bytes -= part;
    }
    return (int)count;
}

void ide_prd_end(struct ide_prd *table, unsigned count)
{
    table[count - 1].flags = IDE_PRD_LAST;
}
