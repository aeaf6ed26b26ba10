build-clang/obj/kernel/net/arp.c.o: kernel/net/arp.c include/lib/errno.h \
  include/lib/string.h include/lib/types.h include/contract/proc_file.h \
  include/contract/section.h include/lib/text.h include/core/clock.h \
  include/core/cpu.h include/lib/cpumask.h include/core/log.h \
  include/core/spinlock.h include/defer/softirq.h include/defer/timer.h \
  include/lib/list.h include/dev/netdev.h include/dev/skbuff.h \
  include/net/net.h kernel/net/inet.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:

include/contract/proc_file.h:

include/contract/section.h:

include/lib/text.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/core/log.h:

include/core/spinlock.h:

include/defer/softirq.h:

include/defer/timer.h:

include/lib/list.h:

include/dev/netdev.h:

include/dev/skbuff.h:

include/net/net.h:

kernel/net/inet.h:
