// Error numbers: functions return them negated, 0 or a count on success. Values and names are
// Linux's.
#pragma once

#define EPERM        1
#define ENOENT       2
#define EINTR        4
#define EIO          5
#define ENXIO        6
#define E2BIG        7
#define ENOEXEC      8
#define EBADF        9
#define EAGAIN       11
#define ENOMEM       12
#define EFAULT       14
#define EBUSY        16
#define EEXIST       17
#define ENODEV       19
#define ENOTDIR      20
#define EISDIR       21
#define EINVAL       22
#define EFBIG        27
#define ENOSPC       28
#define ESPIPE       29
#define EROFS        30
#define EPIPE        32
#define ERANGE       34
#define ENAMETOOLONG 36
#define ENOSYS       38
#define ENOTEMPTY    39
#define ENODATA      61
#define EPROTO       71
#define EOVERFLOW    75
#define EMSGSIZE     90
#define EOPNOTSUPP   95
#define EADDRINUSE   98
#define ENETDOWN     100
#define ENETUNREACH  101
#define ENOBUFS      105
#define ETIMEDOUT    110
#define EHOSTUNREACH 113
#define ENOMEDIUM    123

#ifndef __ASSEMBLER__
// Text of an error number (either sign), in Linux's words; "Unknown error" for one that is not
// listed above.
char *strerror(int error); // not to be written to; without const because C says so
#endif
