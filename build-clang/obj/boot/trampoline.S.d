build-clang/obj/boot/trampoline.S.o: boot/trampoline.S include/x86/pte.h \
  include/x86/segments.h include/x86/smp.h

include/x86/pte.h:

include/x86/segments.h:

include/x86/smp.h:
