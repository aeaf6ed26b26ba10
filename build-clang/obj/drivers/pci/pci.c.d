build-clang/obj/drivers/pci/pci.c.o: drivers/pci/pci.c include/pci/pci.h \
  include/contract/device.h include/lib/types.h \
  include/contract/section.h include/core/io.h include/lib/list.h \
  include/lib/text.h include/lib/errno.h include/lib/format.h \
  include/lib/string.h include/core/log.h include/core/panic.h \
  include/core/resource.h include/mm/map.h include/contract/boot_info.h \
  include/x86/pte.h include/mm/slab.h include/mm/page.h \
  include/sched/mutex.h include/sched/wait.h include/core/spinlock.h \
  include/core/cpu.h include/lib/cpumask.h include/sched/thread.h \
  drivers/pci/pci_config.h drivers/pci/pci_regs.h

include/pci/pci.h:

include/contract/device.h:

include/lib/types.h:

include/contract/section.h:

include/core/io.h:

include/lib/list.h:

include/lib/text.h:

include/lib/errno.h:

include/lib/format.h:

include/lib/string.h:

include/core/log.h:

include/core/panic.h:

include/core/resource.h:

include/mm/map.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/mm/slab.h:

include/mm/page.h:

include/sched/mutex.h:

include/sched/wait.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/sched/thread.h:

drivers/pci/pci_config.h:

drivers/pci/pci_regs.h:
