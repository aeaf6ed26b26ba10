build-clang/obj/kernel/net/net.c.o: kernel/net/net.c include/lib/errno.h \
  include/lib/format.h include/lib/types.h include/core/log.h \
  include/dev/netdev.h include/core/spinlock.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/dev/skbuff.h \
  include/lib/list.h include/net/net.h kernel/net/inet.h

include/lib/errno.h:

include/lib/format.h:

include/lib/types.h:

include/core/log.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/dev/skbuff.h:

include/lib/list.h:

include/net/net.h:

kernel/net/inet.h:
