// Errors for whoever asks later (<lib/errseq.h>). One word, changed by compare-and-exchange, so
// that an interrupt may note an error while threads look.
//
// The number only has to grow when the error before was seen by somebody: as long as nobody looked,
// nobody can tell one failure from ten.
//
// Context: any.
#include <lib/errseq.h>

enum { ERRSEQ_ERRNO = 0xfff, ERRSEQ_SEEN = 1 << 12, ERRSEQ_STEP = 1 << 13 };

void errseq_set(errseq_t *eseq, int error)
{
    uint32_t code = (uint32_t)(error < 0 ? -error : error) & ERRSEQ_ERRNO;
    errseq_t old = __atomic_load_n(eseq, __ATOMIC_RELAXED), new;

    do {
        new = (old & ~(uint32_t)(ERRSEQ_ERRNO | ERRSEQ_SEEN)) | code;
        if (old & ERRSEQ_SEEN) {
            new += ERRSEQ_STEP;
        }
    } while (
        !__atomic_compare_exchange_n(eseq, &old, new, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

errseq_t errseq_sample(const errseq_t *eseq)
{
    errseq_t now = __atomic_load_n(eseq, __ATOMIC_ACQUIRE);

    return now & ERRSEQ_SEEN ? now : 0;
}

int errseq_check_and_advance(errseq_t *eseq, errseq_t *since)
{
    errseq_t now = __atomic_load_n(eseq, __ATOMIC_ACQUIRE);

    if (now == *since) {
        return 0;
    }
    while (!__atomic_compare_exchange_n(eseq, &now, now | ERRSEQ_SEEN, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
    }
    *since = now | ERRSEQ_SEEN;
    return -(int)(now & ERRSEQ_ERRNO);
}
