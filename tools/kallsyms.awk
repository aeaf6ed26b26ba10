# kallsyms.awk - from `nm -n` of the kernel to the symbol table that the kernel carries (kallsyms.S).
#
# Input: address, type letter and name of each symbol, ascending. Kept are text, data, read-only data
# and bss of the kernel's half (the top 2 GiB). Output: five arrays in .rodata.kallsyms, which
# linker.ld puts last in .rodata, so that the table's size moves no function. The reader is
# kernel/core/kallsyms.c.

BEGIN { count = 0; offset = 0 }

$1 ~ /^ffffffff[89a-f]/ && $2 ~ /^[tTdDbBrRwWvV]$/ {
    address[count] = $1
    type[count] = $2
    name[count] = $3
    count++
}

END {
    print "    .section .rodata.kallsyms, \"a\", @progbits"
    array("kallsyms_count", 4)
    print "    .long " count
    array("kallsyms_addresses", 8)
    for (i = 0; i < count; i++)
        print "    .quad 0x" address[i]
    array("kallsyms_names", 4)
    for (i = 0; i < count; i++) {
        print "    .long " offset
        offset += length(name[i]) + 1
    }
    array("kallsyms_types", 1)
    for (i = 0; i < count; i++)
        print "    .byte '" type[i] "'"
    array("kallsyms_strings", 1)
    for (i = 0; i < count; i++)
        print "    .asciz \"" name[i] "\""
    print "    .section .note.GNU-stack, \"\", @progbits"
}

function array(label, alignment)
{
    print "    .balign " alignment
    print "    .globl " label
    print "    .type " label ", @object"
    print label ":"
}
