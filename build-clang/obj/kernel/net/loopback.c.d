build-clang/obj/kernel/net/loopback.c.o: kernel/net/loopback.c \
  include/core/panic.h include/lib/types.h include/dev/netdev.h \
  include/core/spinlock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/dev/skbuff.h include/lib/list.h \
  kernel/net/inet.h include/net/net.h

include/core/panic.h:

include/lib/types.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/dev/skbuff.h:

include/lib/list.h:

kernel/net/inet.h:

include/net/net.h:
