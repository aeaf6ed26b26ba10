// Where the kernel's image and its parts lie, from the linker (linker.ld). Addresses only: there is
// nothing to read behind an `end`.
#pragma once

extern char kernel_start[], kernel_end[];
extern char text_start[], text_end[];
extern char rodata_start[], rodata_end[];
extern char data_start[], data_end[];
extern char bss_start[], bss_end[];
