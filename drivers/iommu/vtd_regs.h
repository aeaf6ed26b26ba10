// Registers and structures of Intel's remapping hardware. Intel Virtualization Technology for
// Directed I/O (VT-d), Architecture Specification, rev. 3.3: registers section 10.4, DMA tables 9.1
// to 9.8, invalidation descriptors 6.5.2, interrupt remapping 5.1 and 9.9. Facts only.
#pragma once

#include <lib/types.h>

enum vtd_register {
    VTD_VER = 0x00,
    VTD_CAP = 0x08,    // 64 bits
    VTD_ECAP = 0x10,   // 64 bits
    VTD_GCMD = 0x18,   // write: what to change, and all that shall stay on
    VTD_GSTS = 0x1c,   // what is on, and what has been done
    VTD_RTADDR = 0x20, // 64 bits: the root table
    VTD_FSTS = 0x34,
    VTD_FECTL = 0x38,
    VTD_FEDATA = 0x3c,
    VTD_FEADDR = 0x40,
    VTD_FEUADDR = 0x44,
    VTD_PMEN = 0x64,
    VTD_IQH = 0x80,  // 64 bits: what the unit reads next
    VTD_IQT = 0x88,  // 64 bits: what software writes next
    VTD_IQA = 0x90,  // 64 bits: the queue
    VTD_IRTA = 0xb8, // 64 bits: the interrupt remapping table
    VTD_MEMORY_SIZE = 0x1000,
};

// CAP, 10.4.2
#define VTD_CAP_DOMAINS   0x7ull    // n: 16 << 2n domains
#define VTD_CAP_RWBF      BIT64(4)  // write buffers want flushing
#define VTD_CAP_CM        BIT64(7)  // caching mode: non-present entries are cached too
#define VTD_CAP_SAGAW_39  BIT64(9)  // three levels of tables
#define VTD_CAP_SAGAW_48  BIT64(10) // four
#define VTD_CAP_MGAW(cap) (((cap) >> 16 & 0x3f) + 1)   // bits of a bus address
#define VTD_CAP_FRO(cap)  (((cap) >> 24 & 0x3ff) * 16) // where the fault records are
#define VTD_CAP_NFR(cap)  (((cap) >> 40 & 0xff) + 1)   // how many
#define VTD_CAP_PSI       BIT64(39)                    // may invalidate single pages
#define VTD_CAP_MAMV(cap) ((cap) >> 48 & 0x3f)         // at most 2^n of them at once

// ECAP, 10.4.3
#define VTD_ECAP_COHERENT BIT64(0) // looks into the CPUs' caches when it reads tables
#define VTD_ECAP_QI       BIT64(1) // queued invalidation
#define VTD_ECAP_IR       BIT64(3) // interrupt remapping
#define VTD_ECAP_EIM      BIT64(4) // with x2APIC identifiers
#define VTD_ECAP_PT       BIT64(6) // pass-through

// GCMD and GSTS, 10.4.4 and 10.4.5: the same bits
#define VTD_TE        BIT(31) // translation
#define VTD_RTP       BIT(30) // take the root table's address
#define VTD_WBF       BIT(27) // flush write buffers
#define VTD_QIE       BIT(26) // queued invalidation
#define VTD_IRE       BIT(25) // interrupt remapping
#define VTD_IRTP      BIT(24) // take the interrupt table's address
#define VTD_CFI       BIT(23) // compatibility-format interrupts pass
#define VTD_GSTS_ONCE (VTD_RTP | BIT(29) | BIT(28) | VTD_WBF | VTD_IRTP) // not to be written back

// FSTS, 10.4.9
#define VTD_FSTS_OVERFLOW     BIT(0)
#define VTD_FSTS_PENDING      BIT(1)
#define VTD_FSTS_QUEUE_ERRORS (BIT(4) | BIT(5) | BIT(6))
#define VTD_FSTS_RECORD(fsts) ((fsts) >> 8 & 0xff) // the oldest

// FECTL, 10.4.10
#define VTD_FECTL_MASKED BIT(31)

// Fault record, 10.4.14: two words of 64 bits
enum { VTD_FAULT_SIZE = 16 };
#define VTD_FAULT_ADDRESS(low) ((low) & ~0xfffull)
#define VTD_FAULT_INDEX(low)   ((unsigned)((low) >> 48)) // of an interrupt
#define VTD_FAULT_SOURCE(high) ((uint16_t)(high))
#define VTD_FAULT_REASON(high) ((uint8_t)((high) >> 32))
#define VTD_FAULT_READ         BIT64(62)
#define VTD_FAULT_VALID        BIT64(63) // write 1 to clear
#define VTD_FAULT_VALID_HIGH   BIT(31)   // the same, in the last 32 bits
enum { VTD_REASON_INTERRUPT = 0x20 };    // this and above: an interrupt was refused

// Root and context entries, 9.1 and 9.3
struct vtd_root_entry {
    uint64_t low, high;
};
struct vtd_context_entry {
    uint64_t low, high;
};
_Static_assert(sizeof(struct vtd_root_entry) == 16, "9.1");
_Static_assert(sizeof(struct vtd_context_entry) == 16, "9.3");
#define VTD_PRESENT            BIT64(0)
#define VTD_CONTEXT_PASS       (2ull << 2) // translation type: addresses go through as they are
#define VTD_CONTEXT_WIDTH(n)   ((n)-2ull)  // levels 3, 4: address width 1, 2
#define VTD_CONTEXT_DOMAIN(id) ((uint64_t)(id) << 8)

// Second-level entry, 9.8
#define VTD_PTE_READ    BIT64(0)
#define VTD_PTE_WRITE   BIT64(1)
#define VTD_PTE_ADDRESS 0x000ffffffffff000ull

// Invalidation descriptors, 6.5.2: two words of 64 bits
struct vtd_descriptor {
    uint64_t low, high;
};
_Static_assert(sizeof(struct vtd_descriptor) == 16, "6.5.2");
#define VTD_INV_CONTEXT_ALL     (1ull | 1ull << 4)
#define VTD_INV_CONTEXT_DEVICE  (1ull | 3ull << 4)
#define VTD_INV_IOTLB_ALL       (2ull | 1ull << 4)
#define VTD_INV_IOTLB_DOMAIN    (2ull | 2ull << 4)
#define VTD_INV_IOTLB_PAGES     (2ull | 3ull << 4)
#define VTD_INV_IOTLB_DRAIN     (BIT64(6) | BIT64(7)) // writes and reads under way come first
#define VTD_INV_DOMAIN(id)      ((uint64_t)(id) << 16)
#define VTD_INV_SOURCE(id)      ((uint64_t)(id) << 32)
#define VTD_INV_INTERRUPTS_ALL  4ull
#define VTD_INV_INTERRUPT       (4ull | 1ull << 4)
#define VTD_INV_INDEX(index)    ((uint64_t)(index) << 32)
#define VTD_INV_WAIT            (5ull | 1ull << 5) // writes a word when all before is done
#define VTD_INV_WAIT_DATA(data) ((uint64_t)(data) << 32)

// Interrupt remapping table entry, 9.9
struct vtd_irte {
    uint64_t low, high;
};
_Static_assert(sizeof(struct vtd_irte) == 16, "9.9");
#define VTD_IRTE_LEVEL        BIT64(4)
#define VTD_IRTE_VECTOR(v)    ((uint64_t)(v) << 16)
#define VTD_IRTE_XAPIC(id)    ((uint64_t)((id)&0xff) << 40)
#define VTD_IRTE_X2APIC(id)   ((uint64_t)(id) << 32)
#define VTD_IRTE_CHECK_SOURCE (1ull << 18) // all 16 bits of the requester's identifier
#define VTD_IRTA_X2APIC       BIT64(11)
#define VTD_IRTA_SIZE(log2)   ((log2)-1ull)
