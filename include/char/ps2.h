// The PS/2 keyboard behind the i8042.
#pragma once

// Finds the controller and a keyboard, and feeds the console's input from its interrupt. Says in
// one line what is missing. Context: thread, after route_init() and tty_init().
void ps2_init(void);
