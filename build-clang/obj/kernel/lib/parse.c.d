build-clang/obj/kernel/lib/parse.c.o: kernel/lib/parse.c \
  include/lib/errno.h include/lib/parse.h include/lib/types.h \
  include/lib/string.h

include/lib/errno.h:

include/lib/parse.h:

include/lib/types.h:

include/lib/string.h:
