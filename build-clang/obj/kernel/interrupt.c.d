build-clang/obj/kernel/interrupt.c.o: kernel/interrupt.c \
  include/core/cpu.h include/lib/cpumask.h include/lib/text.h \
  include/lib/types.h include/x86/exception.h include/x86/frame.h \
  include/irq/desc.h include/contract/irq_chip.h include/core/spinlock.h \
  include/irq/irq.h include/lib/list.h include/sched/thread.h \
  include/defer/softirq.h

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/lib/types.h:

include/x86/exception.h:

include/x86/frame.h:

include/irq/desc.h:

include/contract/irq_chip.h:

include/core/spinlock.h:

include/irq/irq.h:

include/lib/list.h:

include/sched/thread.h:

include/defer/softirq.h:
