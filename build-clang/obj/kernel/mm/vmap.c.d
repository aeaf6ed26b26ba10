build-clang/obj/kernel/mm/vmap.c.o: kernel/mm/vmap.c include/lib/errno.h \
  include/lib/list.h include/lib/types.h include/lib/string.h \
  include/core/log.h include/core/panic.h include/core/spinlock.h \
  include/core/cpu.h include/lib/cpumask.h include/lib/text.h \
  include/x86/cpuid.h include/x86/pte.h include/mm/map.h \
  include/contract/boot_info.h include/core/io.h include/mm/page.h \
  include/mm/slab.h kernel/mm/internal.h

include/lib/errno.h:

include/lib/list.h:

include/lib/types.h:

include/lib/string.h:

include/core/log.h:

include/core/panic.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/x86/cpuid.h:

include/x86/pte.h:

include/mm/map.h:

include/contract/boot_info.h:

include/core/io.h:

include/mm/page.h:

include/mm/slab.h:

kernel/mm/internal.h:
