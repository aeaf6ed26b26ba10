// What the edu device can be told to do that no driver should: for demonstrations of what stops it.
#pragma once

#include <contract/device.h>
#include <lib/types.h>

// The first edu device that is bound; NULL: none. Context: thread.
struct device *edu_find_device(void);
// The device writes `size` bytes (at most 64) to a bus address that nobody gave to it. 0: it says
// that it has done so, whatever came of it; -ENODEV, -ERANGE (beyond what QEMU's device reaches),
// -ETIMEDOUT. Context: thread.
int edu_write_anywhere(uint64_t bus, const void *bytes, uint32_t size);
