// Ports and memory-mapped registers. readl and friends are the only way to touch a device register:
// one access, of this width, in program order with the other accesses. Context: any.
#pragma once

#include <lib/types.h>

#define __iomem // marks pointers that only readl/writel may follow

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline void outb(uint8_t value, uint16_t port)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void outw(uint16_t value, uint16_t port)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void outl(uint32_t value, uint16_t port)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

// The compiler may neither split, merge nor reorder these; a fixed addressing form keeps emulators
// and hypervisors happy.
static inline uint8_t readb(const volatile void __iomem *address)
{
    uint8_t v;
    __asm__ volatile("movb (%1), %0" : "=q"(v) : "r"(address) : "memory");
    return v;
}

static inline uint16_t readw(const volatile void __iomem *address)
{
    uint16_t v;
    __asm__ volatile("movw (%1), %0" : "=r"(v) : "r"(address) : "memory");
    return v;
}

static inline uint32_t readl(const volatile void __iomem *address)
{
    uint32_t v;
    __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(address) : "memory");
    return v;
}

static inline uint64_t readq(const volatile void __iomem *address)
{
    uint64_t v;
    __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(address) : "memory");
    return v;
}

static inline void writeb(uint8_t value, volatile void __iomem *address)
{
    __asm__ volatile("movb %0, (%1)" ::"q"(value), "r"(address) : "memory");
}

static inline void writew(uint16_t value, volatile void __iomem *address)
{
    __asm__ volatile("movw %0, (%1)" ::"r"(value), "r"(address) : "memory");
}

static inline void writel(uint32_t value, volatile void __iomem *address)
{
    __asm__ volatile("movl %0, (%1)" ::"r"(value), "r"(address) : "memory");
}

static inline void writeq(uint64_t value, volatile void __iomem *address)
{
    __asm__ volatile("movq %0, (%1)" ::"r"(value), "r"(address) : "memory");
}
