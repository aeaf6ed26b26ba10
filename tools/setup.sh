#!/bin/sh
# setup.sh - see that the tools are there that the named jobs need; install what is missing.
#
# usage: tools/setup.sh build|run|screen|gdb|test|lint ...
#
# The Makefile calls it before anything else. With everything in place it looks and leaves, silently.
# Else, on Debian and its kin, it prints the one line that installs what is missing, and runs it where
# it may: as root, or by sudo where that asks no question. On other systems it names the tools.
# The functions below are called by computed name.
# shellcheck disable=SC2317
set -u

missing='' # what is missing, one name a line, for people
packages='' # the Debian packages that have it

# lacks NAME PACKAGE...: note a missing tool
lacks() {
    missing="$missing    $1
"
    shift
    for package in "$@"; do
        case " $packages " in
        *" $package "*) ;;
        *) packages="$packages $package" ;;
        esac
    done
}

has() { command -v "$1" >/dev/null 2>&1; }
tool() { has "$1" || lacks "$@"; }

# file NAME PATTERN PACKAGE...: a file that must exist, given as a shell pattern
file() {
    name=$1 pattern=$2
    shift 2
    for found in $pattern; do
        [ -e "$found" ] && return
    done
    lacks "$name" "$@"
}

# module NAME PACKAGE: a Python module for the system's Python
module() {
    [ -e "/usr/lib/python3/dist-packages/$1" ] && return
    [ -e "/usr/lib/python3/dist-packages/$1.py" ] && return
    "$python" -c "import $1" >/dev/null 2>&1 || lacks "python3 module $1" "$2"
}

native_x86() { [ "$(uname -m)" = x86_64 ]; }

need_build() {
    if ! has "${CROSS_COMPILE:-x86_64-elf-}gcc" && ! has x86_64-linux-gnu-gcc; then
        if native_x86; then
            tool gcc gcc
            tool ld binutils
        else
            lacks "a gcc for x86-64" gcc-x86-64-linux-gnu binutils-x86-64-linux-gnu
        fi
    fi
    tool awk mawk
    tool find findutils
    tool cmp diffutils
}

need_run() {
    tool qemu-system-x86_64 qemu-system-x86 ipxe-qemu seabios
    tool grub-mkrescue grub-common
    file "GRUB's modules for BIOS (i386-pc)" '/usr/lib/grub/i386-pc/multiboot2.mod' grub-pc-bin
    file "GRUB's modules for UEFI (x86_64-efi)" '/usr/lib/grub/x86_64-efi/multiboot2.mod' \
        grub-efi-amd64-bin
    tool xorriso xorriso
    tool mformat mtools
    file "OVMF (UEFI firmware)" "$ovmf" ovmf
    tool python3 python3
}

need_screen() {
    file "QEMU's screens (gtk, curses)" '/usr/lib/*/qemu/ui-gtk.so' qemu-system-gui
}

need_gdb() { tool gdb gdb; }

need_test() {
    tool gcc gcc
    file "the C library's headers" '/usr/include/stdio.h' libc6-dev
    file "cmocka" '/usr/include/cmocka.h' libcmocka-dev
    tool clang clang
    file "clang's fuzzer and sanitizers" \
        '/usr/lib/llvm-*/lib/clang/*/lib/*/libclang_rt.fuzzer*.a' libclang-rt-dev
    module pytest python3-pytest
    module pexpect python3-pexpect
    tool ip iproute2
    tool ping iputils-ping
}

need_lint() {
    tool clang clang
    tool clang-format clang-format
    tool cppcheck cppcheck
    tool shellcheck shellcheck
    module flake8 python3-flake8
}

python=python3
[ -x /usr/bin/python3 ] && python=/usr/bin/python3
ovmf='/usr/share/[oO][vV][mM][fF]*/OVMF*.fd /usr/share/OVMF/OVMF_CODE*.fd
    /usr/share/edk2*/*/OVMF_CODE*.fd /usr/share/qemu/edk2-x86_64-code.fd
    /usr/share/qemu/ovmf-x86_64*.bin'

look() {
    missing='' packages=''
    for need in "$@"; do
        case $need in
        build | run | screen | gdb | test | lint) "need_$need" ;;
        *)
            echo "usage: $0 build|run|screen|gdb|test|lint ..." >&2
            exit 2
            ;;
        esac
    done
}

look "$@"
[ -z "$missing" ] && exit 0

printf 'tophalf needs, and this machine does not have:\n%s' "$missing"
if ! has apt-get; then
    echo "Install them with this system's package manager, then say make again."
    exit 1
fi

# The lists are fetched first: a fresh image has none, an old one has stale ones.
line="apt-get update && apt-get install -y --no-install-recommends$packages"
if [ "$(id -u)" = 0 ]; then
    as=''
elif has sudo && sudo -n true 2>/dev/null; then
    as='sudo '
else
    printf 'To install it (as root):\n\n    %s\n\nthen say make again.\n' "$line"
    exit 1
fi

printf 'Installing it:\n\n    %s\n\n' "$line"
export DEBIAN_FRONTEND=noninteractive
# packages is a list of words
# shellcheck disable=SC2086
if ! { ${as}apt-get update -q && ${as}apt-get install -q -y --no-install-recommends $packages; }; then
    printf '\nThat failed. When it is mended, say make again.\n'
    exit 1
fi

hash -r
look "$@"
[ -z "$missing" ] && exit 0
printf 'Still missing:\n%s' "$missing"
exit 1
