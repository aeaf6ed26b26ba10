// The two 8259s: remapped to 0x20..0x2f so that a stray is recognised, then masked for good. Intel
// 8259A data sheet.
#pragma once
#include <lib/types.h>

void pic_disable(void);
// A stray arrived on vector 0x20 + n: true when the 8259 says it was real (ISR bit set), then it is
// acknowledged; false for the spurious IRQ 7 and 15. Context: hard irq.
bool pic_stray(unsigned line);
