// The first table of exceptions: it can only say what happened and stop, but it can do that from
// the first 64-bit instructions on, when there is no log, no console and no C to rely on. Without
// it the earliest mistakes would be triple faults, which reset the machine without a word.
// kernel/x86/idt.c replaces it in the first lines of kernel_main; every other CPU passes through it
// too, between boot/trampoline.S and its own tables.
//
// Context: any CPU, interrupts off. Intel SDM vol. 3, 6.14.1 (gates), 6.15 (which exceptions push
// an error code).

#include <x86/segments.h>

#define COM1            0x3f8
#define COM1_STATUS     (COM1 + 5)
#define STATUS_EMPTY    0x20
#define DEBUG_EXIT_PORT 0xf4 // QEMU's isa-debug-exit, where there is one
#define EXIT_CODE       0x21 // EXIT_EARLY_PANIC of <core/panic.h>

#define GATE_INTERRUPT 0x8e00 // present, ring 0, interrupts off
#define EXCEPTIONS     32
// A bit for each vector for which the CPU pushes an error code: 8, 10 to 14, 17, 21, 29, 30.
#define PUSH_ERROR 0x60227d00

    .text
    .globl boot_fault_init
    .type boot_fault_init, @function
boot_fault_init: // fills the table, loads it; changes rax, rcx, rdx, rdi
    leaq boot_idt(%rip), %rdi
    leaq fault_stubs(%rip), %rax
    movl $EXCEPTIONS, %ecx
1:  movw %ax, (%rdi)
    movw $KERNEL_CS, 2(%rdi)
    movw $GATE_INTERRUPT, 4(%rdi)
    movq %rax, %rdx
    shrq $16, %rdx
    movw %dx, 6(%rdi)
    shrq $16, %rdx
    movl %edx, 8(%rdi)
    addq $16, %rax
    addq $16, %rdi
    decl %ecx
    jnz 1b
    lidt boot_idt_pointer(%rip)
    ret
    .size boot_fault_init, . - boot_fault_init

    .balign 16
fault_stubs:
    .set vector, 0
    .rept EXCEPTIONS
    .balign 16
    pushq $vector
    jmp fault
    .set vector, vector + 1
    .endr

fault: // vector, [error code], rip, cs, ...
    popq %r12
    xorl %r13d, %r13d
    movl $PUSH_ERROR, %eax
    btl %r12d, %eax
    jnc 1f
    popq %r13
1:  leaq fault_text(%rip), %rsi
    call print_text
    movq %r12, %rax
    call print_hex
    leaq fault_error(%rip), %rsi
    call print_text
    movq %r13, %rax
    call print_hex
    leaq fault_rip(%rip), %rsi
    call print_text
    movq (%rsp), %rax
    call print_hex
    leaq fault_cr2(%rip), %rsi
    call print_text
    movq %cr2, %rax
    call print_hex
    leaq fault_end(%rip), %rsi
    call print_text
    movb $EXIT_CODE, %al
    outb %al, $DEBUG_EXIT_PORT
2:  cli
    hlt
    jmp 2b

print_text: // NUL-terminated, at rsi
    lodsb
    testb %al, %al
    jz 1f
    call print_char
    jmp print_text
1:  ret

print_hex: // rax, 16 digits
    movq %rax, %rbx
    movl $16, %edi
1:  rolq $4, %rbx
    movl %ebx, %eax
    andl $0xf, %eax
    cmpb $10, %al
    jb 2f
    addb $('a' - '0' - 10), %al
2:  addb $'0', %al
    call print_char
    decl %edi
    jnz 1b
    ret

print_char: // al, after a bounded wait for the port
    movb %al, %r8b
    movl $100000, %ecx
    movw $COM1_STATUS, %dx
1:  inb %dx, %al
    testb $STATUS_EMPTY, %al
    jnz 2f
    decl %ecx
    jnz 1b
2:  movb %r8b, %al
    movw $COM1, %dx
    outb %al, %dx
    ret

    .section .rodata
fault_text:
    .asciz "\r\ntophalf: exception before the kernel was ready: vector 0x"
fault_error:
    .asciz " error 0x"
fault_rip:
    .asciz " rip 0x"
fault_cr2:
    .asciz " cr2 0x"
fault_end:
    .asciz "\r\n"
    .balign 8
    .globl boot_idt_pointer
boot_idt_pointer:
    .word EXCEPTIONS * 16 - 1
    .quad boot_idt

    .bss
    .balign 16
boot_idt:
    .skip EXCEPTIONS * 16

    .section .note.GNU-stack, "", @progbits
