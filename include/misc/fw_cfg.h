// Files that QEMU's command line hands to the guest (-fw_cfg name=opt/org.tophalf/...). QEMU,
// docs/specs/fw_cfg.rst.
#pragma once

#include <lib/types.h>

// Copies a file and ends it with a NUL. Its length, -ENODEV (no such device: not QEMU), -ENOENT,
// -EFBIG (does not fit: nothing is copied). Needs nothing but ports; bounded. Context: boot or
// thread, one at a time.
long fw_cfg_read_file(const char *name, char *to, size_t size);
