// The kernel's name and version, as uname and /proc/version print them.
#pragma once

#define KERNEL_NAME    "tophalf"
#define KERNEL_VERSION "0.1.0"
