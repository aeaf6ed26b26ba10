// The screen: VGA text or the boot loader's framebuffer, as one more output of the console.
#pragma once

#include <contract/boot_info.h>

// Takes the framebuffer that the boot loader describes, else VGA text where a VGA answers, else
// nothing, and shows what the log holds already. Context: boot or thread, after map_init() and
// tty_init().
void screen_init(const struct boot_info *boot);
