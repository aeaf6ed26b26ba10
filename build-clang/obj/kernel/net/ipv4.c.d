build-clang/obj/kernel/net/ipv4.c.o: kernel/net/ipv4.c \
  include/lib/checksum.h include/lib/types.h include/lib/errno.h \
  include/lib/string.h include/defer/softirq.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/dev/netdev.h \
  include/core/spinlock.h include/dev/skbuff.h include/lib/list.h \
  include/net/net.h kernel/net/inet.h

include/lib/checksum.h:

include/lib/types.h:

include/lib/errno.h:

include/lib/string.h:

include/defer/softirq.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/dev/skbuff.h:

include/lib/list.h:

include/net/net.h:

kernel/net/inet.h:
