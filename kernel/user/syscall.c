// System calls: the table behind SYSCALL and INT 0x80.
//
//   ring 3    rax = number, rdi rsi rdx = arguments     user/crt0.S
//             SYSCALL, or INT 0x80
//   entry.S   struct frame on the thread's empty stack  syscall_entry, or the gate's stub
//   spine     vector 0x80 from ring 3                   kernel/interrupt.c
//   here      interrupts on; table; frame->rax
//   entry.S   IRETQ                                     isr_return
//
// What a program hands over is a number until it is checked: no pointer of its is followed but by
// copy_from_user and copy_to_user, and what they bring is checked after it was copied, so that
// nobody changes it in between.
//
// Context: the process's thread; may sleep.
#include <lib/errno.h>
#include <core/cpu.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <user/copy.h>
#include <user/process.h>
#include <user/syscall.h>
#include "internal.h"

enum {
    SYSCALL_CHUNK = 512,            // bytes on the way, on the kernel's stack
    SYSCALL_MAX_BYTES = 0x7ffff000, // of one read or write, as in Linux
    SYSCALL_SLEEP_MS = 1000000,     // of a longer sleep, slept at a time
};

static long syscall_read(uint64_t fd, uint64_t to, uint64_t size)
{
    const struct process_io *io = process_io();
    char chunk[SYSCALL_CHUNK];

    if (fd != 0) {
        return -EBADF;
    }
    if (size == 0) {
        return 0;
    }
    long count = io->read(io->arg, chunk, min(size, (uint64_t)sizeof(chunk)));
    if (count > 0 && copy_to_user(to, chunk, (size_t)count) != 0) {
        return -EFAULT;
    }
    return count;
}

// What went out before something failed counts.
static long syscall_write(uint64_t fd, uint64_t from, uint64_t size)
{
    const struct process_io *io = process_io();
    char chunk[SYSCALL_CHUNK];
    uint64_t done = 0;
    int err = 0;

    if (fd != 1 && fd != 2) {
        return -EBADF;
    }
    size = min(size, (uint64_t)SYSCALL_MAX_BYTES);
    while (done < size && err == 0) {
        size_t count = min(size - done, (uint64_t)sizeof(chunk));

        err = copy_from_user(chunk, from + done, count);
        if (err == 0 && thread_interrupted()) {
            err = -EINTR;
        }
        if (err == 0) {
            err = io->write(io->arg, (int)fd, chunk, count);
        }
        done += err == 0 ? count : 0;
    }
    return done != 0 ? (long)done : err;
}

static long syscall_sched_yield(uint64_t a __unused, uint64_t b __unused, uint64_t c __unused)
{
    yield();
    return 0;
}

// There are no signal handlers, so nobody could ask how much of an interrupted sleep is left.
static long syscall_nanosleep(uint64_t request, uint64_t remain, uint64_t c __unused)
{
    struct timespec time;

    if (remain != 0) {
        return -EINVAL;
    }
    if (copy_from_user(&time, request, sizeof(time)) != 0) {
        return -EFAULT;
    }
    if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1000000000) {
        return -EINVAL;
    }
    uint64_t seconds = min((uint64_t)time.tv_sec, UINT64_MAX / 2000);
    uint64_t left_ms = seconds * 1000 + ((uint64_t)time.tv_nsec + 999999) / 1000000;
    while (left_ms > 0) {
        uint32_t ms = (uint32_t)min(left_ms, (uint64_t)SYSCALL_SLEEP_MS);

        if (msleep_interruptible(ms) != 0) {
            return -EINTR;
        }
        left_ms -= ms;
    }
    return 0;
}

static long syscall_getpid(uint64_t a __unused, uint64_t b __unused, uint64_t c __unused)
{
    return current->tid;
}

static long syscall_exit(uint64_t status, uint64_t b __unused, uint64_t c __unused)
{
    process_exit(0, (int)status);
}

static long (*const syscall_table[])(uint64_t a, uint64_t b, uint64_t c) = {
    [SYS_read] = syscall_read,
    [SYS_write] = syscall_write,
    [SYS_sched_yield] = syscall_sched_yield,
    [SYS_nanosleep] = syscall_nanosleep,
    [SYS_getpid] = syscall_getpid,
    [SYS_exit] = syscall_exit,
};

void syscall(struct frame *frame)
{
    uint64_t number = frame->rax;

    if (current->process == NULL || number >= ARRAY_SIZE(syscall_table) ||
        syscall_table[number] == NULL) {
        frame->rax = (uint64_t)-ENOSYS;
    } else {
        local_irq_enable();
        frame->rax = (uint64_t)syscall_table[number](frame->rdi, frame->rsi, frame->rdx);
        local_irq_disable();
    }
    process_return();
}
