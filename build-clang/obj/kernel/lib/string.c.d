build-clang/obj/kernel/lib/string.c.o: kernel/lib/string.c \
  include/lib/errno.h include/lib/string.h include/lib/types.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:
