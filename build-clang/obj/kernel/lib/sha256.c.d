build-clang/obj/kernel/lib/sha256.c.o: kernel/lib/sha256.c \
  include/lib/checksum.h include/lib/types.h include/lib/string.h

include/lib/checksum.h:

include/lib/types.h:

include/lib/string.h:
