// Packets: ATA8-ACS (T13/1699-D revision 6a), 7.17 and 7.21; SCSI Primary Commands 3 (SPC-3, T10/
// 1416-D revision 23), 4.5 and 6; Multi-Media Commands 5 (MMC-5, T10/1675-D revision 4), 6. Facts
// only.
#pragma once

enum atapi_ata_command {
    ATA_PACKET = 0xa0,                 // ATA8-ACS, 7.21
    ATA_IDENTIFY_PACKET_DEVICE = 0xa1, // 7.17
};
// Features register of PACKET
#define ATAPI_FEATURE_DMA       0x01
#define ATAPI_FEATURE_TO_MEMORY 0x04 // for drives behind a bridge that must be told

enum {
    ATAPI_PACKET_LEAST = 12,
    ATAPI_PACKET_MOST = 16,
    ATAPI_SENSE_SIZE = 18,
    ATAPI_INQUIRY_SIZE = 36,
    ATAPI_CAPACITY_SIZE = 8,
};

enum atapi_operation {
    ATAPI_TEST_UNIT_READY = 0x00, // SPC-3, 6.33
    ATAPI_REQUEST_SENSE = 0x03,   // 6.27
    ATAPI_INQUIRY = 0x12,         // 6.4
    ATAPI_READ_CAPACITY = 0x25,   // MMC-5, 6.30
    ATAPI_READ_10 = 0x28,         // 6.21
};

enum { ATAPI_TYPE_CD = 5 }; // SPC-3, 6.4.2: peripheral device type

enum atapi_sense_key { // SPC-3, table 27
    SENSE_NO_SENSE = 0x0,
    SENSE_RECOVERED_ERROR = 0x1,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_HARDWARE_ERROR = 0x4,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
    SENSE_DATA_PROTECT = 0x7,
    SENSE_BLANK_CHECK = 0x8,
    SENSE_VENDOR = 0x9,
    SENSE_COPY_ABORTED = 0xa,
    SENSE_ABORTED_COMMAND = 0xb,
};

enum atapi_asc { // SPC-3, annex D
    ASC_NOT_READY = 0x04,
    ASC_MEDIUM_CHANGED = 0x28,
    ASC_RESET = 0x29,
    ASC_NO_MEDIUM = 0x3a,
};
