build-clang/obj/kernel/lib/cpumask.c.o: kernel/lib/cpumask.c \
  include/lib/cpumask.h include/lib/text.h include/lib/types.h \
  include/lib/errno.h include/lib/string.h

include/lib/cpumask.h:

include/lib/text.h:

include/lib/types.h:

include/lib/errno.h:

include/lib/string.h:
