// Words for error numbers, as Linux's users know them.
#include <lib/errno.h>
#include <lib/types.h>

static const struct {
    int error;
    const char *text;
} errno_texts[] = {
    {0, "Success"},
    {EPERM, "Operation not permitted"},
    {ENOENT, "No such file or directory"},
    {EINTR, "Interrupted"},
    {EIO, "Input/output error"},
    {ENXIO, "No such device or address"},
    {E2BIG, "Too long"},
    {ENOEXEC, "Exec format error"},
    {EBADF, "Bad file descriptor"},
    {EAGAIN, "Try again"},
    {ENOMEM, "Cannot allocate memory"},
    {EFAULT, "Bad address"},
    {EBUSY, "Device or resource busy"},
    {EEXIST, "File exists"},
    {ENODEV, "No such device"},
    {ENOTDIR, "Not a directory"},
    {EISDIR, "Is a directory"},
    {EINVAL, "Invalid argument"},
    {EFBIG, "File too large"},
    {ENOSPC, "No space left on device"},
    {ESPIPE, "Illegal seek"},
    {EROFS, "Read-only file system"},
    {EPIPE, "Broken pipe"},
    {ERANGE, "Numerical result out of range"},
    {ENAMETOOLONG, "File name too long"},
    {ENOSYS, "Function not implemented"},
    {ENOTEMPTY, "Directory not empty"},
    {ENODATA, "No data available"},
    {EPROTO, "Protocol error"},
    {EOVERFLOW, "Value too large for defined data type"},
    {EMSGSIZE, "Message too long"},
    {EOPNOTSUPP, "Operation not supported"},
    {EADDRINUSE, "Address already in use"},
    {ENETDOWN, "Network is down"},
    {ENETUNREACH, "Network is unreachable"},
    {ENOBUFS, "No buffer space available"},
    {ETIMEDOUT, "Timed out"},
    {EHOSTUNREACH, "No route to host"},
    {ENOMEDIUM, "No medium found"},
};

char *strerror(int error)
{
    int positive = error < 0 ? -error : error;

    for (size_t i = 0; i < ARRAY_SIZE(errno_texts); i++) {
        if (errno_texts[i].error == positive) {
            return (char *)(uintptr_t)errno_texts[i].text;
        }
    }
    return (char *)(uintptr_t) "Unknown error";
}
