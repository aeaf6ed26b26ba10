build-clang/obj/boot/multiboot2.c.o: boot/multiboot2.c \
  include/lib/string.h include/lib/types.h boot/boot.h \
  include/contract/boot_info.h

include/lib/string.h:

include/lib/types.h:

boot/boot.h:

include/contract/boot_info.h:
