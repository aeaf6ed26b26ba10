build-clang/obj/kernel/core/clock.c.o: kernel/core/clock.c \
  include/core/clock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/lib/types.h

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/lib/types.h:
