build-clang/obj/kernel/net/icmp.c.o: kernel/net/icmp.c \
  include/lib/checksum.h include/lib/types.h include/lib/errno.h \
  include/lib/list.h include/core/clock.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/core/spinlock.h \
  include/sched/wait.h include/sched/thread.h include/defer/softirq.h \
  include/dev/netdev.h include/dev/skbuff.h include/net/net.h \
  kernel/net/inet.h

include/lib/checksum.h:

include/lib/types.h:

include/lib/errno.h:

include/lib/list.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/spinlock.h:

include/sched/wait.h:

include/sched/thread.h:

include/defer/softirq.h:

include/dev/netdev.h:

include/dev/skbuff.h:

include/net/net.h:

kernel/net/inet.h:
