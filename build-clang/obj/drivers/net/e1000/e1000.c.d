build-clang/obj/drivers/net/e1000/e1000.c.o: drivers/net/e1000/e1000.c \
  include/lib/errno.h include/lib/string.h include/lib/types.h \
  include/core/clock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/core/log.h include/mm/slab.h \
  include/mm/page.h include/contract/boot_info.h include/x86/pte.h \
  include/irq/irq.h include/sched/sleep.h include/defer/softirq.h \
  include/defer/work.h include/defer/timer.h include/lib/list.h \
  include/dma/dma.h include/contract/device.h include/dev/netdev.h \
  include/core/spinlock.h include/dev/skbuff.h drivers/net/e1000/e1000.h \
  include/core/io.h drivers/net/e1000/e1000_ring.h \
  drivers/net/e1000/e1000_regs.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/log.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/irq/irq.h:

include/sched/sleep.h:

include/defer/softirq.h:

include/defer/work.h:

include/defer/timer.h:

include/lib/list.h:

include/dma/dma.h:

include/contract/device.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/dev/skbuff.h:

drivers/net/e1000/e1000.h:

include/core/io.h:

drivers/net/e1000/e1000_ring.h:

drivers/net/e1000/e1000_regs.h:
