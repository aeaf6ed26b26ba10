build-clang/obj/drivers/pci/pci_access.c.o: drivers/pci/pci_access.c \
  drivers/pci/pci_config.h include/pci/pci.h include/contract/device.h \
  include/lib/types.h include/contract/section.h include/core/io.h \
  include/lib/list.h include/lib/text.h drivers/pci/pci_regs.h \
  include/lib/format.h include/core/log.h include/core/resource.h \
  include/core/spinlock.h include/core/cpu.h include/lib/cpumask.h \
  include/x86/acpi.h include/contract/boot_info.h include/mm/map.h \
  include/x86/pte.h include/mm/slab.h include/mm/page.h

drivers/pci/pci_config.h:

include/pci/pci.h:

include/contract/device.h:

include/lib/types.h:

include/contract/section.h:

include/core/io.h:

include/lib/list.h:

include/lib/text.h:

drivers/pci/pci_regs.h:

include/lib/format.h:

include/core/log.h:

include/core/resource.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/x86/acpi.h:

include/contract/boot_info.h:

include/mm/map.h:

include/x86/pte.h:

include/mm/slab.h:

include/mm/page.h:
