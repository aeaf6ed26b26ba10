// Machine checks: caches, buses and memory report errors of their own in banks of registers.
//
//   MCi_STATUS  63 VAL  62 OVER  61 UC  60 EN  59 MISCV  58 ADDRV  57 PCC ... 15:0 MCA code
//   MCi_ADDR    where, when ADDRV
//
// An uncorrected error raises #MC; a corrected one waits until somebody looks (machine_check_poll).
// PCC, "processor context corrupt", or RIPV clear in MCG_STATUS means that the interrupted code
// cannot be returned to: panic. Intel SDM vol. 3, 16.3 (registers), 16.9 (codes).
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <lib/text.h>
#include <x86/cpuid.h>
#include <x86/frame.h>
#include <x86/mce.h>
#include <x86/msr.h>

#define MCG_CAP_BANKS   0xff
#define MCG_CAP_CTL     BIT64(8)
#define MCG_STATUS_RIPV BIT64(0)

#define MC_STATUS(bank) (MSR_MC_CTL(bank) + 1)
#define MC_ADDR(bank)   (MSR_MC_CTL(bank) + 2)

#define STATUS_VAL   BIT64(63)
#define STATUS_OVER  BIT64(62)
#define STATUS_UC    BIT64(61)
#define STATUS_ADDRV BIT64(58)
#define STATUS_PCC   BIT64(57)

enum { MAX_BANKS = 32 }; // SDM vol. 4 lists registers for 29; a larger number is not believed

static unsigned machine_check_banks(void)
{
    if (!cpu_has(FEATURE_MCA)) {
        return 0;
    }
    return min((unsigned)(rdmsr(MSR_MCG_CAP) & MCG_CAP_BANKS), (unsigned)MAX_BANKS);
}

// The compound codes of SDM vol. 3, table 16-10; F (bit 12, filtered) does not change the meaning.
static const char *machine_check_meaning(uint16_t code)
{
    code &= ~BIT(12);
    if (code & 0x0800) {
        return "bus or interconnect";
    }
    if (code == 0x0400) {
        return "internal timer";
    }
    if (code & 0x0400) {
        return "internal, unclassified";
    }
    if (code & 0x0100) {
        return "cache hierarchy";
    }
    if (code & 0x0080) {
        return "memory controller";
    }
    if (code & 0x0010) {
        return "TLB";
    }
    if (code & 0x000c) {
        return code == 0x5 ? "internal parity" : code == 0x4 ? "redundancy" : "generic cache";
    }
    return code == 0x1   ? "unclassified"
           : code == 0x2 ? "microcode parity"
           : code == 0x3 ? "external"
                         : "no error";
}

static void machine_check_log(unsigned bank, uint64_t status)
{
    char line[160];
    struct text t = TEXT_INIT(line);
    uint16_t code = (uint16_t)status;

    text_printf(&t, "machine check: CPU %u bank %u: %s error, %s (code %#06x, status 0x%016lx)",
                cpu_id(), bank, status & STATUS_UC ? "uncorrected" : "corrected",
                machine_check_meaning(code), code, status);
    if (status & STATUS_ADDRV) {
        text_printf(&t, " at %#lx", rdmsr(MC_ADDR(bank)));
    }
    text_puts(&t, status & STATUS_PCC ? ", state of the CPU is lost" : "");
    text_puts(&t, status & STATUS_OVER ? ", others were lost" : "");
    printk(status & STATUS_UC ? LOG_EMERG : LOG_WARNING, "%s", line);
}

// Logs and clears the banks with an error; returns how many, and all their status bits together.
static unsigned machine_check_collect(uint64_t *all)
{
    unsigned count = 0, banks = machine_check_banks();

    for (unsigned bank = 0; bank < banks; bank++) {
        uint64_t status = rdmsr(MC_STATUS(bank));
        if ((status & STATUS_VAL) == 0) {
            continue;
        }
        machine_check_log(bank, status);
        wrmsr(MC_STATUS(bank), 0);
        *all |= status;
        count++;
    }
    return count;
}

void machine_check_init(void)
{
    uint64_t all = 0;
    unsigned banks = machine_check_banks();

    machine_check_collect(&all);
    if (banks != 0 && (rdmsr(MSR_MCG_CAP) & MCG_CAP_CTL)) {
        wrmsr(MSR_MCG_CTL, ~0ull);
    }
    for (unsigned bank = 0; bank < banks; bank++) {
        wrmsr(MSR_MC_CTL(bank), ~0ull);
    }
}

unsigned machine_check_poll(void)
{
    uint64_t all = 0;

    return machine_check_collect(&all);
}

void machine_check(const struct frame *frame)
{
    uint64_t all = 0, global = cpu_has(FEATURE_MCA) ? rdmsr(MSR_MCG_STATUS) : 0;
    unsigned count = machine_check_collect(&all);

    if ((global & MCG_STATUS_RIPV) == 0 || (all & STATUS_PCC)) {
        panic_frame(frame,
                    "#MC machine check: the hardware reports an error that it cannot undo "
                    "(%u banks, above)",
                    count);
    }
    wrmsr(MSR_MCG_STATUS, 0); // "in progress" is taken back, or the next one shuts the CPU down
}
