build-clang/obj/kernel/lib/format.c.o: kernel/lib/format.c \
  include/lib/format.h include/lib/types.h include/lib/string.h

include/lib/format.h:

include/lib/types.h:

include/lib/string.h:
