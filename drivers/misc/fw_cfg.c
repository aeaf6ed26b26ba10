// QEMU's fw_cfg device: files from the host's command line, read byte by byte from a port.
//
// Writing a key to the selector port rewinds to the start of an item; each read of the data port
// gives its next byte. Item 0x0000 is the signature "QEMU". Item 0x0019 is the directory: a
// big-endian count, then 64 bytes a file: size (be32), key (be16), reserved (16 bits), name (56
// bytes, NUL-padded). Every one of these values comes from outside: the count and the size bound
// loops here, so both are held against limits first.
//
// QEMU, docs/specs/fw_cfg.rst: "Selector (Control) Register", "Data Register", "File Directory".
// The DMA interface is not needed for a few hundred bytes. Context: boot or thread, one caller at a
// time; no memory, no interrupts.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/io.h>
#include <misc/fw_cfg.h>

enum fw_cfg_port { FW_CFG_SELECTOR = 0x510, FW_CFG_DATA = 0x511 };
enum fw_cfg_key { FW_CFG_SIGNATURE = 0x0000, FW_CFG_FILE_DIRECTORY = 0x0019 };

enum {
    FW_CFG_NAME_SIZE = 56,
    FW_CFG_MAX_FILES = 1024, // QEMU makes a few dozen
};

struct fw_cfg_entry {
    uint32_t size;
    uint16_t key;
    char name[FW_CFG_NAME_SIZE + 1];
};

static void fw_cfg_select(uint16_t key)
{
    outw(key, FW_CFG_SELECTOR);
}

static void fw_cfg_read(void *to, size_t size)
{
    uint8_t *bytes = to;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = inb(FW_CFG_DATA);
    }
}

// Numbers are big-endian.
static uint32_t fw_cfg_read_be(unsigned bytes)
{
    uint32_t value = 0;
    while (bytes-- != 0) {
        value = value << 8 | inb(FW_CFG_DATA);
    }
    return value;
}

static bool fw_cfg_present(void)
{
    char signature[4];
    fw_cfg_select(FW_CFG_SIGNATURE);
    fw_cfg_read(signature, sizeof(signature));
    return memcmp(signature, "QEMU", sizeof(signature)) == 0;
}

static void fw_cfg_read_entry(struct fw_cfg_entry *entry)
{
    entry->size = fw_cfg_read_be(4);
    entry->key = (uint16_t)fw_cfg_read_be(2);
    (void)fw_cfg_read_be(2);
    fw_cfg_read(entry->name, FW_CFG_NAME_SIZE);
    entry->name[FW_CFG_NAME_SIZE] = '\0';
}

static int fw_cfg_find(const char *name, struct fw_cfg_entry *entry)
{
    fw_cfg_select(FW_CFG_FILE_DIRECTORY);
    uint32_t count = min(fw_cfg_read_be(4), (uint32_t)FW_CFG_MAX_FILES);
    while (count-- != 0) {
        fw_cfg_read_entry(entry);
        if (strcmp(entry->name, name) == 0) {
            return 0;
        }
    }
    return -ENOENT;
}

long fw_cfg_read_file(const char *name, char *to, size_t size)
{
    struct fw_cfg_entry entry;
    if (!fw_cfg_present()) {
        return -ENODEV;
    }
    int error = fw_cfg_find(name, &entry);
    if (error != 0) {
        return error;
    }
    if (entry.size >= size) {
        return -EFBIG;
    }
    fw_cfg_select(entry.key);
    fw_cfg_read(to, entry.size);
    to[entry.size] = '\0';
    return (long)entry.size;
}
