build-clang/obj/drivers/char/screen.c.o: drivers/char/screen.c \
  include/lib/errno.h include/lib/string.h include/lib/types.h \
  include/core/clock.h include/core/cpu.h include/lib/cpumask.h \
  include/lib/text.h include/core/log.h include/mm/slab.h \
  include/mm/page.h include/contract/boot_info.h include/x86/pte.h \
  include/sched/mutex.h include/sched/wait.h include/core/spinlock.h \
  include/lib/list.h include/sched/thread.h include/defer/work.h \
  include/defer/timer.h include/dev/tty.h include/char/screen.h \
  drivers/char/screen_ops.h drivers/char/vt.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/core/log.h:

include/mm/slab.h:

include/mm/page.h:

include/contract/boot_info.h:

include/x86/pte.h:

include/sched/mutex.h:

include/sched/wait.h:

include/core/spinlock.h:

include/lib/list.h:

include/sched/thread.h:

include/defer/work.h:

include/defer/timer.h:

include/dev/tty.h:

include/char/screen.h:

drivers/char/screen_ops.h:

drivers/char/vt.h:
