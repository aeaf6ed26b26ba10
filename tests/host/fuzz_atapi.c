// What a CD drive answers, from a drive that lies: whatever the bytes and however many came, texts
// end and are printable, a capacity that is taken can be read to its last block, and each sense has
// a verdict and words that fit. The first byte chooses the answer, the rest is it.
//
// links: drivers/block/ata/ata.c drivers/block/ata/atapi.c kernel/lib/string.c
// links: kernel/lib/text.c kernel/lib/format.c tests/host/stubs/panic_abort.c

#include <lib/string.h>

#include "../../drivers/block/ata/ata.h"
#include "../../drivers/block/ata/atapi.h"

#include "fuzz.h"

static void try_identity(const uint8_t *data, size_t size)
{
    uint8_t page[ATA_IDENTIFY_WORDS * 2] = {0};
    struct atapi_identity identity;
    const char *why;
    memcpy(page, data, min(size, sizeof(page)));
    int error = atapi_parse_identity(&identity, page, &why);
    MUST((error == 0) == (why == NULL));
    must_be_text(identity.model, sizeof(identity.model));
    must_be_text(identity.serial, sizeof(identity.serial));
    must_be_text(identity.firmware, sizeof(identity.firmware));
    MUST(error != 0 || identity.packet_size == 12 || identity.packet_size == 16);
}

static void try_inquiry(const uint8_t *data, size_t size)
{
    char model[17];
    const char *why;
    int error = atapi_parse_inquiry(model, data, size, &why);
    MUST((error == 0) == (why == NULL));
    if (error == 0) {
        must_be_text(model, sizeof(model));
    }
}

static void try_capacity(const uint8_t *data, size_t size)
{
    uint64_t sectors;
    const char *why;
    struct atapi_packet packet;
    int error = atapi_parse_capacity(&sectors, data, size, &why);
    MUST((error == 0) == (why == NULL));
    MUST((error == 0) == (sectors != 0));
    if (error == 0) {
        MUST(atapi_build_read(&packet, sectors - CD_BLOCK_SECTORS, CD_BLOCK_SECTORS) == 0);
    }
}

static void try_sense(const uint8_t *data, size_t size)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);
    struct atapi_sense sense;
    int error = atapi_parse_sense(&sense, data, size);
    MUST(error == 0 || (sense.key == 0 && sense.asc == 0 && sense.ascq == 0));
    MUST(sense.key <= 15 && atapi_judge(&sense) <= ATAPI_FAILED);
    atapi_show_sense(&t, &sense);
    MUST(!text_is_cut(&t));
    must_be_text(buffer, sizeof(buffer));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const uint8_t *, size_t) = {try_identity, try_inquiry,
                                                             try_capacity, try_sense};
    if (size != 0) {
        tries[data[0] % ARRAY_SIZE(tries)](data + 1, size - 1);
    }
    return 0;
}
