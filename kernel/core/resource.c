// Who owns which addresses: a tree of ranges for memory and one for ports, as /proc/iomem and
// /proc/ioports print them.
//
//   00100000-0fffffff System RAM
//     00100000-001fffff Kernel code   children lie wholly inside their parent; siblings are sorted
//                                     and do not overlap
//   febc0000-febdffff 0000:00:02.0
//     febc0000-febdffff e1000              same range: the later one is the child
//
// Context: thread or boot; a spinlock guards both trees and the pool.
#include <core/resource.h>
#include <core/spinlock.h>
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/proc_file.h>

enum { RESOURCE_NODES = 512, RESOURCE_MAX_DEPTH = 8 };

struct resource {
    uint64_t start, end;              // L; inclusive
    char name[48];                    // L
    struct resource *child, *sibling; // L
    bool used;                        // L
};

static DEFINE_SPINLOCK(resource_lock);
static struct resource resource_pool[RESOURCE_NODES]; // L
static struct resource resource_roots[2] = {
    // L
    [RESOURCE_MEMORY] = {.start = 0, .end = UINT64_MAX},
    [RESOURCE_PORTS] = {.start = 0, .end = 0xffff},
};

static struct resource *resource_take_node(void)
{
    for (unsigned i = 0; i < RESOURCE_NODES; i++) {
        if (!resource_pool[i].used) {
            return &resource_pool[i];
        }
    }
    return NULL;
}

static bool resource_inside(const struct resource *inner, const struct resource *outer)
{
    return inner->start >= outer->start && inner->end <= outer->end;
}

static bool resource_apart(const struct resource *a, const struct resource *b)
{
    return a->end < b->start || b->end < a->start;
}

// Puts `node` below `parent`, taking those children along that it covers. -EBUSY when it crosses an
// edge; then nothing has changed.
static int resource_insert(struct resource *parent, struct resource *node)
{
    struct resource **link, **covered;

    for (struct resource *child = parent->child; child != NULL; child = child->sibling) {
        if (resource_inside(node, child)) {
            return resource_insert(child, node);
        }
        if (!resource_apart(node, child) && !resource_inside(child, node)) {
            return -EBUSY;
        }
    }
    for (link = &parent->child; *link != NULL && (*link)->end < node->start;
         link = &(*link)->sibling) {
    }
    for (covered = link; *covered != NULL && resource_inside(*covered, node);
         covered = &(*covered)->sibling) {
    }
    node->sibling = *covered;
    *covered = NULL;
    node->child = *link;
    *link = node;
    return 0;
}

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    struct resource *node;
    unsigned long flags;
    int err = -ENOSPC;

    if (end < start || end > resource_roots[kind].end) {
        return -EINVAL;
    }
    spin_lock_irqsave(&resource_lock, flags);
    node = resource_take_node();
    if (node != NULL) {
        *node = (struct resource){.start = start, .end = end};
        strscpy(node->name, name, sizeof(node->name));
        err = resource_insert(&resource_roots[kind], node);
        node->used = err == 0;
    }
    spin_unlock_irqrestore(&resource_lock, flags);
    return err;
}

// The link that points at the deepest node with this range and name; NULL when there is none.
// Bounded by the pool's size.
static struct resource **resource_find(struct resource *parent, uint64_t start, uint64_t end,
                                       const char *name)
{
    for (struct resource **link = &parent->child; *link != NULL; link = &(*link)->sibling) {
        struct resource *node = *link;

        if (start >= node->start && end <= node->end) {
            struct resource **deeper = resource_find(node, start, end, name);

            if (deeper != NULL) {
                return deeper;
            }
            return node->start == start && node->end == end && strcmp(node->name, name) == 0 ? link
                                                                                             : NULL;
        }
    }
    return NULL;
}

int resource_remove(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    struct resource **link, *node;
    unsigned long flags;

    spin_lock_irqsave(&resource_lock, flags);
    link = resource_find(&resource_roots[kind], start, end, name);
    if (link != NULL) {
        node = *link;
        *link = node->child; // the children take its place
        while (*link != NULL) {
            link = &(*link)->sibling;
        }
        *link = node->sibling;
        node->used = false;
    }
    spin_unlock_irqrestore(&resource_lock, flags);
    return link != NULL ? 0 : -ENOENT;
}

static void resource_walk_below(const struct resource *parent, unsigned depth,
                                void (*visit)(uint64_t start, uint64_t end, const char *name,
                                              unsigned depth, void *arg),
                                void *arg)
{
    for (const struct resource *node = parent->child; node != NULL; node = node->sibling) {
        visit(node->start, node->end, node->name, depth, arg);
        if (depth + 1 < RESOURCE_MAX_DEPTH) {
            resource_walk_below(node, depth + 1, visit, arg);
        }
    }
}

void resource_walk(enum resource_kind kind,
                   void (*visit)(uint64_t start, uint64_t end, const char *name, unsigned depth,
                                 void *arg),
                   void *arg)
{
    unsigned long flags;

    spin_lock_irqsave(&resource_lock, flags);
    resource_walk_below(&resource_roots[kind], 0, visit, arg);
    spin_unlock_irqrestore(&resource_lock, flags);
}

// ---- /proc/iomem and /proc/ioports, in Linux's layout -------------------------------------------

enum { RESOURCE_SHOWN_DEPTH = 5 };

struct resource_print {
    struct text *t;
    int digits;
};

static void resource_print_line(uint64_t start, uint64_t end, const char *name, unsigned depth,
                                void *arg)
{
    const struct resource_print *print = arg;

    text_printf(print->t, "%*s%0*llx-%0*llx : %s\n",
                2 * (int)min(depth, (unsigned)RESOURCE_SHOWN_DEPTH - 1), "", print->digits,
                (unsigned long long)start, print->digits, (unsigned long long)end, name);
}

static void resource_show_iomem(struct text *t, unsigned long index)
{
    struct resource_print print = {.t = t, .digits = 8};

    (void)index;
    resource_walk(RESOURCE_MEMORY, resource_print_line, &print);
}
PROC_FILE("iomem", resource_show_iomem);

static void resource_show_ioports(struct text *t, unsigned long index)
{
    struct resource_print print = {.t = t, .digits = 4};

    (void)index;
    resource_walk(RESOURCE_PORTS, resource_print_line, &print);
}
PROC_FILE("ioports", resource_show_ioports);
