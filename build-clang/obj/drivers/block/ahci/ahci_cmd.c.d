build-clang/obj/drivers/block/ahci/ahci_cmd.c.o: \
  drivers/block/ahci/ahci_cmd.c drivers/block/ahci/ahci_cmd.h \
  include/lib/types.h drivers/block/ahci/ahci_regs.h include/lib/text.h \
  include/lib/errno.h include/lib/string.h

drivers/block/ahci/ahci_cmd.h:

include/lib/types.h:

drivers/block/ahci/ahci_regs.h:

include/lib/text.h:

include/lib/errno.h:

include/lib/string.h:
