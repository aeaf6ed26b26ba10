// Misuse of small objects: who wrote to one that is free, who freed what is none.
//
// What is free carries marks (slab_internal.h), by which it is noticed:
//
//   +--------------------------+------------+-------------+
//   | POISON_FREE ...          | (anything) | who freed it|    a free object
//   +--------------------------+------------+-------------+
//
// When the object is handed out again, the poison must be intact: if not, somebody wrote after
// free. When an object comes back that still carries a mark, it may be free already: then, and only
// then, the slow search through magazines and bitmap decides. By default the poison covers the
// first 64 bytes: that is where structs have their links and counters, and it keeps the cost of a 2
// KiB packet buffer that of a small object. `slab_debug=on` poisons all of it, `slab_debug=off`
// nothing.
//
// What is told is left alone: a leak, and nothing broken. Context: any. Previous: slab_pages.c.
// Next: slab_cache.c.
#include <lib/text.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>

#include "slab_internal.h"

void slab_report_write(struct kmem_cache *cache, void *object)
{
    const uint64_t *word = object;
    uint64_t freed_by = *slab_last_word(cache, object);
    char buffer[96];
    struct text t = TEXT_INIT(buffer);
    uint32_t first = 0;

    while (first < cache->poison_words && word[first] == POISON_FREE_WORD) {
        first++;
    }
    if (slab_is_text(freed_by)) {
        text_symbol(&t, freed_by);
    } else {
        text_puts(&t, freed_by == 0 ? "nobody (it is new)" : "(overwritten as well)");
    }
    __atomic_fetch_add(&cache->errors, 1, __ATOMIC_RELAXED);
    pr_err("BUG: %s: object %p was written to after it was freed by %s: offset %u holds %016llx",
           cache->name, object, buffer, first * 8, (unsigned long long)word[first]);
    warn_at(__FILE__, __LINE__, "freed memory is written to");
}

void slab_report_free(const char *cache, const void *object, const char *what, const void *caller)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);

    if (caller != NULL) {
        text_puts(&t, ", freed by ");
        text_symbol(&t, (uintptr_t)caller);
    }
    pr_err("BUG: %s: object %p %s%s; it is left alone", cache, object, what, buffer);
    warn_at(__FILE__, __LINE__, "an object is freed wrongly");
}
