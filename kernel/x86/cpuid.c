// What this CPU can do, and the protections that follow from it.
//
// CPUID answers in 32-bit words of bits. They are read once, on the boot CPU, and kept as they are;
// a feature is a bit in one of them, and Linux's name of each bit stands in a string, in bit order,
// so that /proc/cpuinfo can print all of them.
//
// Intel SDM vol. 2, CPUID; vol. 3, 2.5 (control registers), 12.12 (PAT); AMD APM vol. 3, appendix
// E.
#include <lib/errno.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <lib/string.h>
#include <x86/cpuid.h>
#include <x86/mce.h>
#include <x86/msr.h>
#include <x86/pte.h>

enum cpuid_word {
    WORD_1_EDX,
    WORD_EXT1_EDX, // leaf 80000001h
    WORD_1_ECX,
    WORD_EXT1_ECX,
    WORD_7_EBX,
    WORD_7_ECX,
    WORD_7_EDX,
    WORD_NAMED, // the words above print by name
    WORD_6_EAX = WORD_NAMED,
    WORD_EXT7_EDX, // leaf 80000007h
    WORD_COUNT,
};

// A bit's name is the one at its place; "-" where Linux prints none.
static const char *const cpuid_bit_names[WORD_NAMED] = {
    [WORD_1_EDX] = "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn "
                   "clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe",
    [WORD_EXT1_EDX] = "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt "
                      "pdpe1gb rdtscp - lm 3dnowext 3dnow",
    [WORD_1_ECX] = "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 "
                   "xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes "
                   "xsave osxsave avx f16c rdrand hypervisor",
    [WORD_EXT1_ECX] = "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse "
                      "3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm "
                      "topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx - -",
    [WORD_7_EBX] = "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx "
                   "rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt "
                   "avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
    [WORD_7_ECX] = "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq "
                   "avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - "
                   "bus_lock_detect cldemote - movdiri movdir64b enqcmd - -",
    [WORD_7_EDX] = "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect - md_clear - - "
                   "- serialize - tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile "
                   "amx_int8 - - flush_l1d arch_capabilities - -",
};

static const struct {
    uint8_t word, bit;
} cpuid_features[FEATURE_COUNT] = {
    [FEATURE_NX] = {WORD_EXT1_EDX, 20},        [FEATURE_PAGE1GB] = {WORD_EXT1_EDX, 26},
    [FEATURE_SMEP] = {WORD_7_EBX, 7},          [FEATURE_SMAP] = {WORD_7_EBX, 20},
    [FEATURE_UMIP] = {WORD_7_ECX, 2},          [FEATURE_X2APIC] = {WORD_1_ECX, 21},
    [FEATURE_TSC_DEADLINE] = {WORD_1_ECX, 24}, [FEATURE_INVARIANT_TSC] = {WORD_EXT7_EDX, 8},
    [FEATURE_RDRAND] = {WORD_1_ECX, 30},       [FEATURE_FSGSBASE] = {WORD_7_EBX, 0},
    [FEATURE_PCID] = {WORD_1_ECX, 17},         [FEATURE_RDTSCP] = {WORD_EXT1_EDX, 27},
    [FEATURE_MCE] = {WORD_1_EDX, 7},           [FEATURE_MCA] = {WORD_1_EDX, 14},
    [FEATURE_PGE] = {WORD_1_EDX, 13},          [FEATURE_PAT] = {WORD_1_EDX, 16},
    [FEATURE_ARAT] = {WORD_6_EAX, 2},          [FEATURE_HYPERVISOR] = {WORD_1_ECX, 31},
};

static struct {
    uint32_t words[WORD_COUNT];
    uint32_t highest, highest_extended;
    uint32_t signature; // leaf 1, eax: family, model, stepping
    uint8_t clflush_bytes, phys_bits, virt_bits;
    char vendor[13];
    char brand[49];
} cpuid; // I

bool cpu_coarse_clock; // I: boot option clock=coarse
uint8_t cpu_has_smap;  // I: read by kernel/user/copy.S at each copy

struct cpuid_regs {
    uint32_t eax, ebx, ecx, edx;
};

// A leaf that the CPU does not have answers zeroes.
static struct cpuid_regs cpuid_leaf(uint32_t leaf)
{
    struct cpuid_regs r = {0};
    uint32_t highest = leaf >= 0x80000000 ? cpuid.highest_extended : cpuid.highest;

    if (leaf <= highest || leaf == 0 || leaf == 0x80000000) {
        __asm__ volatile("cpuid"
                         : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                         : "a"(leaf), "c"(0));
    }
    return r;
}

static void cpuid_read_names(void)
{
    struct cpuid_regs r = cpuid_leaf(0);

    memcpy(cpuid.vendor, &r.ebx, 4);
    memcpy(cpuid.vendor + 4, &r.edx, 4);
    memcpy(cpuid.vendor + 8, &r.ecx, 4);

    for (uint32_t n = 0; n < 3; n++) {
        r = cpuid_leaf(0x80000002 + n);
        memcpy(cpuid.brand + 16 * n, &r, 16);
    }
    // Intel pads with blanks in front.
    size_t blanks = strspn(cpuid.brand, " ");
    memmove(cpuid.brand, cpuid.brand + blanks, sizeof(cpuid.brand) - blanks);
    if (cpuid.brand[0] == '\0') {
        strscpy(cpuid.brand, "unknown x86-64", sizeof(cpuid.brand));
    }
}

void cpuid_init(void)
{
    struct cpuid_regs r;

    cpuid.highest = cpuid_leaf(0).eax;
    cpuid.highest_extended = cpuid_leaf(0x80000000).eax;
    cpuid_read_names();

    r = cpuid_leaf(1);
    cpuid.signature = r.eax;
    cpuid.clflush_bytes = (uint8_t)((r.ebx >> 8 & 0xff) * 8);
    cpuid.words[WORD_1_EDX] = r.edx;
    cpuid.words[WORD_1_ECX] = r.ecx;
    r = cpuid_leaf(7);
    cpuid.words[WORD_7_EBX] = r.ebx;
    cpuid.words[WORD_7_ECX] = r.ecx;
    cpuid.words[WORD_7_EDX] = r.edx;
    cpuid.words[WORD_6_EAX] = cpuid_leaf(6).eax;
    r = cpuid_leaf(0x80000001);
    cpuid.words[WORD_EXT1_EDX] = r.edx;
    cpuid.words[WORD_EXT1_ECX] = r.ecx;
    cpuid.words[WORD_EXT7_EDX] = cpuid_leaf(0x80000007).edx;

    r = cpuid_leaf(0x80000008);
    cpuid.phys_bits = r.eax & 0xff ? (uint8_t)r.eax : 36; // without the leaf: SDM vol. 3, 4.1.4
    cpuid.virt_bits = r.eax >> 8 & 0xff ? (uint8_t)(r.eax >> 8) : 48;

    cpu_has_smap = cpu_has(FEATURE_SMAP);
}

bool cpu_has(enum cpu_feature feature)
{
    return cpuid.words[cpuid_features[feature].word] >> cpuid_features[feature].bit & 1;
}

unsigned cpu_phys_bits(void)
{
    return cpuid.phys_bits;
}

const char *cpuid_brand(void)
{
    return cpuid.brand;
}

uint64_t cpu_random(void)
{
    enum {
        TRIES = 10
    }; // Intel SDM vol. 1, 7.3.17.1: more failures in a row mean that it is broken

    for (unsigned n = 0; n < TRIES && cpu_has(FEATURE_RDRAND); n++) {
        uint64_t value;
        bool good;
        __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(good));
        if (good) {
            return value;
        }
    }
    return 0;
}

// ---- protections --------------------------------------------------------------------------------

#define CR0_MP BIT64(1)
#define CR0_EM BIT64(2)
#define CR0_TS BIT64(3)
#define CR0_NE BIT64(5)
#define CR0_WP BIT64(16)

#define CR4_MCE  BIT64(6)
#define CR4_PGE  BIT64(7)
#define CR4_UMIP BIT64(11)
#define CR4_SMEP BIT64(20)
#define CR4_SMAP BIT64(21)
#define CR4_TSD  BIT64(2)

#define EFER_SCE BIT64(0)
#define EFER_NXE BIT64(11)

// What SYSCALL clears of RFLAGS: TF, IF, DF, IOPL, NT, AC. As an interrupt gate does, and what C
// expects.
#define SFMASK_VALUE 0x47700

extern const char syscall_entry[]; // entry.S

// CLAC is an instruction only where there is SMAP; elsewhere the places for it in entry.S do
// nothing. Once, before the kernel's text is made read-only: the boot CPU is alone.
static void cpu_patch_clac(void)
{
    static const uint8_t clac[] = {0x0f, 0x01, 0xca}; // Intel SDM vol. 2
    extern uint8_t *const entry_clac_places[];

    for (unsigned i = 0; cpu_has(FEATURE_SMAP) && entry_clac_places[i] != NULL; i++) {
        memcpy(entry_clac_places[i], clac, sizeof(clac));
    }
}

void cpu_protect(void)
{
    if (cpu_id() == 0) {
        cpu_patch_clac();
    }
    // Read-only pages bind ring 0 too; x87 errors arrive as #MF rather than through the 8259s.
    // The x87 and SSE registers are nobody's: TS and the missing CR4.OSFXSR make their use a fault.
    write_cr0((read_cr0() | CR0_WP | CR0_NE | CR0_MP | CR0_TS) & ~CR0_EM);

    // FSGSBASE stays off although the CPU may have it: entry.S tells the kernel's %gs base from the
    // user's by its sign, so ring 3 must not be able to choose any base it likes.
    uint64_t cr4 = read_cr4();
    cr4 |= cpu_has(FEATURE_PGE) ? CR4_PGE : 0;
    cr4 |= cpu_has(FEATURE_SMEP) ? CR4_SMEP : 0;
    cr4 |= cpu_coarse_clock ? CR4_TSD : 0;
    cr4 |= cpu_has(FEATURE_SMAP) ? CR4_SMAP : 0;
    cr4 |= cpu_has(FEATURE_UMIP) ? CR4_UMIP : 0;
    write_cr4(cr4);

    if (cpu_has(FEATURE_NX)) {
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    }
    // MSR_STAR, the segments, is with them in gdt.c. The entry before the switch that opens it.
    wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
    wrmsr(MSR_SFMASK, SFMASK_VALUE);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    if (cpu_has(FEATURE_PAT)) { // no page uses the entries that change yet
        wrmsr(MSR_PAT, PAT_VALUE);
    }
    if (cpu_has(FEATURE_MCE)) {
        machine_check_init();
        write_cr4(read_cr4() | CR4_MCE);
    }
}

// ---- /proc/cpuinfo ------------------------------------------------------------------------------

static void cpuid_show_flags(struct text *t)
{
    for (unsigned w = 0; w < WORD_NAMED; w++) {
        const char *name = cpuid_bit_names[w];
        for (unsigned bit = 0; *name != '\0'; bit++) {
            size_t length = strcspn(name, " ");
            if ((cpuid.words[w] >> bit & 1) && *name != '-') {
                text_putc(t, ' ');
                text_write(t, name, length);
            }
            name += length + (name[length] == ' ');
        }
    }
    if (cpu_has(FEATURE_INVARIANT_TSC)) {
        text_puts(t, " constant_tsc nonstop_tsc");
    }
    if (cpu_has(FEATURE_ARAT)) {
        text_puts(t, " arat");
    }
}

void cpuid_show(struct text *t, unsigned cpu)
{
    uint32_t s = cpuid.signature;
    uint32_t family = s >> 8 & 0xf, model = s >> 4 & 0xf;
    uint64_t khz = clock_tsc_hz() / 1000;

    if (family == 6 || family == 15) { // SDM vol. 2, CPUID, figure 3-6
        model += (s >> 16 & 0xf) << 4;
    }
    if (family == 15) {
        family += s >> 20 & 0xff;
    }
    text_printf(t, "processor\t: %u\n", cpu);
    text_printf(t, "vendor_id\t: %s\n", cpuid.vendor);
    text_printf(t, "cpu family\t: %u\n", family);
    text_printf(t, "model\t\t: %u\n", model);
    text_printf(t, "model name\t: %s\n", cpuid.brand);
    text_printf(t, "stepping\t: %u\n", s & 0xf);
    text_printf(t, "cpu MHz\t\t: %lu.%03lu\n", khz / 1000, khz % 1000);
    text_printf(t, "apicid\t\t: %u\n", cpus[cpu].apic_id);
    text_printf(t, "initial apicid\t: %u\n", cpus[cpu].apic_id);
    text_puts(t, "fpu\t\t: yes\nfpu_exception\t: yes\n");
    text_printf(t, "cpuid level\t: %u\n", cpuid.highest);
    text_puts(t, "wp\t\t: yes\nflags\t\t:");
    cpuid_show_flags(t);
    // Linux's figure: loops a second / 500,000, with one loop a TSC cycle.
    text_printf(t, "\nbugs\t\t:\nbogomips\t: %lu.%02lu\n", khz / 500, khz / 5 % 100);
    text_printf(t, "clflush size\t: %u\ncache_alignment\t: %u\n", cpuid.clflush_bytes,
                cpuid.clflush_bytes);
    text_printf(t, "address sizes\t: %u bits physical, %u bits virtual\n", cpuid.phys_bits,
                cpuid.virt_bits);
    text_puts(t, "power management:\n\n");
}

static void cpuinfo_show(struct text *t, unsigned long index __unused)
{
    for_each_online_cpu (cpu) {
        cpuid_show(t, cpu);
    }
}

PROC_FILE("cpuinfo", cpuinfo_show);

// ---- a coarse clock -----------------------------------------------------------------------------

// By then the boot CPU has its CR4; the others follow.
static int cpu_option_clock(const char *value)
{
    if (strcmp(value, "coarse") != 0) {
        return -EINVAL;
    }
    cpu_coarse_clock = true;
    write_cr4(read_cr4() | CR4_TSD);
    return 0;
}
BOOT_OPTION("clock", cpu_option_clock,
            "clock=coarse: programs may not read the time stamp counter (lab timing shows why)");
