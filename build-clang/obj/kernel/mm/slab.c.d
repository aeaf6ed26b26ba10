build-clang/obj/kernel/mm/slab.c.o: kernel/mm/slab.c include/lib/errno.h \
  include/lib/format.h include/lib/types.h include/lib/list.h \
  include/lib/string.h include/lib/text.h include/contract/boot_option.h \
  include/contract/section.h include/contract/proc_file.h \
  include/core/cpu.h include/lib/cpumask.h include/core/kallsyms.h \
  include/core/log.h include/core/panic.h include/core/spinlock.h \
  include/mm/page.h include/contract/boot_info.h include/x86/pte.h \
  include/mm/slab.h kernel/mm/internal.h

include/lib/errno.h:

include/lib/format.h:

include/lib/types.h:

include/lib/list.h:

include/lib/string.h:

include/lib/text.h:

include/contract/boot_option.h:

include/contract/section.h:

include/contract/proc_file.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/core/kallsyms.h:

include/core/log.h:

include/core/panic.h:

include/core/spinlock.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/mm/slab.h:

kernel/mm/internal.h:
