// A program's ELF file as a part of the kernel's constants, and its record (<user/program.h>).
// Assembled once for each program, with PROGRAM its name, PROGRAM_FILE
// the file, and PROGRAM_SECTION where the record goes.

    .section .rodata.program, "a", @progbits
    .balign 16
1:  .incbin PROGRAM_FILE
2:
3:  .asciz PROGRAM

    .section PROGRAM_SECTION, "a", @progbits
    .balign 8
    .quad 3b, 1b, 2b

    .section .note.GNU-stack, "", @progbits
