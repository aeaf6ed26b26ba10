build-clang/obj/kernel/net/dhcp_message.c.o: kernel/net/dhcp_message.c \
  include/lib/string.h include/lib/types.h kernel/net/dhcp.h \
  kernel/net/inet.h include/lib/text.h include/dev/netdev.h \
  include/core/spinlock.h include/core/cpu.h include/lib/cpumask.h \
  include/dev/skbuff.h include/lib/list.h include/net/net.h

include/lib/string.h:

include/lib/types.h:

kernel/net/dhcp.h:

kernel/net/inet.h:

include/lib/text.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/dev/skbuff.h:

include/lib/list.h:

include/net/net.h:
