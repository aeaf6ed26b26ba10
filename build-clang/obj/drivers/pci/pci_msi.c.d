build-clang/obj/drivers/pci/pci_msi.c.o: drivers/pci/pci_msi.c \
  include/lib/errno.h include/lib/format.h include/lib/types.h \
  include/lib/string.h include/contract/boot_option.h \
  include/contract/section.h include/contract/irq_chip.h \
  include/core/io.h include/core/log.h include/x86/lapic.h \
  include/lib/text.h include/mm/map.h include/contract/boot_info.h \
  include/x86/pte.h include/mm/slab.h include/mm/page.h \
  include/irq/route.h include/pci/pci.h include/contract/device.h \
  include/lib/list.h drivers/pci/pci_regs.h

include/lib/errno.h:

include/lib/format.h:

include/lib/types.h:

include/lib/string.h:

include/contract/boot_option.h:

include/contract/section.h:

include/contract/irq_chip.h:

include/core/io.h:

include/core/log.h:

include/x86/lapic.h:

include/lib/text.h:

include/mm/map.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/mm/slab.h:

include/mm/page.h:

include/irq/route.h:

include/pci/pci.h:

include/contract/device.h:

include/lib/list.h:

drivers/pci/pci_regs.h:
