// The one instruction with which the kernel touches a program's memory.
//
// It may fault: so it has a record in the set exception_fixup, as copy_nofault has in
// kernel/x86/catch.S: {the instruction, where to go on when it faults}.
//
// With SMAP, ring 0 may reach ring 3's pages only while RFLAGS.AC is set: it is, for this one
// instruction. An interrupt in between clears it on its way in (entry.S), and its IRETQ brings it
// back. Intel SDM vol. 3, 4.6.1. Context: thread.

#include <lib/errno.h>

    .cfi_sections .debug_frame
    .text

// int copy_user(void *to, const void *from, size_t size): 0 or -EFAULT. The caller has checked that
// the one that is the program's is.
    .globl copy_user
    .type copy_user, @function
    .balign 16
copy_user:
    .cfi_startproc
    movq %rdx, %rcx
    xorl %eax, %eax
    cmpb $0, cpu_has_smap(%rip)
    je 1f
    stac
1:  rep movsb
2:  cmpb $0, cpu_has_smap(%rip)
    je 3f
    clac
3:  ret
4:  movl $-EFAULT, %eax
    jmp 2b
    .cfi_endproc
    .size copy_user, . - copy_user

    .section .set.exception_fixup.copy_user, "a", @progbits
    .balign 8
    .quad 1b, 4b

    .section .note.GNU-stack, "", @progbits
