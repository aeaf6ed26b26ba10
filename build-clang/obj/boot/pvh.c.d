build-clang/obj/boot/pvh.c.o: boot/pvh.c include/lib/string.h \
  include/lib/types.h boot/boot.h include/contract/boot_info.h

include/lib/string.h:

include/lib/types.h:

boot/boot.h:

include/contract/boot_info.h:
