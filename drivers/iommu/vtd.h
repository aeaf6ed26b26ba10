// What the files of the VT-d driver share. Reading order: vtd.c (the story, attaching devices),
// vtd_unit.c (registers, the invalidation queue), vtd_domain.c (tables), vtd_fault.c, vtd_remap.c.
#pragma once

#include <contract/device.h>
#include <core/io.h>
#include <core/spinlock.h>
#include <lib/types.h>

#include "vtd_regs.h"

// Bus addresses that a domain gives out: from 1 MiB (so that a NULL or small number stays a fault)
// up to 1 GiB (below the window of message interrupts, within most devices' reach).
#define VTD_FIRST_ADDRESS 0x00100000ull
#define VTD_END_ADDRESS   0x40000000ull

enum {
    VTD_QUEUE_SIZE = 256, // descriptors: one page
    VTD_MAX_DOMAINS = 64,
    VTD_LAZY = 64, // unmapped ranges that wait for one flush
};

struct vtd_unit {
    unsigned index;               // I: dmar0, dmar1, ...
    uint8_t __iomem *regs;        // I
    uint64_t cap, ecap;           // I
    unsigned levels;              // I: of a domain's tables: 3 or 4
    struct spinlock lock;         // the tables of contexts, GCMD, the queue
    struct vtd_root_entry *roots; // L
    struct vtd_descriptor *queue; // L; D reads it
    unsigned tail;                // L: next free descriptor
    uint32_t sequence;            // L: of the last wait descriptor
    uint32_t *done;               // D: sequence of the last one that is done
    bool broken;                  // L: it stopped answering: said once
    uint64_t flushes;             // L
    int irq;                      // I: of its faults; -1
    uint64_t faults, faults_lost; // L
};

// A device's view of memory: every device has one of its own, or all that arrive under one name.
struct vtd_domain {
    uint16_t id;                 // I: 1 ..
    struct vtd_unit *unit;       // I
    char name[24];               // I: of the (first) device: "0000:00:03.0"
    uint16_t segment, requester; // I: as whom it arrives (struct device: source)
    bool passes;                 // I: iommu=pt: addresses go through as they are
    bool denied;                 // L of the unit: its context entry is taken out
    uint64_t faults;             // L of the unit
    struct spinlock lock;
    uint64_t *root;        // L: the top table; entries D reads
    uint64_t *used;        // L: a bit for each page of [VTD_FIRST_ADDRESS, VTD_END_ADDRESS)
    unsigned cursor;       // L: where the next search starts
    unsigned tables;       // L: pages of tables
    unsigned pages;        // L: mapped now
    uint64_t maps, unmaps; // L
    struct vtd_range {
        unsigned first, count; // pages
    } lazy[VTD_LAZY];          // L: unmapped, but the unit may still remember them
    unsigned lazy_count;
};

// ---- vtd_unit.c ----

uint32_t vtd_rd(const struct vtd_unit *unit, enum vtd_register reg);
uint64_t vtd_rd64(const struct vtd_unit *unit, enum vtd_register reg);
void vtd_wr(const struct vtd_unit *unit, enum vtd_register reg, uint32_t value);
void vtd_wr64(const struct vtd_unit *unit, enum vtd_register reg, uint64_t value);
// Maps the registers at `base`, checks what the unit can, makes its queue, turns off what firmware
// left on. 0; -ENODEV: it cannot do what we need (said), -ENOMEM, -ETIMEDOUT. Context: boot.
int vtd_unit_init(struct vtd_unit *unit, unsigned index, uint64_t base);
// Changes one bit of GCMD and waits (bounded) until GSTS follows. 0 or -ETIMEDOUT (said).
int vtd_unit_command(struct vtd_unit *unit, uint32_t bit, bool on);
// Gives the unit up to three descriptors and waits (bounded) until they are done. Context: any.
void vtd_unit_invalidate(struct vtd_unit *unit, const struct vtd_descriptor *work, unsigned count);

// ---- vtd_domain.c ----

// Context: any.
struct vtd_domain *vtd_domain_create(struct vtd_unit *unit, uint16_t id);
// Bus address of [phys, +size), UINT64_MAX: no room below `limit`, no memory.
uint64_t vtd_domain_map(struct vtd_domain *domain, uint64_t phys, uint64_t size, uint64_t bits,
                        uint64_t limit);
// At its own address, for memory that firmware reserved. 0 or -ENOMEM.
int vtd_domain_map_same(struct vtd_domain *domain, uint64_t start, uint64_t end);
// `strict`: forgotten by the unit before this returns. Else soon.
void vtd_domain_unmap(struct vtd_domain *domain, uint64_t bus, uint64_t size, bool strict);
void vtd_domain_flush_lazy(struct vtd_domain *domain);
// Physical address behind a bus address, UINT64_MAX: none.
uint64_t vtd_domain_translate(struct vtd_domain *domain, uint64_t bus);

// ---- vtd_fault.c ----

int vtd_fault_start(struct vtd_unit *unit); // context: thread
void vtd_fault_clear(struct vtd_unit *unit);

// ---- vtd_remap.c ----

// All units at once, or none. 0, -ENODEV, -ENOMEM, -ETIMEDOUT. Context: boot.
int vtd_remap_start(struct vtd_unit *units, unsigned count);

// ---- vtd.c ----

// The domain that has this identifier on the bus; NULL. Context: any.
struct vtd_domain *vtd_domain_of_requester(const struct vtd_unit *unit, uint16_t requester);
int vtd_ioapic_source(uint32_t ioapic_id); // -1: the table does not say. Context: any.
