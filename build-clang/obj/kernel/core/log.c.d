build-clang/obj/kernel/core/log.c.o: kernel/core/log.c \
  include/contract/boot_option.h include/contract/section.h \
  include/lib/types.h include/core/clock.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/core/log.h \
  include/core/spinlock.h include/lib/errno.h include/lib/format.h \
  include/lib/parse.h include/lib/string.h

include/contract/boot_option.h:

include/contract/section.h:

include/lib/types.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/log.h:

include/core/spinlock.h:

include/lib/errno.h:

include/lib/format.h:

include/lib/parse.h:

include/lib/string.h:
