build-clang/obj/drivers/char/vt.c.o: drivers/char/vt.c \
  include/lib/string.h include/lib/types.h drivers/char/vt.h

include/lib/string.h:

include/lib/types.h:

drivers/char/vt.h:
