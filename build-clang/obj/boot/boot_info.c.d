build-clang/obj/boot/boot_info.c.o: boot/boot_info.c include/lib/string.h \
  include/lib/types.h boot/boot.h include/contract/boot_info.h

include/lib/string.h:

include/lib/types.h:

boot/boot.h:

include/contract/boot_info.h:
