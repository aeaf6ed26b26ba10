build-clang/obj/kernel/core/spinlock.c.o: kernel/core/spinlock.c \
  include/core/log.h include/lib/types.h include/core/panic.h \
  include/core/spinlock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h

include/core/log.h:

include/lib/types.h:

include/core/panic.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:
