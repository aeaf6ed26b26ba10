build-clang/obj/drivers/char/ps2.c.o: drivers/char/ps2.c \
  include/lib/errno.h include/core/clock.h include/core/cpu.h \
  include/lib/cpumask.h include/lib/text.h include/lib/types.h \
  include/core/io.h include/core/log.h include/core/resource.h \
  include/irq/irq.h include/irq/route.h include/contract/irq_chip.h \
  include/defer/tasklet.h include/core/spinlock.h include/lib/list.h \
  include/dev/tty.h include/char/ps2.h drivers/char/keymap.h

include/lib/errno.h:

include/core/clock.h:

include/core/cpu.h:

include/lib/cpumask.h:

include/lib/text.h:

include/lib/types.h:

include/core/io.h:

include/core/log.h:

include/core/resource.h:

include/irq/irq.h:

include/irq/route.h:

include/contract/irq_chip.h:

include/defer/tasklet.h:

include/core/spinlock.h:

include/lib/list.h:

include/dev/tty.h:

include/char/ps2.h:

drivers/char/keymap.h:
