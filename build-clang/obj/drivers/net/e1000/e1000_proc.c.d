build-clang/obj/drivers/net/e1000/e1000_proc.c.o: \
  drivers/net/e1000/e1000_proc.c include/contract/proc_file.h \
  include/contract/section.h include/lib/text.h include/lib/types.h \
  include/dev/netdev.h include/core/spinlock.h include/core/cpu.h \
  include/lib/cpumask.h include/dev/skbuff.h include/lib/list.h \
  drivers/net/e1000/e1000.h include/contract/device.h include/core/io.h \
  include/dma/dma.h include/defer/work.h include/defer/timer.h \
  drivers/net/e1000/e1000_ring.h drivers/net/e1000/e1000_regs.h

include/contract/proc_file.h:

include/contract/section.h:

include/lib/text.h:

include/lib/types.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/dev/skbuff.h:

include/lib/list.h:

drivers/net/e1000/e1000.h:

include/contract/device.h:

include/core/io.h:

include/dma/dma.h:

include/defer/work.h:

include/defer/timer.h:

drivers/net/e1000/e1000_ring.h:

drivers/net/e1000/e1000_regs.h:
