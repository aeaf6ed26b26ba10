// The e1000's rings against an array that plays the device, good and bad: what it writes is never
// believed beyond the shadow.
//
// links: drivers/net/e1000/e1000_ring.c kernel/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../drivers/net/e1000/e1000_ring.h"

enum { COUNT = 16, BUFFER = 2048 };

static union {
    struct e1000_rx_desc rx[COUNT];
    struct e1000_tx_desc tx[COUNT];
} memory;
static struct e1000_slot slots[COUNT];
static struct e1000_ring ring;
static uint32_t device_head; // RDH or TDH

static int setup(void **state)
{
    (void)state;
    e1000_ring_init(&ring, &memory, slots, COUNT);
    device_head = 0;
    return 0;
}

static dma_addr_t at(uint64_t bus)
{
    return (dma_addr_t){bus};
}

static void *cookie(uint32_t n)
{
    return (void *)(uintptr_t)(0x1000 + n);
}

// The device fills the next buffer that it owns; false: it owns none.
static bool device_receives(uint16_t length, uint8_t status, uint8_t errors)
{
    if (device_head == ring.tail) {
        return false;
    }
    memory.rx[device_head].length = length;
    memory.rx[device_head].errors = errors;
    memory.rx[device_head].status = status;
    device_head = (device_head + 1) % COUNT;
    return true;
}

static void test_new_ring_is_poisoned(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(memory.rx[i].address == UINT64_MAX);
    }
    struct e1000_slot slot;
    uint32_t length;
    assert_int_equal(e1000_ring_used(&ring), 0);
    // All ones look like "done", but the device owns nothing.
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_NONE);
    assert_false(e1000_rx_ready(&ring));
    assert_false(e1000_tx_reap(&ring, &slot));
}

static void test_one_slot_stays_ours(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT - 1; i++) {
        assert_false(e1000_ring_full(&ring));
        assert_true(e1000_rx_post(&ring, cookie(i), at(0x100000 + i * BUFFER), BUFFER));
        assert_int_equal(e1000_ring_used(&ring), i + 1);
    }
    assert_true(e1000_ring_full(&ring));
    assert_false(e1000_rx_post(&ring, cookie(99), at(1), BUFFER));
    assert_int_equal(e1000_ring_used(&ring), COUNT - 1);
}

static void test_frames_come_in_order_over_many_rounds(void **state)
{
    (void)state;
    struct e1000_slot slot;
    uint32_t length, posted = 0, received = 0, reaped = 0;
    while (e1000_rx_post(&ring, cookie(posted), at(posted), BUFFER)) {
        posted++;
    }
    srand(1);
    while (reaped < 64 * COUNT) {
        for (int n = rand() % COUNT; n > 0; n--) {
            received +=
                device_receives((uint16_t)(60 + received % 1400), E1000_RXD_DD | E1000_RXD_EOP, 0);
        }
        while (e1000_rx_reap(&ring, &slot, &length) == E1000_RX_FRAME) {
            assert_ptr_equal(slot.cookie, cookie(reaped));
            assert_int_equal(slot.bus.value, reaped);
            assert_int_equal(length, 60 + reaped % 1400);
            reaped++;
            assert_true(e1000_rx_post(&ring, cookie(posted), at(posted), BUFFER));
            posted++;
        }
        assert_int_equal(reaped, received);
        assert_int_equal(e1000_ring_used(&ring), COUNT - 1);
    }
}

static void test_a_slot_is_not_taken_twice(void **state)
{
    (void)state;
    struct e1000_slot slot;
    uint32_t length;
    e1000_rx_post(&ring, cookie(0), at(0), BUFFER);
    device_receives(100, E1000_RXD_DD | E1000_RXD_EOP, 0);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_FRAME);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_NONE);
    assert_int_equal(e1000_ring_used(&ring), 0);
}

static void test_lengths_that_cannot_be(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0, BUFFER + 1, 0x7fff, 0xffff};
    struct e1000_slot slot;
    uint32_t length;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        e1000_rx_post(&ring, cookie(i), at(i), BUFFER);
        device_receives(bad[i], E1000_RXD_DD | E1000_RXD_EOP, 0);
        assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_ERROR);
        assert_ptr_equal(slot.cookie, cookie(i)); // the buffer comes back all the same
    }
    e1000_rx_post(&ring, cookie(9), at(9), BUFFER);
    device_receives(BUFFER, E1000_RXD_DD | E1000_RXD_EOP, 0);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_FRAME);
    assert_int_equal(length, BUFFER);
}

static void test_the_device_rewrites_the_address(void **state)
{
    (void)state;
    struct e1000_slot slot;
    uint32_t length;
    e1000_rx_post(&ring, cookie(3), at(0xabc000), BUFFER);
    memory.rx[0].address = 0xdead;
    device_receives(64, E1000_RXD_DD | E1000_RXD_EOP, 0);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_FRAME);
    assert_int_equal(slot.bus.value, 0xabc000);
}

static void test_errors_of_each_kind(void **state)
{
    (void)state;
    struct e1000_slot slot;
    uint32_t length;
    for (unsigned bit = 0; bit < 8; bit++) {
        e1000_rx_post(&ring, cookie(bit), at(bit), BUFFER);
        device_receives(64, E1000_RXD_DD | E1000_RXD_EOP, (uint8_t)(1 << bit));
        enum e1000_rx_verdict expected = bit == 5 || bit == 6 || bit == 3
                                             ? E1000_RX_FRAME // TCPE, IPE: not ours to ask for
                                             : E1000_RX_ERROR;
        assert_int_equal(e1000_rx_reap(&ring, &slot, &length), expected);
    }
}

static void test_a_frame_of_several_buffers_is_dropped_whole(void **state)
{
    (void)state;
    struct e1000_slot slot;
    uint32_t length;
    for (uint32_t i = 0; i < 5; i++) {
        e1000_rx_post(&ring, cookie(i), at(i), BUFFER);
    }
    device_receives(BUFFER, E1000_RXD_DD, 0);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_TOO_LONG);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length),
                     E1000_RX_NONE); // and the rest comes later
    device_receives(BUFFER, E1000_RXD_DD, 0);
    device_receives(10, E1000_RXD_DD | E1000_RXD_EOP, 0);
    device_receives(77, E1000_RXD_DD | E1000_RXD_EOP, 0);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_TOO_LONG);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_TOO_LONG);
    assert_int_equal(e1000_rx_reap(&ring, &slot, &length), E1000_RX_FRAME);
    assert_int_equal(length, 77);
    assert_ptr_equal(slot.cookie, cookie(3));
}

static void test_transmit_round_and_round(void **state)
{
    (void)state;
    struct e1000_slot slot;
    uint32_t posted = 0, sent = 0;
    srand(2);
    while (sent < 64 * COUNT) {
        for (int n = rand() % COUNT; n > 0; n--) {
            bool full = e1000_ring_full(&ring);
            assert_int_equal(
                e1000_tx_post(&ring, cookie(posted), at(posted * 16), 60 + posted % 100, posted),
                !full);
            if (!full) {
                const struct e1000_tx_desc *desc = &memory.tx[posted % COUNT];
                assert_int_equal(desc->address, posted * 16);
                assert_int_equal(desc->length, 60 + posted % 100);
                assert_int_equal(desc->command, E1000_TXD_EOP | E1000_TXD_IFCS | E1000_TXD_RS);
                assert_int_equal(desc->status, 0);
                posted++;
            }
        }
        for (int n = rand() % COUNT; n > 0 && device_head != ring.tail; n--) {
            memory.tx[device_head].status = E1000_TXD_DD;
            device_head = (device_head + 1) % COUNT;
        }
        while (e1000_tx_reap(&ring, &slot)) {
            assert_ptr_equal(slot.cookie, cookie(sent));
            assert_int_equal(slot.length, 60 + sent % 100);
            assert_int_equal(slot.jiffies, sent);
            sent++;
        }
        assert_int_equal(ring.head, device_head);
        assert_int_equal(e1000_ring_used(&ring), posted - sent);
    }
}

static void test_cancel_takes_everything_back_once(void **state)
{
    (void)state;
    struct e1000_slot slot;
    ring.head = ring.tail = COUNT - 3; // across the end
    for (uint32_t i = 0; i < 7; i++) {
        e1000_tx_post(&ring, cookie(i), at(i), 60, 0);
    }
    for (uint32_t i = 0; i < 7; i++) {
        assert_ptr_equal(e1000_ring_cancel(&ring, &slot), cookie(i));
    }
    assert_null(e1000_ring_cancel(&ring, &slot));
    for (unsigned i = 0; i < COUNT; i++) {
        assert_null(slots[i].cookie);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new_ring_is_poisoned),
        TEST(test_one_slot_stays_ours),
        TEST(test_frames_come_in_order_over_many_rounds),
        TEST(test_a_slot_is_not_taken_twice),
        TEST(test_lengths_that_cannot_be),
        TEST(test_the_device_rewrites_the_address),
        TEST(test_errors_of_each_kind),
        TEST(test_a_frame_of_several_buffers_is_dropped_whole),
        TEST(test_transmit_round_and_round),
        TEST(test_cancel_takes_everything_back_once),
    };
    return cmocka_run_group_tests_name("e1000_ring", tests, NULL, NULL);
}
