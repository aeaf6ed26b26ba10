// An error that happened when nobody waited for the result, kept so that everybody concerned hears
// of it exactly once: write-back fails now, and each one who has the disk open is told by his next
// fsync. Names as in Linux. Pure.
//
//   31        13   12   11      0
//   [ number  ][ seen ][ errno  ]     the number grows when a new error replaces one that was seen
#pragma once

#include <lib/types.h>

typedef uint32_t errseq_t; // 0: no error so far

// Notes an error (either sign). Context: any.
void errseq_set(errseq_t *eseq, int error);
// Where a new listener begins: an error that nobody has seen yet is his too. Context: any.
errseq_t errseq_sample(const errseq_t *eseq);
// The error since `*since` as -errno, and 0 the next time. Context: any; one listener's `since` is
// not shared between threads.
int errseq_check_and_advance(errseq_t *eseq, errseq_t *since);
