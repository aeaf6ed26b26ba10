// ATA: commands and the bits of their registers, whatever bus they travel on. AT Attachment 8 -
// ATA/ ATAPI Command Set (ATA8-ACS, T13/1699-D revision 6a). Facts only.
#pragma once

enum ata_command {
    ATA_READ_DMA = 0xc8,        // 7.24
    ATA_READ_DMA_EXT = 0x25,    // 7.25
    ATA_WRITE_DMA = 0xca,       // 7.60
    ATA_WRITE_DMA_EXT = 0x35,   // 7.61
    ATA_FLUSH_CACHE = 0xe7,     // 7.10
    ATA_FLUSH_CACHE_EXT = 0xea, // 7.11
    ATA_IDENTIFY_DEVICE = 0xec, // 7.16
    ATA_READ_LOG_EXT = 0x2f,
    ATA_READ_SECTORS = 0x20, // by PIO, as the next three
    ATA_READ_SECTORS_EXT = 0x24,
    ATA_WRITE_SECTORS = 0x30,
    ATA_WRITE_SECTORS_EXT = 0x34,
    // SATA 3.0, 13.6.4
    ATA_READ_FPDMA_QUEUED = 0x60,
    ATA_WRITE_FPDMA_QUEUED = 0x61,
};
enum { ATA_LOG_NCQ_ERROR = 0x10 }; // ATA8-ACS, A.13; SATA 3.0, 13.7
#define ATA_DEVICE_LBA 0x40        // device register: the address is an LBA

#define ATA_STATUS_ERR 0x01
#define ATA_STATUS_DRQ 0x08
#define ATA_STATUS_DF  0x20
#define ATA_STATUS_BSY 0x80
