build-clang/obj/kernel/net/route.c.o: kernel/net/route.c \
  include/lib/errno.h include/lib/parse.h include/lib/types.h \
  include/lib/string.h include/contract/boot_option.h \
  include/contract/section.h include/contract/proc_file.h \
  include/lib/text.h include/core/log.h include/dev/netdev.h \
  include/core/spinlock.h include/core/cpu.h include/lib/cpumask.h \
  include/dev/skbuff.h include/lib/list.h include/net/net.h \
  kernel/net/inet.h

include/lib/errno.h:

include/lib/parse.h:

include/lib/types.h:

include/lib/string.h:

include/contract/boot_option.h:

include/contract/section.h:

include/contract/proc_file.h:

include/lib/text.h:

include/core/log.h:

include/dev/netdev.h:

include/core/spinlock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/dev/skbuff.h:

include/lib/list.h:

include/net/net.h:

kernel/net/inet.h:
