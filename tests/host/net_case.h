// What the tests of the network stack share: a stack with one card, a frame to write into, and the
// question where a frame ended.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>

#include "stubs/net.h"
#include "stubs/stubs.h"

static uint8_t frame[2048];

static inline int net_setup(void **state)
{
    (void)state;
    host_net_start(HOST_IP);
    return 0;
}

static inline int net_setup_with_peer(void **state)
{
    net_setup(state);
    host_learn_peer();
    return 0;
}

static inline int net_teardown(void **state)
{
    (void)state;
    assert_true(host_balanced());
    assert_int_equal(host_net_end(), 0);
    return 0;
}

// The frame ends there and nowhere else.
static inline void ends(size_t length, enum net_end end)
{
    uint64_t before = net_end_count(end), received = net_received_count();
    host_receive(frame, length);
    assert_int_equal(net_end_count(end), before + 1);
    assert_int_equal(net_received_count(), received + 1);
    assert_true(host_balanced());
}
