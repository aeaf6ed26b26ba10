build-clang/obj/kernel/net/udp.c.o: kernel/net/udp.c \
  include/lib/checksum.h include/lib/types.h include/lib/errno.h \
  include/lib/list.h include/lib/string.h include/contract/proc_file.h \
  include/contract/section.h include/lib/text.h include/core/clock.h \
  include/core/cpu.h include/lib/cpumask.h include/core/panic.h \
  include/core/spinlock.h include/mm/slab.h include/mm/page.h \
  include/contract/boot_info.h include/x86/pte.h include/sched/wait.h \
  include/sched/thread.h include/defer/softirq.h include/dev/netdev.h \
  include/dev/skbuff.h include/net/net.h kernel/net/inet.h

include/lib/checksum.h:

include/lib/types.h:

include/lib/errno.h:

include/lib/list.h:

include/lib/string.h:

include/contract/proc_file.h:

include/contract/section.h:

include/lib/text.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/core/panic.h:

include/core/spinlock.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/sched/wait.h:

include/sched/thread.h:

include/defer/softirq.h:

include/dev/netdev.h:

include/dev/skbuff.h:

include/net/net.h:

kernel/net/inet.h:
