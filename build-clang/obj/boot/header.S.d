build-clang/obj/boot/header.S.o: boot/header.S
