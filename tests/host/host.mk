# Host tests: each tests/host/test_*.c is a cmocka program, each fuzz_*.c a libFuzzer target. Which
# sources of the project it links, it says itself in a comment line:
#
#   // links: kernel/lib/format.c tests/host/stubs/panic.c
#
# Built with -DHOST_TEST, under AddressSanitizer and UndefinedBehaviorSanitizer.

HOST_TESTS := $(sort $(wildcard tests/host/test_*.c))
HOST_FUZZ  := $(sort $(wildcard tests/host/fuzz_*.c))

HOST_FLAGS := -std=gnu17 -O1 -g -Wall -Wextra -Werror -Wshadow -fno-omit-frame-pointer -fno-common \
              -fno-sanitize-recover=all -Iinclude -I. -DHOST_TEST
HOST_CFLAGS := $(HOST_FLAGS) -fsanitize=address,undefined
FUZZ_CFLAGS := $(HOST_FLAGS) -fsanitize=fuzzer,address,undefined

# The kernel's own memcpy and its kin must not replace those of the host, on which the sanitizers
# rely: here they are called tophalf_memcpy and so on, and tests/host/test_string.c tests them so.
LIBC_NAMES := memcpy memmove memset memcmp memchr strlen strnlen strcmp strncmp strchr strrchr strstr \
              strspn strcspn
$(BUILD)/host/obj/kernel/lib/string.c.o $(BUILD)/host/fuzz/kernel/lib/string.c.o: \
    HOST_RENAMES := -fno-builtin $(foreach f,$(LIBC_NAMES),-D$f=tophalf_$f)

host_links = $(shell sed -n 's,^// *links: *,,p' $1)

$(BUILD)/host/.flags: FORCE
	$(call stamp,$(HOSTCC) $(HOST_CFLAGS))

$(BUILD)/host/obj/%.c.o: %.c $(BUILD)/host/.flags
	@mkdir -p $(@D)
	$(call quiet,HOSTCC,$<)$(HOSTCC) $(HOST_CFLAGS) $(HOST_RENAMES) -MMD -MP -c -o $@ $<

# A fuzz target is compiled whole: its own sources carry the coverage counters too.
$(BUILD)/host/fuzz/%.c.o: %.c $(BUILD)/host/.flags
	@mkdir -p $(@D)
	$(call quiet,FUZZCC,$<)clang $(FUZZ_CFLAGS) $(HOST_RENAMES) -MMD -MP -c -o $@ $<

# $1: tests/host/test_x.c
define host_test
$(BUILD)/host/$(basename $(notdir $1)): $(patsubst %,$(BUILD)/host/obj/%.o,$1 $(call host_links,$1)) $1
	$$(call quiet,HOSTLD,$$@)$(HOSTCC) $(HOST_CFLAGS) -o $$@ $$(filter %.o,$$^) -lcmocka
endef

define host_fuzz
$(BUILD)/host/$(basename $(notdir $1)): $(patsubst %,$(BUILD)/host/fuzz/%.o,$1 $(call host_links,$1)) $1
	$$(call quiet,FUZZLD,$$@)clang $(FUZZ_CFLAGS) -o $$@ $$(filter %.o,$$^)
endef

ifneq ($(filter test%,$(goals)),)
$(foreach t,$(HOST_TESTS),$(eval $(call host_test,$t)))
$(foreach t,$(HOST_FUZZ),$(eval $(call host_fuzz,$t)))
-include $(shell find $(BUILD)/host/obj $(BUILD)/host/fuzz -name '*.d' 2>/dev/null)
endif

$(BUILD)/host/.built: $(patsubst tests/host/%.c,$(BUILD)/host/%,$(HOST_TESTS) $(HOST_FUZZ))
	@mkdir -p $(@D) && touch $@
