build-clang/obj/drivers/char/fbcon.c.o: drivers/char/fbcon.c \
  include/core/io.h include/lib/types.h include/core/log.h \
  include/core/resource.h include/mm/map.h include/contract/boot_info.h \
  include/lib/text.h include/x86/pte.h drivers/char/font.h \
  drivers/char/screen_ops.h

include/core/io.h:

include/lib/types.h:

include/core/log.h:

include/core/resource.h:

include/mm/map.h:

include/contract/boot_info.h:

include/lib/text.h:

include/x86/pte.h:

drivers/char/font.h:

drivers/char/screen_ops.h:
