build-clang/obj/kernel/net/stats.c.o: kernel/net/stats.c \
  include/lib/text.h include/lib/types.h include/contract/proc_file.h \
  include/contract/section.h include/dev/skbuff.h include/lib/list.h \
  kernel/net/inet.h include/dev/netdev.h include/core/spinlock.h \
  include/core/cpu.h include/lib/cpumask.h include/net/net.h

include/lib/text.h:

include/lib/types.h:

include/contract/proc_file.h:

include/contract/section.h:

include/dev/skbuff.h:

include/lib/list.h:

kernel/net/inet.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/net/net.h:
