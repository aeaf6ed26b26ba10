build-clang/obj/kernel/dev/netdev.c.o: kernel/dev/netdev.c \
  include/lib/errno.h include/lib/format.h include/lib/types.h \
  include/lib/string.h include/contract/proc_file.h \
  include/contract/section.h include/lib/text.h include/core/clock.h \
  include/core/cpu.h include/lib/cpumask.h include/core/log.h \
  include/core/panic.h include/core/trace.h include/sched/mutex.h \
  include/sched/wait.h include/core/spinlock.h include/lib/list.h \
  include/sched/thread.h include/sched/sleep.h include/defer/softirq.h \
  include/defer/work.h include/defer/timer.h include/dev/netdev.h \
  include/dev/skbuff.h

include/lib/errno.h:

include/lib/format.h:

include/lib/types.h:

include/lib/string.h:

include/contract/proc_file.h:

include/contract/section.h:

include/lib/text.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/core/log.h:

include/core/panic.h:

include/core/trace.h:

include/sched/mutex.h:

include/sched/wait.h:

include/core/spinlock.h:

include/lib/list.h:

include/sched/thread.h:

include/sched/sleep.h:

include/defer/softirq.h:

include/defer/work.h:

include/defer/timer.h:

include/dev/netdev.h:

include/dev/skbuff.h:
