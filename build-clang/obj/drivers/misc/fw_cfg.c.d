build-clang/obj/drivers/misc/fw_cfg.c.o: drivers/misc/fw_cfg.c \
  include/lib/errno.h include/lib/string.h include/lib/types.h \
  include/core/io.h include/misc/fw_cfg.h

include/lib/errno.h:

include/lib/string.h:

include/lib/types.h:

include/core/io.h:

include/misc/fw_cfg.h:
