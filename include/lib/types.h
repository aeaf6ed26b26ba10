// The words everything else is written in: scalars with a meaning, and the few macros that C lacks.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A physical address, as the CPU's page tables hold it. Never dereferenced: phys_to_virt() first.
typedef uint64_t phys_t;

// An address as a device sees it on its bus. A struct on purpose: with or without an IOMMU it is
// not a phys_t and not a pointer, and the compiler says so. Only kernel/dma makes one.
typedef struct {
    uint64_t value;
} dma_addr_t;

#define BIT(n)   (1u << (n))
#define BIT64(n) (1ull << (n))

#define ARRAY_SIZE(array)    (sizeof(array) / sizeof((array)[0]))
#define ALIGN_UP(x, align)   (((x) + (align)-1) & ~((__typeof__(x))(align)-1))
#define ALIGN_DOWN(x, align) ((x) & ~((__typeof__(x))(align)-1))
#define IS_ALIGNED(x, align) (((x) & ((__typeof__(x))(align)-1)) == 0)
#define IS_POWER_OF_2(x)     ((x) != 0 && ((x) & ((x)-1)) == 0)
#define DIV_ROUND_UP(n, d)   (((n) + (d)-1) / (d))

#define min(a, b)                          \
    ({                                     \
        __typeof__(a) min_a_ = (a);        \
        __typeof__(b) min_b_ = (b);        \
        min_a_ < min_b_ ? min_a_ : min_b_; \
    })
#define max(a, b)                          \
    ({                                     \
        __typeof__(a) max_a_ = (a);        \
        __typeof__(b) max_b_ = (b);        \
        max_a_ > max_b_ ? max_a_ : max_b_; \
    })

// From a pointer to a member to the struct around it: how a driver finds its own state from the
// class's.
#define container_of(pointer, type, member) \
    ((type *)((char *)(1 ? (pointer) : &((type *)0)->member) - offsetof(type, member)))

#define READ_ONCE(x)     (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
#define barrier()        __asm__ volatile("" ::: "memory")

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define __packed            __attribute__((packed))
#define __aligned(n)        __attribute__((aligned(n)))
#define __noreturn          __attribute__((noreturn))
#define __printf(fmt, args) __attribute__((format(printf, fmt, args)))
#define __must_check        __attribute__((warn_unused_result))
#define __noinline          __attribute__((noinline))
// For where each instruction counts, and what lies on the stack has no arrays to run over.
#define __no_stack_protector __attribute__((no_stack_protector))
#undef __always_inline // glibc has it too, in host tests
#define __always_inline inline __attribute__((always_inline))
#define __unused        __attribute__((unused))
#define fallthrough     __attribute__((fallthrough))

// Copies of text or numbers that a device or a table wrote, read byte by byte in little-endian
// order.
static inline uint16_t get_le16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t get_le32(const void *p)
{
    return get_le16(p) | (uint32_t)get_le16((const uint8_t *)p + 2) << 16;
}

static inline uint64_t get_le64(const void *p)
{
    return get_le32(p) | (uint64_t)get_le32((const uint8_t *)p + 4) << 32;
}
