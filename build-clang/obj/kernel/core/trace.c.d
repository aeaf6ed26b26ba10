build-clang/obj/kernel/core/trace.c.o: kernel/core/trace.c \
  include/contract/proc_file.h include/contract/section.h \
  include/lib/text.h include/lib/types.h include/core/clock.h \
  include/core/cpu.h include/lib/cpumask.h include/core/kallsyms.h \
  include/core/trace.h include/lib/errno.h include/lib/string.h

include/contract/proc_file.h:

include/contract/section.h:

include/lib/text.h:

include/lib/types.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/core/kallsyms.h:

include/core/trace.h:

include/lib/errno.h:

include/lib/string.h:
