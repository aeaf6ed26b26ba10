build-clang/obj/kernel/net/eth.c.o: kernel/net/eth.c include/lib/string.h \
  include/lib/types.h include/dev/netdev.h include/core/spinlock.h \
  include/core/cpu.h include/lib/cpumask.h include/lib/text.h \
  include/dev/skbuff.h include/lib/list.h kernel/net/inet.h \
  include/net/net.h

include/lib/string.h:

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
