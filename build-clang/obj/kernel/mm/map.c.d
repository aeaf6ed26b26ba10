build-clang/obj/kernel/mm/map.c.o: kernel/mm/map.c include/lib/errno.h \
  include/lib/string.h include/lib/types.h include/contract/boot_info.h \
  include/core/cpu.h include/lib/cpumask.h include/lib/text.h \
  include/core/log.h include/core/panic.h include/core/spinlock.h \
  include/x86/cpuid.h include/x86/msr.h include/x86/pte.h \
  include/mm/map.h include/core/io.h include/mm/page.h \
  kernel/mm/internal.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:

include/contract/boot_info.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/log.h:

include/core/panic.h:

include/core/spinlock.h:

include/x86/cpuid.h:

include/x86/msr.h:

include/x86/pte.h:

include/mm/map.h:

include/core/io.h:

include/mm/page.h:

kernel/mm/internal.h:
