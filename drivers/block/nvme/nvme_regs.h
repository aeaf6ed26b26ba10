// NVM Express Base Specification 1.4c: registers (chapter 3), data structures (chapter 4), admin
// commands (chapter 5), NVM commands (chapter 6); where revision 2.0 moved a thing, its section
// follows behind a slash. Facts only. Offsets are bytes from BAR 0.
#pragma once

#include <lib/text.h>
#include <lib/types.h>

enum {
    NVME_BAR = 0,
    NVME_REGISTERS_SIZE = 0x1000, // what stands before the doorbells
    NVME_PAGE_SHIFT = 12,         // CC.MPS = 0: the controller's pages are the CPU's
    NVME_PAGE_SIZE = 1 << NVME_PAGE_SHIFT,
};

// ---- the controller: 3.1 ------------------------------------------------------------------------
enum nvme_register {
    NVME_CAP = 0x00,         // 3.1.1 what it can, 64 bits
    NVME_VS = 0x08,          // 3.1.2 version
    NVME_INTMS = 0x0c,       // 3.1.3 write ones: masks; not with MSI-X
    NVME_INTMC = 0x10,       // 3.1.4 write ones: unmasks; likewise
    NVME_CC = 0x14,          // 3.1.5 switches
    NVME_CSTS = 0x1c,        // 3.1.6 how it is
    NVME_AQA = 0x24,         // 3.1.8 sizes of the admin queues
    NVME_ASQ = 0x28,         // 3.1.9 where the admin queues lie, 64 bits each
    NVME_ACQ = 0x30,         // 3.1.10
    NVME_DOORBELLS = 0x1000, // 3.1.24: submission tail 0, completion head 0, submission tail 1 ...
};

// CAP, 3.1.1
#define NVME_CAP_MQES(cap)   ((uint32_t)((cap)&0xffff) + 1)         // entries of an I/O queue
#define NVME_CAP_TO_MS(cap)  ((uint32_t)((cap) >> 24 & 0xff) * 500) // worst time of RDY's change
#define NVME_CAP_DSTRD(cap)  (4u << ((cap) >> 32 & 0xf))            // bytes between doorbells
#define NVME_CAP_CSS_NVM     BIT64(37)                              // speaks the NVM command set
#define NVME_CAP_MPSMIN(cap) ((uint32_t)((cap) >> 48 & 0xf) + 12)   // smallest page, log2

// CC, 3.1.5
#define NVME_CC_EN         BIT(0)
#define NVME_CC_SHN_NORMAL (1u << 14) // shut down, nothing is lost
#define NVME_CC_SHN_MASK   (3u << 14)
#define NVME_CC_IOSQES     (6u << 16) // submission entries of 2^6 bytes
#define NVME_CC_IOCQES     (4u << 20) // completion entries of 2^4 bytes

// CSTS, 3.1.6
#define NVME_CSTS_RDY       BIT(0)
#define NVME_CSTS_CFS       BIT(1) // fatal: only a reset helps
#define NVME_CSTS_SHST_MASK (3u << 2)
#define NVME_CSTS_SHST_DONE (2u << 2)
#define NVME_CSTS_NSSRO     BIT(4)
#define NVME_CSTS_PP        BIT(5) // processing is paused

// ---- commands -----------------------------------------------------------------------------------
enum nvme_admin_opcode {            // 5, figure 139
    NVME_ADMIN_DELETE_SQ = 0x00,    // 5.6
    NVME_ADMIN_CREATE_SQ = 0x01,    // 5.4
    NVME_ADMIN_GET_LOG = 0x02,      // 5.14
    NVME_ADMIN_DELETE_CQ = 0x04,    // 5.5
    NVME_ADMIN_CREATE_CQ = 0x05,    // 5.3
    NVME_ADMIN_IDENTIFY = 0x06,     // 5.15
    NVME_ADMIN_ABORT = 0x08,        // 5.1
    NVME_ADMIN_SET_FEATURES = 0x09, // 5.21
    NVME_ADMIN_ASYNC_EVENT = 0x0c,  // 5.2
};
enum nvme_io_opcode {     // 6, figure 346
    NVME_IO_FLUSH = 0x00, // 6.8
    NVME_IO_WRITE = 0x01, // 6.15
    NVME_IO_READ = 0x02,  // 6.9
};
enum { NVME_CNS_NAMESPACE = 0, NVME_CNS_CONTROLLER = 1, NVME_CNS_ACTIVE_LIST = 2 }; // 5.15.1
enum { NVME_FEATURE_QUEUES = 7, NVME_FEATURE_ASYNC = 0x0b };                        // 5.21.1

#define NVME_QUEUE_CONTIGUOUS BIT(0) // CDW11 of the two Create commands
#define NVME_CQ_INTERRUPTS    BIT(1)
#define NVME_PSDT_SGL         (1u << 14) // CDW0: the data pointer is an SGL, 4.2

// A command, 4.2, figure 105. `prp` is the data pointer: two PRPs, or one SGL descriptor.
struct nvme_sqe {
    uint32_t cdw0; // identifier 31:16, PSDT 15:14, opcode 7:0
    uint32_t nsid;
    uint32_t cdw2, cdw3;
    uint64_t metadata;
    uint64_t prp[2];
    uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_sqe) == 64, "NVMe 1.4, 4.2");
_Static_assert(offsetof(struct nvme_sqe, prp) == 24, "NVMe 1.4, figure 105");

// A completion, 4.6, figure 121. All of it is written by the device.
struct nvme_cqe {
    uint32_t result; // DW0: of the command
    uint32_t reserved;
    uint16_t sq_head; // how far the device has read its commands
    uint16_t sq_id;   // of which queue
    uint16_t cid;     // of which command
    uint16_t status;  // phase 0; status code 8:1, its type 11:9, more 14, do not retry 15
};
_Static_assert(sizeof(struct nvme_cqe) == 16, "NVMe 1.4, 4.6");

#define NVME_CQE_PHASE 1u
// Status code and type in one, 4.6.1: 0x000 success, 0x281 unrecovered read error.
#define NVME_CQE_STATUS(status) ((status) >> 1 & 0x7ff)
#define NVME_CQE_DNR            0x8000u

enum nvme_status { // 4.6.1, figures 126 to 130
    NVME_SC_SUCCESS = 0x000,
    NVME_SC_ABORTED = 0x007,
    NVME_SC_SQ_DELETED = 0x008,
    NVME_SC_WRITE_PROTECTED = 0x020,
    NVME_SC_LBA_RANGE = 0x080,
    NVME_SC_CAPACITY = 0x081,
    NVME_SC_READ_ONLY = 0x182,
    NVME_SC_WRITE_FAULT = 0x280,
    NVME_SC_READ_ERROR = 0x281,
};

// An SGL descriptor, 4.4. Of its types only two are needed: a piece of data, and where the last
// segment of descriptors lies.
struct nvme_sgl {
    uint64_t address;
    uint32_t length;
    uint8_t reserved[3];
    uint8_t type;
};
_Static_assert(sizeof(struct nvme_sgl) == 16, "NVMe 1.4, 4.4.1");
enum { NVME_SGL_DATA = 0x00, NVME_SGL_LAST_SEGMENT = 0x30 };

// ---- Identify: 5.15.2 ---------------------------------------------------------------------------
enum { NVME_IDENTIFY_SIZE = 4096 };

enum nvme_identify_controller { // figure 247: offsets
    NVME_IDC_SERIAL = 4,        // 20 characters
    NVME_IDC_MODEL = 24,        // 40
    NVME_IDC_FIRMWARE = 64,     // 8
    NVME_IDC_MDTS = 77,         // most data of a command: 2^n pages of CAP.MPSMIN; 0: no limit
    NVME_IDC_AERL = 259,        // how many event requests it keeps, less one
    NVME_IDC_SQES = 512,        // 3:0: size of a submission entry that it needs, log2
    NVME_IDC_CQES = 513,
    NVME_IDC_NN = 516,   // namespaces: the highest number
    NVME_IDC_VWC = 525,  // 0: there is a volatile write cache
    NVME_IDC_SGLS = 536, // 1:0: SGLs; 2: they must be dword aligned is 2, any is 1
};
enum nvme_identify_namespace { // figure 245: offsets
    NVME_IDN_NSZE = 0,         // size in logical blocks
    NVME_IDN_NLBAF = 25,       // LBA formats, less one
    NVME_IDN_FLBAS = 26,       // which one it has, 3:0
    NVME_IDN_DPS = 29,         // 2:0: protection information
    NVME_IDN_NSATTR = 99,      // 0: write protected
    NVME_IDN_LBAF = 128,       // formats of 4 bytes: metadata 15:0, size log2 23:16
};
