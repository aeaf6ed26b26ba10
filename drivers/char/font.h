// The framebuffer console's letters. Pure.
#pragma once

#include <lib/types.h>

enum { FONT_WIDTH = 8, FONT_HEIGHT = 16 };

// One row of pixels of a character's cell, the leftmost in bit 7. row < FONT_HEIGHT.
uint8_t font_row(unsigned char c, unsigned row);
