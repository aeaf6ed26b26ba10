build-clang/obj/kernel/mm/page.c.o: kernel/mm/page.c include/lib/errno.h \
  include/lib/parse.h include/lib/types.h include/lib/string.h \
  include/lib/text.h include/contract/boot_info.h \
  include/contract/boot_option.h include/contract/section.h \
  include/contract/proc_file.h include/core/log.h include/core/panic.h \
  include/core/resource.h include/core/spinlock.h include/core/cpu.h \
  include/lib/cpumask.h include/x86/cpuid.h include/mm/page.h \
  include/x86/pte.h kernel/mm/internal.h

include/lib/errno.h:

include/lib/parse.h:

include/lib/types.h:

include/lib/string.h:

include/lib/text.h:

include/contract/boot_info.h:

include/contract/boot_option.h:

include/contract/section.h:

include/contract/proc_file.h:

include/core/log.h:

include/core/panic.h:

include/core/resource.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/x86/cpuid.h:

include/mm/page.h:

include/x86/pte.h:

kernel/mm/internal.h:
