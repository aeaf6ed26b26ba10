build-clang/obj/kernel/lib/checksum.c.o: kernel/lib/checksum.c \
  include/lib/checksum.h include/lib/types.h

include/lib/checksum.h:

include/lib/types.h:
