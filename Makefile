# tophalf: how it is built, run and tested. `make help` lists the targets and the variables.
#
# Everything that is made lands in $(BUILD). Sources are found by looking, so a new file needs no
# line here; header dependencies come from the compiler; a change of compiler or flags rebuilds.
# GNU make >= 4.0. V=1 shows the commands.

MAKEFLAGS += --no-builtin-rules --no-builtin-variables
# As many jobs as CPUs; but one where a person types, as parallel jobs have no standard input.
ifeq ($(filter run debug gdb debug-auto,$(MAKECMDGOALS))$(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/sh

## Variables (make run CPUS=4 ACCEL=kvm):
CPUS       ?= 2#        ## how many CPUs
MEM        ?= 256M#     ## how much memory
MACHINE    ?= q35#      ## QEMU machine: q35 or pc
FIRMWARE   ?= bios#     ## bios or uefi (OVMF)
ACCEL      ?= tcg#      ## tcg or kvm
NET        ?= user#     ## user, none, or a whole -netdev argument without its id
DISK       ?= $(BUILD)/disk.img#  ## raw image on the AHCI port; none for no disk
LABS       ?= yes#      ## no: without the devices that only experiments need (edu; NVMe or, on pc, IDE)
IOMMU      ?= none#     ## intel: a VT-d unit (q35; with APPEND=intel_iommu=on)
SCREEN     ?= none#     ## none, gtk or curses
APPEND     ?=#          ## boot options, as in "loglevel=7 ip=dhcp"
QEMU_EXTRA ?=#          ## more arguments for QEMU
BUILD      ?= build#    ## where everything that is made goes
T          ?=#          ## make test-console T=name: only the tests whose name holds it
JOBS       ?=#          ## make test JOBS=4: so many at a time; as many as the host has CPUs

PYTHON ?= $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)

# ---- set-up ------------------------------------------------------------------------------------
# It happens while make reads this file, before the compiler is looked for: a missing tool is
# installed, or named and everything stops. It costs a few milliseconds when nothing is missing.

goals    := $(or $(MAKECMDGOALS),all)
needs    := $(if $(filter-out clean help setup,$(goals)),build)
needs    += $(if $(filter run debug debug-auto iso bench test%,$(goals)),run)
needs    += $(if $(filter-out none,$(SCREEN)),$(if $(filter run debug%,$(goals)),screen))
needs    += $(if $(filter gdb debug-auto test%,$(goals)),gdb)
needs    += $(if $(filter test%,$(goals)),test)
needs    += $(if $(filter lint,$(goals)),test lint)
needs    := $(strip $(needs))
ifneq ($(needs),)
ifneq ($(TOPHALF_SETUP_DONE),yes)
ifneq ($(shell tools/setup.sh $(needs) >&2 || echo missing),)
$(error tools are missing, see above)
endif
export TOPHALF_SETUP_DONE := yes
endif
endif

# ---- tools -------------------------------------------------------------------------------------
# CROSS_COMPILE is found by itself: x86_64-elf-, x86_64-linux-gnu-, or the native tools where they
# make x86-64 code. CC=clang compiles with clang; the linker is GNU ld in every case.

ifeq ($(origin CROSS_COMPILE),undefined)
CROSS_COMPILE := $(shell for p in x86_64-elf- x86_64-linux-gnu-; do \
    command -v $${p}gcc >/dev/null && command -v $${p}ld >/dev/null && echo $$p && break; done)
endif
ifeq ($(filter command environment%,$(origin CC)),)
CC := $(CROSS_COMPILE)gcc
endif
LD      := $(CROSS_COMPILE)ld
NM      := $(CROSS_COMPILE)nm
OBJCOPY := $(CROSS_COMPILE)objcopy
HOSTCC  ?= gcc

clang := $(findstring clang,$(notdir $(CC)))
ifeq ($(clang),)
ifeq ($(filter-out clean help setup,$(goals)),)
else ifeq ($(filter x86_64% amd64%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
$(error $(CC) does not make x86-64 code: set CROSS_COMPILE to an x86_64-elf- tool chain, or CC=clang)
endif
endif

# ---- flags -------------------------------------------------------------------------------------

# C17 with GNU extensions, no library under it.
CFLAGS := -std=gnu17 -ffreestanding -O2 -g -gdwarf-4
# The kernel lives in the top 2 GiB and is never relocated.
CFLAGS += -mcmodel=kernel -fno-pic -fno-pie
# An interrupt may arrive between any two instructions: nothing may lie below the stack pointer, and
# no register beyond the general ones may be touched, as the entry code saves no others.
CFLAGS += -mno-red-zone -mgeneral-regs-only
# Frame pointers: a backtrace must work when everything else is broken.
CFLAGS += -fno-omit-frame-pointer -fno-strict-aliasing -fno-common
# gdb unwinds by .debug_frame; nothing is loaded for it.
CFLAGS += -fno-asynchronous-unwind-tables -fno-unwind-tables -fcf-protection=none
CFLAGS += -Wall -Wextra -Werror -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wundef
CFLAGS += -Wpointer-arith -Wwrite-strings -Wformat=2
CFLAGS += -Iinclude
CFLAGS += $(if $(clang),--target=x86_64-elf)

# A stack that is overrun is found at the function's end. boot/ runs before there is a guard value.
STACK_GUARD := -fstack-protector-strong -mstack-protector-guard=global
ASFLAGS     := -g -gdwarf-4 -Iinclude -Wall -Werror $(if $(clang),--target=x86_64-elf)
LDFLAGS     := -nostdlib -static -z max-page-size=0x1000 -z noexecstack --build-id=none \
               --no-warn-rwx-segments --orphan-handling=error

# Programs live low, have a red zone like all others, and no guard value.
USER_CFLAGS := $(filter-out -mcmodel=kernel -mno-red-zone,$(CFLAGS)) -fno-stack-protector \
               -Wno-infinite-recursion

cflags_of = $(if $(filter user/%,$1),$(USER_CFLAGS),$(CFLAGS) \
    $(if $(filter boot/%,$1),-fno-stack-protector,$(STACK_GUARD)))

# ---- sources -----------------------------------------------------------------------------------

SOURCES := $(sort $(shell find boot kernel drivers tests/kernel -name '*.[cS]' 2>/dev/null))
OBJECTS := $(SOURCES:%=$(BUILD)/obj/%.o)

# Programs for ring 3: user/NAME.c each, with what they share; they end up in the kernel's image.
PROGRAMS       := bad cost count echo hello
PROGRAM_COMMON := $(BUILD)/obj/user/crt0.S.o $(BUILD)/obj/user/lib.c.o
OBJECTS        += $(PROGRAMS:%=$(BUILD)/obj/user/%.embed.o)

ELF := $(BUILD)/tophalf.elf
ISO := $(BUILD)/tophalf.iso

quiet = $(if $(V),,@printf '  %-7s %s\n' '$1' '$2';)

.PHONY: all objects run test test-host test-fuzz test-kernel test-console test-iommu test-matrix \
        test-long test-static debug gdb debug-auto iso bench lint clean help setup FORCE

## Targets:
all: $(ELF) $(BUILD)/compile_commands.json ## the kernel, build/tophalf.elf (the default)

objects: $(OBJECTS) $(BUILD)/compile_commands.json ## compile every object, link nothing

$(BUILD)/obj/%.c.o: %.c $(BUILD)/.flags
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(call cflags_of,$<) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.S.o: %.S $(BUILD)/.flags
	@mkdir -p $(@D)
	$(call quiet,AS,$<)$(CC) $(ASFLAGS) -MMD -MP -c -o $@ $<

# Each program in two forms: whole, for gdb (build/user/NAME.debug), and stripped, to be embedded.
$(BUILD)/user/%.elf: $(BUILD)/obj/user/%.c.o $(PROGRAM_COMMON) user/user.ld $(BUILD)/.flags
	@mkdir -p $(@D)
	$(call quiet,LD,$@)$(LD) $(LDFLAGS) -T user/user.ld -o $(@:.elf=.debug) $(filter %.o,$^)
	@$(OBJCOPY) --strip-all $(@:.elf=.debug) $@

$(BUILD)/obj/user/%.embed.o: user/embed.S $(BUILD)/user/%.elf
	@mkdir -p $(@D)
	$(call quiet,EMBED,$*)$(CC) $(ASFLAGS) -DPROGRAM='"$*"' -DPROGRAM_FILE='"$(BUILD)/user/$*.elf"' \
	    -DPROGRAM_SECTION=.set.program.$* -c -o $@ $<

.SECONDARY: $(PROGRAMS:%=$(BUILD)/user/%.elf) $(PROGRAMS:%=$(BUILD)/obj/user/%.c.o) \
            $(PROGRAM_COMMON)

-include $(OBJECTS:.o=.d) $(PROGRAMS:%=$(BUILD)/obj/user/%.c.d) $(PROGRAM_COMMON:.o=.d)

# Written only when its text changes: what depends on it is rebuilt when the flags change.
define stamp
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$1)' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$1)' >$@
endef
$(BUILD)/.flags: FORCE
	$(call stamp,$(CC) $(CFLAGS) $(STACK_GUARD) $(ASFLAGS))
$(BUILD)/.objects: FORCE
	$(call stamp,$(LD) $(LDFLAGS) $(OBJECTS))
$(ISO).append: FORCE
	$(call stamp,$(APPEND))

# The symbol table for backtraces is part of the kernel that it describes, so the link is repeated
# until the table and the kernel agree (tools/link.sh).
$(ELF): $(OBJECTS) linker.ld tools/link.sh tools/kallsyms.awk $(BUILD)/.objects
	$(call quiet,LD,$@)CC='$(CC)' ASFLAGS='$(ASFLAGS)' LD='$(LD)' LDFLAGS='$(LDFLAGS)' NM='$(NM)' \
	    tools/link.sh $@ linker.ld $(OBJECTS)

compile_command = {"directory": "$(CURDIR)", "file": "$1", "output": "$(BUILD)/obj/$1.o", \
    "command": "$(CC) $(call cflags_of,$1) -c -o $(BUILD)/obj/$1.o $1"}
define newline


endef
comma := ,
$(BUILD)/compile_commands.json: $(BUILD)/.flags $(BUILD)/.objects
	$(file >$@,[$(subst } {,}$(comma)$(newline){,$(foreach s,$(filter %.c,$(SOURCES)),$(call compile_command,$s)))])

# ---- the image ---------------------------------------------------------------------------------

iso: $(ISO) ## the ISO image, build/tophalf.iso: boots by BIOS and by UEFI, from CD or from disk

# The image carries the kernel without its debugging information: it loads faster. It takes its name
# only when it is whole: whoever boots the one before meanwhile keeps that one.
$(ISO): $(ELF) iso/grub.cfg $(ISO).append
	@rm -rf $@.tree && mkdir -p $@.tree/boot/grub
	@$(OBJCOPY) --strip-debug $(ELF) $@.tree/boot/tophalf.elf
	@append='$(subst ','\'',$(APPEND))' awk '{ at = index($$0, "@APPEND@"); \
	    if (at) $$0 = substr($$0, 1, at - 1) ENVIRON["append"] substr($$0, at + 8); print }' \
	    iso/grub.cfg >$@.tree/boot/grub/grub.cfg
	$(call quiet,ISO,$@)grub-mkrescue -o $@.new $@.tree >$@.log 2>&1 && mv $@.new $@ || \
	    { cat $@.log >&2; rm -f $@.new; exit 1; }

# ---- running -----------------------------------------------------------------------------------

# The experiments' own disk: what they write does not touch DISK.
LAB_DISK := $(if $(filter no,$(LABS)),none,$(BUILD)/labs.img)

qemu = $(PYTHON) tools/qemu.py --cpus '$(CPUS)' --mem '$(MEM)' --machine '$(MACHINE)' \
       --firmware '$(FIRMWARE)' --accel '$(ACCEL)' --net '$(NET)' --disk '$(DISK)' \
       --labs '$(LAB_DISK)' --iommu '$(IOMMU)' --screen '$(SCREEN)' \
       --iso '$(ISO)' --build '$(BUILD)' --extra '$(subst ','\'',$(QEMU_EXTRA))'

# What these run on is made by a make of its own, with as many jobs as there are CPUs.
made = @$(MAKE) $(if $(V),,-s) --no-print-directory $(ISO) $(ELF) $(filter $(BUILD)/%.img,$(DISK) $(LAB_DISK))

run: ## boot it in QEMU, console on this terminal
	$(made)
	@$(qemu) run

$(BUILD)/%.img:
	@mkdir -p $(@D)
	$(call quiet,DISK,$@)$(PYTHON) tools/mkdisk.py $@

debug: ## as run, but halted until gdb comes (make gdb in a second terminal)
	$(made)
	@$(qemu) debug

gdb: $(ELF) ## attach gdb to what `make debug` started, with symbols and our commands
	@gdb -q -x tools/gdb/tophalf.py -ex 'tophalf attach $(BUILD)/gdb.sock' $(ELF)

debug-auto: ## both in one terminal; the console goes to build/serial.log
	$(made)
	@$(qemu) debug-auto

# ---- checking ----------------------------------------------------------------------------------

run_tests = $(PYTHON) tests/run.py --build '$(BUILD)' $(JOBS:%=-j%)

test: test-build ## everything that tells whether the tree is right, then one line of sums
	@$(run_tests) all

test-host: $(BUILD)/host/.built ## pure code on this machine, under ASan and UBSan, and short fuzzing
	@$(run_tests) host

test-kernel: $(ELF) ## the tests inside the kernel, on 1, 2 and 4 CPUs
	@$(run_tests) kernel

test-console: $(ELF) $(ISO) ## the tests on the serial console; T=name picks some
	@$(run_tests) console $(if $(T),-k '$(T)')

test-matrix: $(ELF) $(ISO) ## the whole boot matrix: machines, firmware, CPUs, memory, devices
	@$(run_tests) matrix

test-iommu: $(ELF) $(ISO) ## the tests of devices behind translation hardware: strict, lazy, pass-through
	@$(run_tests) iommu $(if $(T),-k '$(T)')

test-long: $(ELF) $(ISO) ## the long campaigns, minutes to hours; T=name picks some
	@$(run_tests) long $(if $(T),-k '$(T)')

test-static: $(ELF) ## layers, headers, the map of the documents, contexts
	@$(run_tests) static

.PHONY: test-build
test-build: $(ELF) $(ISO) $(BUILD)/host/.built $(BUILD)/compile_commands.json

-include tests/host/host.mk

lint: objects ## both compilers, cppcheck, format, layers, scripts
	@CC_GCC='$(CROSS_COMPILE)gcc' BUILD='$(BUILD)' PYTHON='$(PYTHON)' MAKE='$(MAKE)' tests/lint.sh

bench: $(ELF) $(ISO) ## the benchmarks: what is measured today, and what is not yet
	@TOPHALF_BUILD='$(abspath $(BUILD))' $(PYTHON) tools/bench.py --build '$(BUILD)'

setup: ## install what run, test and lint need (they do it by themselves)
	@tools/setup.sh build run gdb test lint

clean: ## remove everything that was made
	rm -rf $(BUILD)

help: ## this list
	@awk -f tools/help.awk $(MAKEFILE_LIST)
