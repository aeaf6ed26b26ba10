build-clang/obj/kernel/net/dhcp.c.o: kernel/net/dhcp.c \
  include/lib/errno.h include/core/clock.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/lib/types.h \
  include/core/log.h include/core/spinlock.h include/mm/slab.h \
  include/mm/page.h include/contract/boot_info.h include/x86/pte.h \
  include/defer/softirq.h include/defer/work.h include/defer/timer.h \
  include/lib/list.h include/dev/netdev.h include/dev/skbuff.h \
  include/net/net.h kernel/net/dhcp.h kernel/net/inet.h

include/lib/errno.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/lib/types.h:

include/core/log.h:

include/core/spinlock.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/defer/softirq.h:

include/defer/work.h:

include/defer/timer.h:

include/lib/list.h:

include/dev/netdev.h:

include/dev/skbuff.h:

include/net/net.h:

kernel/net/dhcp.h:

kernel/net/inet.h:
