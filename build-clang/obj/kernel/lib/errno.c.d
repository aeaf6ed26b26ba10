build-clang/obj/kernel/lib/errno.c.o: kernel/lib/errno.c \
  include/lib/errno.h include/lib/types.h

include/lib/errno.h:

include/lib/types.h:
