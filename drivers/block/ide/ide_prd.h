// The bus master's scatter list. Pure, tested on the host.
#pragma once

#include <lib/types.h>

#include "ide_regs.h"

// Adds [bus, bus + bytes) behind the first `count` of `most` entries, cut where it crosses 64 KiB.
// The new count, or -EINVAL: an odd address or length, an address beyond 4 GiB, no room.
int ide_prd_add(struct ide_prd *table, unsigned count, unsigned most, uint64_t bus, uint32_t bytes);
// Marks the last of `count` entries; at least one.
void ide_prd_end(struct ide_prd *table, unsigned count);
