// Between the kernel and the running program's memory: the range is checked here, the rest by the
// MMU (copy.S). The check cannot be left to the MMU: to ring 0 the kernel's own addresses are as
// good as any. Context: thread.
#include <lib/errno.h>
#include <core/cpu.h>
#include <user/copy.h>
#include <user/space.h>

int copy_user(void *to, const void *from, size_t size); // copy.S

// A page of a program may have to be fetched before it can be touched, so who copies must be able
// to wait; said each time, not only when a page is away.
int copy_from_user(void *to, uintptr_t from, size_t size)
{
    might_sleep();
    return space_holds(from, size) ? copy_user(to, (const void *)from, size) : -EFAULT;
}

int copy_to_user(uintptr_t to, const void *from, size_t size)
{
    might_sleep();
    return space_holds(to, size) ? copy_user((void *)to, from, size) : -EFAULT;
}
