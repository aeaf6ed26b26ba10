// For top, whose first line is uptime's.
#pragma once

#include <contract/command.h>

void uptime_print(struct shell *sh); // "14:03:20 up 5 min,  load average: ..."
