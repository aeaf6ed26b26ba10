build-clang/obj/drivers/block/ahci/ahci_port.c.o: \
  drivers/block/ahci/ahci_port.c drivers/block/ahci/ahci.h \
  include/contract/device.h include/lib/types.h include/core/io.h \
  include/core/spinlock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/irq/irq.h include/sched/completion.h \
  include/sched/wait.h include/lib/errno.h include/lib/list.h \
  include/sched/thread.h include/defer/tasklet.h include/defer/timer.h \
  include/defer/work.h include/dma/dma.h include/dev/block.h \
  include/sched/mutex.h drivers/block/ahci/ahci_cmd.h \
  drivers/block/ahci/ahci_regs.h include/lib/string.h \
  include/core/clock.h include/core/log.h include/mm/slab.h \
  include/mm/page.h include/contract/boot_info.h include/x86/pte.h \
  include/sched/sleep.h

drivers/block/ahci/ahci.h:

include/contract/device.h:

include/lib/types.h:

include/core/io.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/irq/irq.h:

include/sched/completion.h:

include/sched/wait.h:

include/lib/errno.h:

include/lib/list.h:

include/sched/thread.h:

include/defer/tasklet.h:

include/defer/timer.h:

include/defer/work.h:

include/dma/dma.h:

include/dev/block.h:

include/sched/mutex.h:

drivers/block/ahci/ahci_cmd.h:

drivers/block/ahci/ahci_regs.h:

include/lib/string.h:

include/core/clock.h:

include/core/log.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/sched/sleep.h:
