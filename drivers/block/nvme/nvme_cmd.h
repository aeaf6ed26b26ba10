// Commands as bytes, and what a controller and its namespaces say of themselves: no registers, no
// memory management, tested on the host.
#pragma once

#include <lib/types.h>

#include "nvme_regs.h"

// Identify Controller, checked. Strings are trimmed, printable and end with NUL.
struct nvme_identity {
    char model[41], serial[21], firmware[9];
    uint32_t max_bytes;  // of a command's data, a power of two; 0: no limit
    uint32_t namespaces; // highest number, at least 1
    uint8_t events;      // how many event requests it keeps, at least 1
    uint8_t sgl;         // data pointers as SGLs: 0 no, 1 any, 2 aligned to 4 bytes
    bool has_write_cache;
};

// Identify Namespace, checked.
struct nvme_format {
    uint64_t blocks;     // at least 1; in 512-byte sectors below 2^48
    uint8_t block_shift; // 9 .. 12
    bool read_only;
};

// Reads 4,096 bytes. `page_shift`: CAP.MPSMIN as a power of two. 0; -ENODEV: nonsense, or an empty
// namespace; -EOPNOTSUPP: it keeps its data in a way that is not known here. *why says what in
// words.
int nvme_parse_controller(struct nvme_identity *identity, const void *page, unsigned page_shift,
                          const char **why);
int nvme_parse_namespace(struct nvme_format *format, const void *page, const char **why);

// 0 for success, else what a program is told: -EIO, -EROFS, -ENOSPC.
int nvme_status_error(uint16_t status);
const char *nvme_status_text(uint16_t status);

extern const struct bit_name nvme_csts_names[];
