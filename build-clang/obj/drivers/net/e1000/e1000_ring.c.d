build-clang/obj/drivers/net/e1000/e1000_ring.c.o: \
  drivers/net/e1000/e1000_ring.c include/lib/string.h \
  include/lib/types.h include/dma/dma.h include/contract/device.h \
  include/core/cpu.h include/lib/cpumask.h include/lib/text.h \
  drivers/net/e1000/e1000_ring.h drivers/net/e1000/e1000_regs.h

include/lib/string.h:

include/lib/types.h:

include/dma/dma.h:

include/contract/device.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

drivers/net/e1000/e1000_ring.h:

drivers/net/e1000/e1000_regs.h:
