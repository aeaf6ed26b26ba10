build-clang/obj/kernel/dev/skbuff.c.o: kernel/dev/skbuff.c \
  include/core/panic.h include/lib/types.h include/dev/skbuff.h \
  include/lib/list.h

include/core/panic.h:

include/lib/types.h:

include/dev/skbuff.h:

include/lib/list.h:
