// What loaders look for in the file: a multiboot2 header for GRUB, and an ELF note for QEMU's
// -kernel (PVH).
//
// One ELF serves both. There is no multiboot1 header on purpose: QEMU would take it first and then
// refuse the file for being 64-bit. Sources: Multiboot2 Specification 2.0, 3.1; Xen's
// public/elfnote.h and x86/HVM direct boot ABI.

#define MULTIBOOT2_MAGIC        0xe85250d6
#define MULTIBOOT2_I386         0
#define MULTIBOOT2_TAG_END      0
#define MULTIBOOT2_TAG_CONSOLE  4
#define MULTIBOOT2_TAG_OPTIONAL 1
#define CONSOLE_EGA_TEXT        2 // EGA text will do; where there is none, a frame buffer

    .section .boot.header, "a", @progbits
    .balign 8
multiboot2_header:
    .long MULTIBOOT2_MAGIC
    .long MULTIBOOT2_I386
    .long multiboot2_header_end - multiboot2_header
    .long -(MULTIBOOT2_MAGIC + MULTIBOOT2_I386 + multiboot2_header_end - multiboot2_header)

    .balign 8
    .word MULTIBOOT2_TAG_CONSOLE, MULTIBOOT2_TAG_OPTIONAL
    .long 12
    .long CONSOLE_EGA_TEXT

    .balign 8
    .word MULTIBOOT2_TAG_END, 0
    .long 8
multiboot2_header_end:

#define ELFNOTE_PHYS32_ENTRY 18 // description: the 32-bit physical address to enter at

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start_pvh

    .section .note.GNU-stack, "", @progbits
