build-clang/obj/kernel/core/option.c.o: kernel/core/option.c \
  include/contract/boot_option.h include/contract/section.h \
  include/lib/types.h include/core/log.h include/core/option.h \
  include/lib/errno.h include/lib/string.h

include/contract/boot_option.h:

include/contract/section.h:

include/lib/types.h:

include/core/log.h:

include/core/option.h:

include/lib/errno.h:

include/lib/string.h:
