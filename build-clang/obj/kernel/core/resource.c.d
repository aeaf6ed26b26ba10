build-clang/obj/kernel/core/resource.c.o: kernel/core/resource.c \
  include/core/resource.h include/lib/types.h include/core/spinlock.h \
  include/core/cpu.h include/lib/cpumask.h include/lib/text.h \
  include/lib/errno.h include/lib/string.h

include/core/resource.h:

include/lib/types.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/lib/errno.h:

include/lib/string.h:
