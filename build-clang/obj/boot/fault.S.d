build-clang/obj/boot/fault.S.o: boot/fault.S include/x86/segments.h

include/x86/segments.h:
