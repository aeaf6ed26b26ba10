build-clang/obj/drivers/pci/pci_caps.c.o: drivers/pci/pci_caps.c \
  drivers/pci/pci_config.h include/pci/pci.h include/contract/device.h \
  include/lib/types.h include/contract/section.h include/core/io.h \
  include/lib/list.h include/lib/text.h drivers/pci/pci_regs.h

drivers/pci/pci_config.h:

include/pci/pci.h:

include/contract/device.h:

include/lib/types.h:

include/contract/section.h:

include/core/io.h:

include/lib/list.h:

include/lib/text.h:

drivers/pci/pci_regs.h:
