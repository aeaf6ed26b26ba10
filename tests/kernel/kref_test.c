// Reference counts: who lets go last frees, and a count that went wrong stays where it is.
#include <contract/ktest.h>
#include <core/kref.h>

struct kref_thing {
    struct kref ref;
    unsigned released;
};

static void kref_thing_release(struct kref *ref)
{
    container_of(ref, struct kref_thing, ref)->released++;
}

KTEST(kref, the_last_one_releases)
{
    struct kref_thing thing = {.released = 0};

    kref_init(&thing.ref);
    kref_get(&thing.ref);
    EXPECT_EQ(kref_read(&thing.ref), 2u);
    EXPECT(!kref_put(&thing.ref, kref_thing_release));
    EXPECT_EQ(thing.released, 0u);
    EXPECT(kref_put(&thing.ref, kref_thing_release));
    EXPECT_EQ(thing.released, 1u);
}

KTEST(kref, none_is_given_when_there_is_none)
{
    struct kref_thing thing = {.released = 0};

    kref_init(&thing.ref);
    EXPECT(kref_get_unless_zero(&thing.ref));
    kref_put(&thing.ref, kref_thing_release);
    kref_put(&thing.ref, kref_thing_release);
    EXPECT_EQ(thing.released, 1u);
    EXPECT(!kref_get_unless_zero(&thing.ref));
    EXPECT_EQ(kref_read(&thing.ref), 0u);
}

KTEST(kref, a_wrong_count_releases_nothing)
{
    struct kref_thing thing = {.released = 0, .ref = {.count = KREF_STUCK}};

    EXPECT(!kref_get_unless_zero(&thing.ref));
    EXPECT_EQ(thing.released, 0u);
}
