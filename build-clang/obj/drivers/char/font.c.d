build-clang/obj/drivers/char/font.c.o: drivers/char/font.c \
  drivers/char/font.h include/lib/types.h

drivers/char/font.h:

include/lib/types.h:
