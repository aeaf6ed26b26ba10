build-clang/obj/kernel/dev/skb_alloc.c.o: kernel/dev/skb_alloc.c \
  include/lib/list.h include/lib/types.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/core/panic.h \
  include/mm/slab.h include/mm/page.h include/contract/boot_info.h \
  include/x86/pte.h include/dev/skbuff.h

include/lib/list.h:

include/lib/types.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/panic.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/dev/skbuff.h:
