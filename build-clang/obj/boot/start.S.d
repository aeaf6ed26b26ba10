build-clang/obj/boot/start.S.o: boot/start.S include/x86/pte.h \
  include/x86/segments.h

include/x86/pte.h:

include/x86/segments.h:
