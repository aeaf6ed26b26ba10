build-clang/obj/kernel/lib/text.c.o: kernel/lib/text.c \
  include/lib/format.h include/lib/types.h include/lib/string.h \
  include/lib/text.h

include/lib/format.h:

include/lib/types.h:

include/lib/string.h:

include/lib/text.h:
