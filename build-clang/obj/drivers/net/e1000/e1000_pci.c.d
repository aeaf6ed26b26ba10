build-clang/obj/drivers/net/e1000/e1000_pci.c.o: \
  drivers/net/e1000/e1000_pci.c include/lib/errno.h include/core/log.h \
  include/lib/types.h include/mm/slab.h include/mm/page.h \
  include/contract/boot_info.h include/x86/pte.h include/dma/dma.h \
  include/contract/device.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/pci/pci.h include/contract/section.h \
  include/core/io.h include/lib/list.h drivers/net/e1000/e1000.h \
  include/defer/work.h include/defer/timer.h include/dev/netdev.h \
  include/core/spinlock.h include/dev/skbuff.h \
  drivers/net/e1000/e1000_ring.h drivers/net/e1000/e1000_regs.h

include/lib/errno.h:

include/core/log.h:

include/lib/types.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/dma/dma.h:

include/contract/device.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/pci/pci.h:

include/contract/section.h:

include/core/io.h:

include/lib/list.h:

drivers/net/e1000/e1000.h:

include/defer/work.h:

include/defer/timer.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/dev/skbuff.h:

drivers/net/e1000/e1000_ring.h:

drivers/net/e1000/e1000_regs.h:
