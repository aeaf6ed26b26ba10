// Sets of CPUs as text. The mask form is hex in groups of 32 bits, highest first ("3",
// "ff,ffffffff"), as wide as the machine has CPUs; the list form is ranges ("0-1,4"). Both are what
// Linux's /proc/irq/N/smp_affinity(_list) read and write. Context: any.
#include <lib/cpumask.h>
#include <lib/errno.h>
#include <lib/string.h>

unsigned cpumask_next(const struct cpumask *m, unsigned from)
{
    for (unsigned word = from / 64; word < MAX_CPUS / 64; word++) {
        uint64_t bits = READ_ONCE(m->bits[word]);

        if (word == from / 64) {
            bits &= ~0ull << (from % 64);
        }
        if (bits != 0) {
            return word * 64 + (unsigned)__builtin_ctzll(bits);
        }
    }
    return MAX_CPUS;
}

unsigned cpumask_weight(const struct cpumask *m)
{
    unsigned weight = 0;

    for_each_cpu (cpu, m) {
        weight++;
    }
    return weight;
}

bool cpumask_empty(const struct cpumask *m)
{
    return cpumask_next(m, 0) == MAX_CPUS;
}

bool cpumask_equal(const struct cpumask *a, const struct cpumask *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

void cpumask_and(struct cpumask *to, const struct cpumask *a, const struct cpumask *b)
{
    for (unsigned word = 0; word < MAX_CPUS / 64; word++) {
        to->bits[word] = a->bits[word] & b->bits[word];
    }
}

void cpumask_show(struct text *t, const struct cpumask *m, unsigned count)
{
    unsigned groups = DIV_ROUND_UP(max(count, 1u), 32);
    unsigned first_digits = DIV_ROUND_UP(count - (groups - 1) * 32, 4);

    for (unsigned g = groups; g-- > 0;) {
        uint32_t bits = (uint32_t)(m->bits[g / 2] >> (g % 2 * 32));

        text_printf(t, "%0*x%s", g == groups - 1 ? (int)first_digits : 8, bits, g != 0 ? "," : "");
    }
}

void cpumask_show_list(struct text *t, const struct cpumask *m)
{
    const char *separator = "";

    for (unsigned first = cpumask_next(m, 0); first < MAX_CPUS;) {
        unsigned last = first;

        while (cpumask_test(m, last + 1)) {
            last++;
        }
        text_printf(t, last > first ? "%s%u-%u" : "%s%u", separator, first, last);
        separator = ",";
        first = cpumask_next(m, last + 1);
    }
}

static int cpumask_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int cpumask_parse(const char *s, unsigned count, struct cpumask *m)
{
    struct cpumask result = {0};
    unsigned digits_in_group = 0;
    bool any = false;

    for (; *s != '\0' && *s != '\n'; s++) {
        int digit = cpumask_hex(*s);

        if (*s == ',' && digits_in_group != 0) {
            digits_in_group = 0;
            continue;
        }
        if (digit < 0 || digits_in_group == 8) {
            return -EINVAL;
        }
        if (result.bits[MAX_CPUS / 64 - 1] >> 60 != 0) {
            return -EOVERFLOW;
        }
        for (unsigned word = MAX_CPUS / 64; word-- > 0;) { // shift the whole set left by one digit
            result.bits[word] = result.bits[word] << 4 |
                                (word != 0 ? result.bits[word - 1] >> 60 : (uint64_t)digit);
        }
        digits_in_group++;
        any = true;
    }
    if (!any || digits_in_group == 0) {
        return -EINVAL;
    }
    if (cpumask_next(&result, count) < MAX_CPUS) {
        return -EOVERFLOW;
    }
    *m = result;
    return 0;
}

// One number; -EINVAL without digits, capped so that it cannot wrap.
static int cpumask_number(const char **s, unsigned *value)
{
    if (**s < '0' || **s > '9') {
        return -EINVAL;
    }
    for (*value = 0; **s >= '0' && **s <= '9'; (*s)++) {
        *value = min(*value * 10 + (unsigned)(**s - '0'), 1u << 24);
    }
    return 0;
}

int cpumask_parse_list(const char *s, unsigned count, struct cpumask *m)
{
    struct cpumask result = {0};

    if (*s == '\0' || *s == '\n') {
        *m = result;
        return 0;
    }
    for (;;) {
        unsigned first, last;

        if (cpumask_number(&s, &first) != 0) {
            return -EINVAL;
        }
        last = first;
        if (*s == '-') {
            s++;
            if (cpumask_number(&s, &last) != 0 || last < first) {
                return -EINVAL;
            }
        }
        if (last >= count || last >= MAX_CPUS) {
            return -EOVERFLOW;
        }
        for (unsigned cpu = first; cpu <= last; cpu++) {
            cpumask_set(&result, cpu);
        }
        if (*s != ',') {
            break;
        }
        s++;
    }
    if (*s != '\0' && *s != '\n') {
        return -EINVAL;
    }
    *m = result;
    return 0;
}
