#!/bin/sh
# lint.sh - everything that can be said about the sources without running them. Called by `make lint`.
#
# usage: BUILD= PYTHON= MAKE= tests/lint.sh
set -u

build=${BUILD:-build}
python=${PYTHON:-/usr/bin/python3}
failed=0

# check NAME COMMAND...: run it, say how it went, go on whatever happened
check() {
    name=$1
    shift
    if "$@" >"$build/lint.log" 2>&1; then
        printf '  ok      %s\n' "$name"
    else
        printf '  FAILED  %s\n' "$name"
        sed 's/^/      /' "$build/lint.log"
        failed=$((failed + 1))
    fi
}

c_files() { find boot kernel drivers user include tests/host tests/kernel -name '*.[ch]'; }
shell_files() { find tools tests .ci -name '*.sh' -o -path .ci/run; }

format() { c_files | xargs clang-format --dry-run --Werror; }

# Suppressed, with reasons:
#   missingIncludeSystem  there is no C library
#   unusedFunction        records in linker sets and assembly call what nobody else names
#   unusedStructMember    descriptors have members that only the device reads
#   unmatchedSuppression  a suppression may outlive its cause in one configuration
#   constParameter*       signatures of callbacks are not ours to change
#   comparePointers       walking from a section's first symbol to its last is how linker sets work
#   nullPointer           typeof and offsetof name members through a null pointer, and read nothing
#   zerodivcond           sees `n /= base` as a test of base
#   shiftTooManyBits      DMA_BIT_MASK(64) never shifts by 64; the compilers find those that do
#   va_end_missing        panic never returns to a va_end
#   arrayIndexOutOfBoundsCond  guesses that a loop's bound is its only one
#   intToPointerCast      addresses from tables and registers are numbers first
cppcheck_all() {
    cppcheck --quiet --std=c11 --platform=unix64 --enable=warning,performance,portability \
        --inline-suppr --error-exitcode=1 -Iinclude -D__x86_64__ -D__GNUC__=12 \
        --suppress=missingIncludeSystem --suppress=unusedFunction \
        --suppress=unusedStructMember --suppress=unmatchedSuppression --suppress=constParameter \
        --suppress=comparePointers --suppress=intToPointerCast \
        --suppress=nullPointer --suppress=zerodivcond --suppress=shiftTooManyBits --suppress=va_end_missing \
        --suppress=arrayIndexOutOfBoundsCond -j 2 boot kernel drivers
}

# A function that does not fit on a screen is a warning here, and a question in review.
long_functions() {
    find boot kernel drivers -name '*.c' -exec awk '
        FNR == 1 { open = 0 }
        /^[A-Za-z_].*\)$/ { name = $0 }
        /^\{$/ { open = FNR }
        /^\}$/ && open {
            if (FNR - open > 70)
                printf "  note    %s:%d: %d lines: %s\n", FILENAME, open, FNR - open, name
            open = 0
        }' {} +
}

shell_scripts() { shell_files | xargs shellcheck; }
python_scripts() { "$python" -m flake8 --max-line-length 100 tools tests; }
layers() { "$python" tests/layers.py --build "$build"; }
headers() { "$python" tests/headers.py --build "$build"; }
docs() { "$python" tests/docs.py; }
contexts() { "$python" tests/contexts.py; }
text_rules() {
    ! git grep -nIE '[[:blank:]]+$' -- ':!*.img' ':!tests/host/corpus' &&
        ! git grep -nIlE "$(printf '\r')\$" -- ':!tests/host/corpus'
}
# clang-format leaves comments alone. A picture or a table may be wider than a hundred columns: it has
# several blanks in a row, or a line that is drawn.
wide_comments() {
    ! git grep -nIE '^.{101,}$' -- '*.c' '*.h' '*.S' | grep -E '^[^:]+:[0-9]+: *// ' |
        grep -vE '// .*  |// links: |----|[^ -~]'
}

mkdir -p "$build"
check 'GCC, warnings are errors' "${MAKE:-make}" --no-print-directory BUILD="$build" objects
check 'clang, warnings are errors' \
    "${MAKE:-make}" --no-print-directory CC=clang BUILD="$build/clang" objects
check 'clang-format' format
check 'cppcheck' cppcheck_all
check 'layers' layers
check 'headers compile alone' headers
check 'documents name what exists' docs
check 'each API asserts its context' contexts
check 'shellcheck' shell_scripts
check 'flake8' python_scripts
check 'no blanks at line ends' text_rules
check 'comments of a hundred columns' wide_comments
long_functions

if [ "$failed" -ne 0 ]; then
    echo "lint: $failed checks failed"
    exit 1
fi
echo 'lint: clean'
