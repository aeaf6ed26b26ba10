// Between the kernel and the running program's memory. The address is the program's word: it is
// checked, and a fault on the way is the program's error, not ours. Context: thread.
#pragma once

#include <lib/types.h>

// 0 or -EFAULT; then a part may have been copied.
int copy_from_user(void *to, uintptr_t from, size_t size) __must_check;
int copy_to_user(uintptr_t to, const void *from, size_t size) __must_check;
