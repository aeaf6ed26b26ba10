build-clang/obj/kernel/mm/region.c.o: kernel/mm/region.c \
  include/lib/types.h kernel/mm/internal.h include/contract/boot_info.h \
  include/mm/page.h include/x86/pte.h

include/lib/types.h:

kernel/mm/internal.h:

include/contract/boot_info.h:

include/mm/page.h:

include/x86/pte.h:
