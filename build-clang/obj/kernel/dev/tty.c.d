build-clang/obj/kernel/dev/tty.c.o: kernel/dev/tty.c include/lib/errno.h \
  include/lib/format.h include/lib/types.h include/lib/string.h \
  include/contract/boot_option.h include/contract/section.h \
  include/core/clock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/core/log.h include/core/spinlock.h \
  include/x86/lapic.h include/irq/desc.h include/contract/irq_chip.h \
  include/irq/irq.h include/lib/list.h include/sched/mutex.h \
  include/sched/wait.h include/sched/thread.h include/sched/sleep.h \
  include/dev/tty.h

include/lib/errno.h:

include/lib/format.h:

include/lib/types.h:

include/lib/string.h:

include/contract/boot_option.h:

include/contract/section.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/log.h:

include/core/spinlock.h:

include/x86/lapic.h:

include/irq/desc.h:

include/contract/irq_chip.h:

include/irq/irq.h:

include/lib/list.h:

include/sched/mutex.h:

include/sched/wait.h:

include/sched/thread.h:

include/sched/sleep.h:

include/dev/tty.h:
