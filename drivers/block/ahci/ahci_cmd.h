// Commands as bytes, as an AHCI controller fetches them: no registers, no memory management, tested
// on the host.
#pragma once

#include <lib/types.h>

#include "../ata/ata.h"
#include "../ata/atapi.h"
#include "ahci_regs.h"

// Writes the register FIS, 20 bytes.
void ahci_build_fis(uint8_t *fis, const struct ata_registers *regs);

// A packet for a CD drive, which moves its data by DMA: FIS and packet into a slot's table, whose
// header must say AHCI_HEADER_ATAPI.
void ahci_build_packet(uint8_t *table, const struct atapi_packet *packet,
                       const struct atapi_identity *drive);

// One entry of the scatter list. 0; -EINVAL: odd address, odd or zero length, more than 4 MiB.
int ahci_build_prd(struct ahci_prd *prd, uint64_t bus_address, uint32_t bytes);

// The header of a slot whose table lies at `table`.
void ahci_build_header(struct ahci_command_header *header, uint64_t table, unsigned prd_count,
                       bool write);
