#!/bin/sh
# link.sh - link the kernel with its own symbol table.
#
# usage: CC= ASFLAGS= LD= LDFLAGS= NM= tools/link.sh OUT.elf LINKER.ld OBJECT...
#
# The table (tools/kallsyms.awk) is made from the linked kernel and linked into it, which changes the
# kernel. So: link with an empty table (0); make the table and link again, now all sizes are right
# and only what lies behind the table has moved (1); once more, and nothing moves (2). The end
# proves it: the table made from the result must be the table inside it.
#
# The lists of flags are words to be split.
# shellcheck disable=SC2086
set -eu

out=$1 script=$2
shift 2
work=$(dirname "$out")/kallsyms
awk=$(dirname "$0")/kallsyms.awk
mkdir -p "$work"
rm -f "$out"

# table KERNEL N: the table of a linked kernel, as N.S
table() {
    $NM -n "$1" >"$work/$2.nm"
    awk -f "$awk" "$work/$2.nm" >"$work/$2.S"
}

: >"$work/none.nm"
awk -f "$awk" "$work/none.nm" >"$work/0.S"
for n in 0 1 2; do
    strip=-S
    [ $n = 2 ] && strip=
    $CC $ASFLAGS -c -o "$work/$n.o" "$work/$n.S"
    $LD $LDFLAGS $strip -T "$script" -Map="$work/$n.map" -o "$work/$n.elf" "$@" "$work/$n.o"
    table "$work/$n.elf" $((n + 1))
done

if ! cmp -s "$work/2.S" "$work/3.S"; then
    echo "$0: the symbol table does not agree with the kernel (compare $work/2.S and $work/3.S):" >&2
    echo "$0: something with a size of its own stands behind .rodata.kallsyms in $script" >&2
    exit 1
fi
mv "$work/2.map" "${out%.elf}.map"
mv "$work/2.elf" "$out"
