// What the files of kernel/user share with one another and with nobody else.
#pragma once

#include <user/process.h>

const struct process_io *process_io(void); // of the running process
