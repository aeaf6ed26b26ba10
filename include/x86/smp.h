// Starting the other CPUs (Intel SDM vol. 3, 9.4: INIT, start-up, start-up) and talking to them.
#pragma once

#include <lib/types.h>

// Starts CPU `cpu` (index into cpus[], apic_id set) with the given stack; it comes up in ap_main(cpu) in kernel/main.c. 0, or -ETIMEDOUT
// when it did not reach ap_main in `timeout_us`; such a CPU stays out for good. Context: boot CPU, thread, one at a time.
int smp_start_cpu(unsigned cpu, uintptr_t stack_top, uint32_t timeout_us);
// Called by ap_main once it needs the trampoline no more.
void smp_ap_is_up(void);

// Copies the trampoline below 1 MiB. The page must be free RAM (found by kernel/mm). Context: boot CPU.
void smp_prepare(phys_t trampoline_page);
