build-clang/obj/drivers/char/uart.c.o: drivers/char/uart.c \
  include/lib/errno.h include/lib/string.h include/lib/types.h \
  include/lib/text.h include/contract/proc_file.h \
  include/contract/section.h include/core/clock.h include/core/cpu.h \
  include/lib/cpumask.h include/core/io.h include/core/log.h \
  include/core/resource.h include/core/spinlock.h include/irq/irq.h \
  include/irq/route.h include/contract/irq_chip.h include/sched/sleep.h \
  include/sched/wait.h include/lib/list.h include/sched/thread.h \
  include/defer/tasklet.h include/defer/timer.h include/dev/tty.h \
  include/char/uart.h drivers/char/uart_regs.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:

include/lib/text.h:

include/contract/proc_file.h:

include/contract/section.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/core/io.h:

include/core/log.h:

include/core/resource.h:

include/core/spinlock.h:

include/irq/irq.h:

include/irq/route.h:

include/contract/irq_chip.h:

include/sched/sleep.h:

include/sched/wait.h:

include/lib/list.h:

include/sched/thread.h:

include/defer/tasklet.h:

include/defer/timer.h:

include/dev/tty.h:

include/char/uart.h:

drivers/char/uart_regs.h:
