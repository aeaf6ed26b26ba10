// Finds constants in ACPI's byte code, without an interpreter.
//
// Two things are wanted that ACPI keeps in the DSDT: the SLP_TYP value that powers the machine off
// (_S5_), and on q35 the wires of PCI slots (PRTA, a package that _PRT returns once the OS said it
// uses IO-APICs). Both are constants there, so this file finds them by their bytes, and checks the
// form of each element; a machine that computes them is not served by it, and falls back to the
// interrupt line register (kernel/irq/route.c) and to a refusal to power off.
//
//   Name(_S5_, Package {5, 5, 0, 0})       08 '_S5_' 12 <length> 04 0a 05 0a 05 00 00
//   Name(PRTA, Package {Package(4) {0xffff, 0, GSIE, 0}, ...})
//                                                      └── Device(GSIE) {... Name(_CRS, Buffer {an interrupt})}
//
// Each step takes what it read off a span of bytes, so nothing can be read beyond what encloses it.
//
// ACPI Specification 6.4, chapter 20. Context: boot, one CPU. Pure. Previous: acpi.c.
#include <lib/string.h>

#include "acpi_internal.h"
#include "acpi_regs.h"

// PkgLength, 20.2.4: the top bits of the first byte say how many follow. Returns the bytes it
// takes, 0 when it is cut; the length that it tells counts from its own first byte.
static uint32_t aml_package_length(struct acpi_span aml, uint32_t *length)
{
    if (aml.size == 0) {
        return 0;
    }
    uint32_t more = aml.data[0] >> 6;
    if (aml.size <= more) {
        return 0;
    }
    if (more == 0) {
        *length = aml.data[0] & 0x3f;
    } else {
        *length = aml.data[0] & 0xf;
        for (uint32_t i = 0; i < more; i++) {
            *length |= (uint32_t)aml.data[1 + i] << (4 + 8 * i);
        }
    }
    return 1 + more;
}

static void aml_skip(struct acpi_span *aml, uint32_t bytes)
{
    aml->data += bytes;
    aml->size -= bytes;
}

// Enters what a PkgLength at the head of *aml encloses: *inside is the body, *aml what comes after
// it.
static bool aml_enter(struct acpi_span *aml, struct acpi_span *inside)
{
    uint32_t length = 0, prefix = aml_package_length(*aml, &length);
    if (prefix == 0 || length < prefix || length > aml->size) {
        return false;
    }
    *inside = (struct acpi_span){aml->data + prefix, length - prefix};
    aml_skip(aml, length);
    return true;
}

// An integer constant.
static bool aml_integer(struct acpi_span *aml, uint32_t *value)
{
    uint32_t size = 1;
    if (aml->size == 0) {
        return false;
    }
    switch (aml->data[0]) {
    case AML_ZERO:
    case AML_ONE:
        *value = aml->data[0];
        break;
    case AML_BYTE:
        size = 2;
        break;
    case AML_WORD:
        size = 3;
        break;
    case AML_DWORD:
        size = 5;
        break;
    default:
        return false;
    }
    if (aml->size < size) {
        return false;
    }
    if (size > 1) {
        *value = size == 2   ? aml->data[1]
                 : size == 3 ? get_le16(aml->data + 1)
                             : get_le32(aml->data + 1);
    }
    aml_skip(aml, size);
    return true;
}

// A name: prefixes, then one segment or two of them; the last segment is what counts here.
static bool aml_name(struct acpi_span *aml, char segment[4])
{
    while (aml->size > 0 && (aml->data[0] == AML_ROOT || aml->data[0] == AML_PARENT)) {
        aml_skip(aml, 1);
    }
    if (aml->size > 5 && aml->data[0] == AML_DUAL_NAME) {
        aml_skip(aml, 5);
    }
    if (aml->size < 4) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        char c = (char)aml->data[i];
        if (!((c >= 'A' && c <= 'Z') || c == '_' || (i > 0 && c >= '0' && c <= '9'))) {
            return false;
        }
        segment[i] = c;
    }
    aml_skip(aml, 4);
    return true;
}

// Finds Name(NAME, <what>...) by its bytes: NameOp, an optional root prefix, the name, the
// operator. *aml goes on behind the operator.
static bool aml_find_name(struct acpi_span *aml, const char *name, uint8_t what)
{
    for (uint32_t at = 1; aml->size >= 5 && at <= aml->size - 5; at++) {
        const uint8_t *p = aml->data + at;
        if (memcmp(p, name, 4) != 0 || p[4] != what) {
            continue;
        }
        if (p[-1] == AML_NAME || (at >= 2 && p[-1] == AML_ROOT && p[-2] == AML_NAME)) {
            aml_skip(aml, at + 5);
            return true;
        }
    }
    return false;
}

// \_S5_: Package { SLP_TYPa, SLP_TYPb, ... }, 7.4.2
void acpi_find_s5(struct acpi_info *info, struct acpi_span aml)
{
    struct acpi_span package;
    uint32_t a, b;
    if (!aml_find_name(&aml, "_S5_", AML_PACKAGE) || !aml_enter(&aml, &package) ||
        package.size < 1 || package.data[0] < 1) {
        acpi_note(info, "DSDT: no _S5_ package that can be read: power-off is not possible");
        return;
    }
    uint32_t elements = package.data[0];
    aml_skip(&package, 1);
    if (!aml_integer(&package, &a)) {
        acpi_note(info, "DSDT: _S5_ is not made of constants: power-off is not possible");
        return;
    }
    if (elements < 2 || !aml_integer(&package, &b)) {
        b = a;
    }
    if (a > 7 || b > 7) { // three bits, 4.8.3.2.1
        acpi_note(info, "DSDT: SLP_TYP values %u, %u do not fit three bits", a, b);
        return;
    }
    info->has_s5 = true;
    info->s5_type_a = (uint8_t)a;
    info->s5_type_b = (uint8_t)b;
}

// What an interrupt link device of this name is bound to: Device(NAME) { ... Name(_CRS, Buffer{
// extended interrupt }) }.
static bool acpi_link_gsi(struct acpi_span aml, const char segment[4], struct acpi_intx *intx)
{
    for (; aml.size > 7; aml_skip(&aml, 1)) {
        if (aml.data[0] != AML_EXTENDED || aml.data[1] != AML_EXTENDED_DEVICE) {
            continue;
        }
        struct acpi_span rest = aml, device, buffer;
        uint32_t bytes;
        aml_skip(&rest, 2);
        if (!aml_enter(&rest, &device) || device.size < 4 || memcmp(device.data, segment, 4) != 0) {
            continue;
        }
        if (!aml_find_name(&device, "_CRS", AML_BUFFER) || !aml_enter(&device, &buffer) ||
            !aml_integer(&buffer, &bytes)) {
            // computed, or another form: what the first device of this name has is what counts
            return false;
        }
        const uint8_t *d = buffer.data;
        if (buffer.size < EXT_IRQ_NUMBERS + 4 || d[0] != EXT_IRQ_TAG || d[EXT_IRQ_COUNT] != 1) {
            return false;
        }
        intx->level = (d[EXT_IRQ_FLAGS] & EXT_IRQ_EDGE) == 0;
        intx->active_low = (d[EXT_IRQ_FLAGS] & EXT_IRQ_ACTIVE_LOW) != 0;
        intx->gsi = get_le32(d + EXT_IRQ_NUMBERS);
        return true;
    }
    return false;
}

// One element of PRTA: Package(4) { 0xSSSSffff, pin, link or 0, index }, 6.2.13
static bool acpi_intx_element(struct acpi_span dsdt, struct acpi_span element,
                              struct acpi_intx *intx)
{
    uint32_t address, pin, zero;
    char link[4];
    if (element.size < 1 || element.data[0] != 4) {
        return false;
    }
    aml_skip(&element, 1);
    if (!aml_integer(&element, &address) || !aml_integer(&element, &pin)) {
        return false;
    }
    if (aml_name(&element, link)) {
        if (!acpi_link_gsi(dsdt, link, intx)) {
            return false;
        }
    } else { // with a zero for the link, the index is the number itself
        if (!aml_integer(&element, &zero) || zero != 0 || !aml_integer(&element, &intx->gsi)) {
            return false;
        }
        intx->level = intx->active_low = true;
    }
    if (pin > 3 || (address & 0xffff) != 0xffff || address >> 16 > 31) {
        return false;
    }
    intx->slot = (uint8_t)(address >> 16);
    intx->pin = (uint8_t)pin;
    return true;
}

void acpi_find_intx(struct acpi_info *info, struct acpi_span dsdt)
{
    struct acpi_span aml = dsdt, package, element;
    if (!aml_find_name(&aml, "PRTA", AML_PACKAGE) || !aml_enter(&aml, &package) ||
        package.size < 1) {
        return; // most machines have none by this name
    }
    aml_skip(&package, 1);
    while (package.size > 0 && info->intx_count < ACPI_MAX_INTX) {
        struct acpi_intx intx = {0};
        if (package.data[0] != AML_PACKAGE) {
            break;
        }
        aml_skip(&package, 1);
        if (!aml_enter(&package, &element) || !acpi_intx_element(dsdt, element, &intx)) {
            break;
        }
        info->intx[info->intx_count++] = intx;
    }
    if (package.size > 0) { // half a table of wires is worse than none
        acpi_note(info, "DSDT: element %u of PRTA is not understood, PRTA ignored",
                  info->intx_count);
        info->intx_count = 0;
    }
}
