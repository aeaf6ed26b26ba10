build-clang/obj/boot/boot.c.o: boot/boot.c include/x86/pte.h boot/boot.h \
  include/contract/boot_info.h include/lib/types.h

include/x86/pte.h:

boot/boot.h:

include/contract/boot_info.h:

include/lib/types.h:
