// Reads the ACPI table DMAR: a header, then structures of many kinds, each with a type and a
// length.
//
//   DMAR  [ unit: registers, flags | scope | scope ... ]  a remapping unit and the devices behind it
//         [ reserved: start, end   | scope ... ]          memory that those devices must keep
//         [ ... ]                                         kinds that nothing here needs: skipped
//
//   scope = type, identifier, start bus, path (slot, function)...
//
// Every length is the firmware's word: each is held against what is left before it is believed.
// Reserved memory is mapped page by page, so it has a bound, and must not be what the kernel uses.
// A scope whose path goes through bridges is left out with a note, since the bus behind a bridge is
// not known before the bus is scanned; a unit that takes all devices needs no scopes.
//
// VT-d specification rev. 3.3, 8.1 to 8.4. Context: any, boot.
#include <stdarg.h>
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>

#include "dmar.h"

enum {
    DMAR_HEADER = 48, // ACPI's 36 bytes, width, flags, reserved
    DMAR_AT_WIDTH = 36,
    DMAR_AT_FLAGS = 37,
    DMAR_FLAG_REMAP = 1,
    DMAR_FLAG_NO_X2APIC = 2,

    DMAR_TYPE_UNIT = 0,
    DMAR_TYPE_RESERVED = 1,
    DMAR_UNIT_SIZE = 16,
    DMAR_RESERVED_SIZE = 24,
    DMAR_SCOPE_SIZE = 6, // without its path
    DMAR_RESERVED_MOST =
        1 << 30, // bytes; a graphics card's, the largest there is, has some hundred MiB
};

static uint16_t dmar_16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint64_t dmar_64(const uint8_t *at)
{
    uint64_t value = 0;

    for (unsigned i = 8; i > 0; i--) {
        value = value << 8 | at[i - 1];
    }
    return value;
}

static void dmar_note(struct dmar *dmar, const char *format, ...) __printf(2, 3);
static void dmar_note(struct dmar *dmar, const char *format, ...)
{
    va_list args;

    if (dmar->note_count < DMAR_NOTES) {
        va_start(args, format);
        vsnprintf(dmar->notes[dmar->note_count++], sizeof(dmar->notes[0]), format, args);
        va_end(args);
    }
}

static void dmar_add_scope(struct dmar *dmar, const uint8_t *at, unsigned length, bool reserved,
                           unsigned owner)
{
    unsigned steps = (length - DMAR_SCOPE_SIZE) / 2;

    if (steps != 1) {
        dmar_note(dmar, "DMAR: a device behind %u bridges of bus %u is left out", steps - 1, at[5]);
        return;
    }
    if (dmar->scope_count == DMAR_MAX_SCOPES) {
        dmar_note(dmar, "DMAR: more than %d devices are named", DMAR_MAX_SCOPES);
        return;
    }
    dmar->scopes[dmar->scope_count++] = (struct dmar_scope){.type = at[0],
                                                            .id = at[4],
                                                            .bus = at[5],
                                                            .slot = at[6] & 0x1f,
                                                            .function = at[7] & 7,
                                                            .reserved = reserved,
                                                            .owner = (uint8_t)owner};
}

// The scopes fill the rest of their structure.
static void dmar_parse_scopes(struct dmar *dmar, const uint8_t *at, size_t left, bool reserved,
                              unsigned owner)
{
    while (left >= DMAR_SCOPE_SIZE) {
        unsigned length = at[1];

        if (length < DMAR_SCOPE_SIZE + 2 || length > left) {
            dmar_note(dmar, "DMAR: a device's entry is %u bytes long, %zu are left", length, left);
            return;
        }
        dmar_add_scope(dmar, at, length, reserved, owner);
        at += length;
        left -= length;
    }
}

static void dmar_parse_unit(struct dmar *dmar, const uint8_t *at, size_t length)
{
    if (length < DMAR_UNIT_SIZE || dmar->unit_count == DMAR_MAX_UNITS) {
        dmar_note(dmar, "DMAR: a unit of %zu bytes is left out", length);
        return;
    }
    uint64_t base = dmar_64(at + 8);
    if (base == 0 || base % 4096 != 0) {
        dmar_note(dmar, "DMAR: a unit at 0x%llx, which is no page", (unsigned long long)base);
        return;
    }
    for (unsigned i = 0; i < dmar->unit_count; i++) {
        if (dmar->units[i].base == base) {
            dmar_note(dmar, "DMAR: two units at 0x%llx, one is left out", (unsigned long long)base);
            return;
        }
    }
    dmar->units[dmar->unit_count] =
        (struct dmar_unit){.base = base, .segment = dmar_16(at + 6), .takes_all = (at[4] & 1) != 0};
    dmar_parse_scopes(dmar, at + DMAR_UNIT_SIZE, length - DMAR_UNIT_SIZE, false,
                      dmar->unit_count++);
}

static void dmar_parse_reserved(struct dmar *dmar, const uint8_t *at, size_t length)
{
    if (length < DMAR_RESERVED_SIZE || dmar->reserved_count == DMAR_MAX_RESERVED) {
        dmar_note(dmar, "DMAR: reserved memory in %zu bytes is left out", length);
        return;
    }
    uint64_t start = dmar_64(at + 8), end = dmar_64(at + 16);
    if (end < start || end - start >= DMAR_RESERVED_MOST || start % 4096 != 0) {
        dmar_note(dmar, "DMAR: reserved memory from 0x%llx to 0x%llx makes no sense",
                  (unsigned long long)start, (unsigned long long)end);
        return;
    }
    dmar->reserved[dmar->reserved_count] =
        (struct dmar_reserved){.start = start, .end = end, .segment = dmar_16(at + 6)};
    dmar_parse_scopes(dmar, at + DMAR_RESERVED_SIZE, length - DMAR_RESERVED_SIZE, true,
                      dmar->reserved_count++);
}

int dmar_parse(const uint8_t *table, size_t size, struct dmar *dmar)
{
    memset(dmar, 0, sizeof(*dmar));
    if (size < DMAR_HEADER || memcmp(table, "DMAR", 4) != 0) {
        return -EINVAL;
    }
    dmar->address_bits = (uint8_t)min(table[DMAR_AT_WIDTH] + 1u, 64u);
    dmar->can_remap_interrupts = (table[DMAR_AT_FLAGS] & DMAR_FLAG_REMAP) != 0;
    dmar->keep_x2apic_off = (table[DMAR_AT_FLAGS] & DMAR_FLAG_NO_X2APIC) != 0;
    for (size_t at = DMAR_HEADER; at + 4 <= size;) {
        unsigned type = dmar_16(table + at), length = dmar_16(table + at + 2);

        if (length < 4 || length > size - at) {
            dmar_note(dmar, "DMAR: a structure of %u bytes, %zu are left", length, size - at);
            break;
        }
        if (type == DMAR_TYPE_UNIT) {
            dmar_parse_unit(dmar, table + at, length);
        } else if (type == DMAR_TYPE_RESERVED) {
            dmar_parse_reserved(dmar, table + at, length);
        }
        at += length;
    }
    return dmar->unit_count > 0 ? 0 : -EINVAL;
}

void dmar_refuse_reserved(struct dmar *dmar, bool (*overlaps)(phys_t start, uint64_t size))
{
    for (unsigned i = 0; i < dmar->reserved_count; i++) {
        struct dmar_reserved *reserved = &dmar->reserved[i];

        reserved->refused = overlaps(reserved->start, reserved->end - reserved->start + 1);
        if (reserved->refused) {
            dmar_note(dmar, "DMAR: reserved memory from 0x%llx to 0x%llx is in use, left out",
                      (unsigned long long)reserved->start, (unsigned long long)reserved->end);
        }
    }
}

static uint16_t dmar_scope_id(const struct dmar_scope *scope)
{
    return (uint16_t)(scope->bus << 8 | scope->slot << 3 | scope->function);
}

static bool dmar_scope_has(const struct dmar_scope *scope, uint16_t requester, uint16_t upstream)
{
    return (scope->type == DMAR_ENDPOINT && dmar_scope_id(scope) == requester) ||
           (scope->type == DMAR_BRIDGE && dmar_scope_id(scope) == upstream);
}

int dmar_unit_of(const struct dmar *dmar, uint16_t segment, uint16_t requester, uint16_t upstream)
{
    for (unsigned i = 0; i < dmar->scope_count; i++) {
        const struct dmar_scope *scope = &dmar->scopes[i];

        if (!scope->reserved && dmar->units[scope->owner].segment == segment &&
            dmar_scope_has(scope, requester, upstream)) {
            return scope->owner;
        }
    }
    for (unsigned i = 0; i < dmar->unit_count; i++) {
        if (dmar->units[i].takes_all && dmar->units[i].segment == segment) {
            return (int)i;
        }
    }
    return -1;
}

const struct dmar_reserved *dmar_reserved_of(const struct dmar *dmar, uint16_t segment,
                                             uint16_t requester, unsigned index)
{
    for (unsigned i = 0; i < dmar->scope_count; i++) {
        const struct dmar_scope *scope = &dmar->scopes[i];

        if (scope->reserved && !dmar->reserved[scope->owner].refused &&
            dmar->reserved[scope->owner].segment == segment &&
            dmar_scope_has(scope, requester, requester) && index-- == 0) {
            return &dmar->reserved[scope->owner];
        }
    }
    return NULL;
}
