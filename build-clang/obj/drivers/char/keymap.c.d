build-clang/obj/drivers/char/keymap.c.o: drivers/char/keymap.c \
  include/lib/string.h include/lib/types.h drivers/char/keymap.h

include/lib/string.h:

include/lib/types.h:

drivers/char/keymap.h:
