build-clang/obj/kernel/core/cpu.c.o: kernel/core/cpu.c include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/lib/types.h \
  include/core/log.h include/core/panic.h

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/lib/types.h:

include/core/log.h:

include/core/panic.h:
