// DHCP: messages taken apart and put together, and the client's life from DISCOVER to the end of a
// lease, against a server that is this test; with every hostile option that comes to mind.
//
// links: tests/host/stubs/net.c tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
// links: kernel/net/eth.c kernel/net/arp.c kernel/net/route.c kernel/net/ipv4.c kernel/net/icmp.c kernel/net/udp.c
// links: kernel/net/dhcp.c kernel/net/dhcp_message.c kernel/net/net.c kernel/net/stats.c kernel/net/loopback.c
// links: kernel/lib/checksum.c kernel/lib/string.c kernel/lib/text.c kernel/lib/format.c kernel/lib/parse.c kernel/lib/errno.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../kernel/net/dhcp.h"
#include "stubs/net.h"
#include "stubs/stubs.h"

static uint8_t frame[2048];

static int setup(void **state)
{
    (void)state;
    host_net_start(0);
    stub_log_clear();
    net_notify(&host_eth, NETDEV_REGISTER);
    host_pass(4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_true(host_balanced());
    assert_int_equal(host_net_end(), 0);
    return 0;
}

// ---- what the client said -----------------------------------------------------------------------

static uint8_t said[1500]; // the DHCP message that was looked at last

static const uint8_t *option(uint8_t wanted)
{
    for (const uint8_t *p = said + 240; *p != 255; p += p[0] == 0 ? 1 : 2 + p[1]) {
        if (*p == wanted) {
            return p + 2;
        }
    }
    return NULL;
}

// The k-th frame is a DHCP message of this type, to this address.
static void expect_said(unsigned k, enum dhcp_type type, uint32_t to)
{
    const uint8_t *f = host_frame(k)->data;
    assert_int_equal(get_be16(f + ETH_TYPE), ETH_P_IP);
    assert_int_equal(get_be32(f + 14 + IP_DESTINATION), to);
    assert_int_equal(get_be16(f + 34 + UDP_SOURCE), 68);
    assert_int_equal(get_be16(f + 34 + UDP_DESTINATION), 67);
    assert_true(host_frame(k)->length >= 342); // BOOTP's least
    memcpy(said, f + 42, host_frame(k)->length - 42);
    assert_int_equal(said[0], 1);
    assert_memory_equal(said + 28, host_mac, ETH_ALEN);
    assert_int_equal(option(53)[0], type);
}

// ---- what the server says -----------------------------------------------------------------------

static uint8_t message[600];
static size_t at;

static void put(uint8_t code, uint8_t length, const void *value)
{
    message[at++] = code;
    message[at++] = length;
    memcpy(message + at, value, length);
    at += length;
}

static void put32(uint8_t code, uint32_t value)
{
    uint8_t bytes[4];
    put_be32(bytes, value);
    put(code, 4, bytes);
}

static void begin(enum dhcp_type type, uint32_t address)
{
    uint8_t byte = (uint8_t)type;
    memset(message, 0, sizeof(message));
    message[0] = 2;
    message[1] = 1;
    message[2] = 6;
    memcpy(message + 4, said + 4, 4);
    put_be32(message + 16, address);
    memcpy(message + 28, host_mac, ETH_ALEN);
    put_be32(message + 236, 0x63825363);
    at = 240;
    put(53, 1, &byte);
    put32(54, HOST_PEER);
}

static void deliver(enum net_end end)
{
    message[at++] = 255;
    uint64_t before = net_end_count(end);
    host_receive(frame, host_udp(frame, HOST_PEER, 67, 0xffffffff, 68, message, at));
    assert_int_equal(net_end_count(end), before + 1);
    host_pass(4);
}

static void lease(enum dhcp_type type, uint32_t seconds)
{
    begin(type, HOST_IP);
    put32(1, 0xffffff00);
    put32(3, HOST_PEER);
    put32(51, seconds);
    deliver(NET_UDP_SERVICE);
}

// As far as an address for `seconds`.
static void bind(uint32_t seconds)
{
    expect_said(0, DHCP_DISCOVER, 0xffffffff);
    lease(DHCP_OFFER, seconds);
    expect_said(1, DHCP_REQUEST, 0xffffffff);
    lease(DHCP_ACK, seconds);
    assert_int_equal(host_eth.ip_address, HOST_IP);
    // The server answers ARP, so that renewals by unicast leave.
    host_learn_peer();
}

static void test_from_discover_to_bound(void **state)
{
    (void)state;
    assert_int_equal(host_sent(), 1);
    expect_said(0, DHCP_DISCOVER, 0xffffffff);
    assert_int_equal(get_be32(host_frame(0)->data + 14 + IP_SOURCE), 0);
    assert_memory_equal(host_frame(0)->data, eth_broadcast, ETH_ALEN);
    assert_int_equal(get_be16(said + 10), 0x8000);
    assert_null(option(50));
    lease(DHCP_OFFER, 3600);
    assert_int_equal(host_sent(), 2);
    expect_said(1, DHCP_REQUEST, 0xffffffff);
    assert_int_equal(get_be32(option(50)), HOST_IP);
    assert_int_equal(get_be32(option(54)), HOST_PEER);
    assert_int_equal(get_be32(said + 12), 0); // ciaddr
    assert_int_equal(host_eth.ip_address, 0); // an offer is not a lease
    lease(DHCP_ACK, 3600);
    assert_int_equal(host_eth.ip_address, HOST_IP);
    assert_int_equal(host_eth.ip_mask, 0xffffff00);
    assert_int_equal(host_eth.ip_gateway, HOST_PEER);
    uint32_t left;
    assert_true(dhcp_lease_left(&host_eth, &left));
    assert_in_range(left, 3590, 3600);
    assert_non_null(
        strstr(stub_log(), "DHCP: 10.0.2.15/24, gateway 10.0.2.2, from 10.0.2.2 for 3600 s"));
    assert_int_equal(host_sent(), 3); // and says by ARP that it is there
    assert_int_equal(get_be16(host_frame(2)->data + ETH_TYPE), ETH_P_ARP);
}

static void test_nobody_answers(void **state)
{
    (void)state;
    // 4, 8, 16, 32, 64, 64 ... seconds, each give or take one.
    static const uint32_t waits[] = {4, 8, 16, 32, 64, 64};
    for (unsigned i = 0; i < ARRAY_SIZE(waits); i++) {
        uint32_t ms = 0;
        for (; host_sent() == i + 1 && ms < 100000; ms += 20) {
            host_pass(20);
        }
        assert_in_range(ms, waits[i] * 1000 - 1100, waits[i] * 1000 + 1100);
        expect_said(i + 1, DHCP_DISCOVER, 0xffffffff);
    }
}

static void test_an_offer_that_is_never_confirmed(void **state)
{
    (void)state;
    expect_said(0, DHCP_DISCOVER, 0xffffffff);
    lease(DHCP_OFFER, 3600);
    host_pass(80000);
    unsigned requests = 0, discovers = 0;
    for (unsigned k = 1; k < host_sent(); k++) {
        memcpy(said, host_frame(k)->data + 42, host_frame(k)->length - 42);
        requests += option(53)[0] == DHCP_REQUEST;
        discovers += option(53)[0] == DHCP_DISCOVER;
    }
    assert_int_equal(requests, 4);
    assert_true(discovers >= 1);
}

static void test_a_refusal_starts_over(void **state)
{
    (void)state;
    expect_said(0, DHCP_DISCOVER, 0xffffffff);
    uint32_t xid = get_be32(said + 4);
    lease(DHCP_OFFER, 3600);
    expect_said(1, DHCP_REQUEST, 0xffffffff);
    begin(DHCP_NAK, 0);
    deliver(NET_UDP_SERVICE);
    expect_said(2, DHCP_DISCOVER, 0xffffffff);
    assert_true(get_be32(said + 4) != xid); // a new conversation
}

static void test_renewing_by_unicast(void **state)
{
    (void)state;
    bind(3600);
    host_learn_peer(); // forgets what was sent
    host_pass(1790000);
    assert_int_equal(host_sent(), 0);
    uint8_t arp[64];
    host_receive(arp, host_arp(arp, ARP_REQUEST, host_peer_mac, HOST_PEER, HOST_IP)); // fresh
    host_forget_sent();
    host_pass(12000);
    assert_int_equal(host_sent(), 1);
    expect_said(0, DHCP_REQUEST, HOST_PEER);
    assert_int_equal(get_be32(said + 12), HOST_IP); // ciaddr
    assert_null(option(50));
    assert_null(option(54));
    assert_int_equal(get_be16(said + 10), 0); // we can be reached
    lease(DHCP_ACK, 3600);
    uint32_t left;
    assert_true(dhcp_lease_left(&host_eth, &left));
    assert_in_range(left, 3590, 3600);
}

// Nobody renews: unicast until T2, broadcast until the end, then the address is gone.
static void test_a_lease_that_ends(void **state)
{
    (void)state;
    bind(3600);
    host_forget_sent();
    host_pass(3595000);
    assert_int_equal(host_eth.ip_address, HOST_IP);
    unsigned broadcast = 0;
    for (unsigned k = 0; k < host_sent(); k++) {
        const uint8_t *f = host_frame(k)->data;
        if (get_be16(f + ETH_TYPE) == ETH_P_IP && get_be32(f + 14 + IP_DESTINATION) == 0xffffffff) {
            expect_said(k, DHCP_REQUEST, 0xffffffff);
            assert_int_equal(get_be32(said + 12), HOST_IP);
            broadcast++;
        }
    }
    assert_in_range(broadcast, 1, 10); // not more often than once a minute
    host_pass(10000);
    assert_int_equal(host_eth.ip_address, 0);
    assert_non_null(strstr(stub_log(), "the lease has ended, giving up the address"));
    uint32_t left;
    assert_false(dhcp_lease_left(&host_eth, &left));
    expect_said(host_sent() - 1, DHCP_DISCOVER, 0xffffffff);
}

static void test_a_refused_renewal(void **state)
{
    (void)state;
    bind(120);
    host_forget_sent();
    host_pass(60100);
    expect_said(0, DHCP_REQUEST, HOST_PEER);
    begin(DHCP_NAK, 0);
    deliver(NET_UDP_SERVICE);
    assert_int_equal(host_eth.ip_address, 0);
}

static void test_a_lease_for_ever(void **state)
{
    (void)state;
    bind(DHCP_LEASE_FOREVER);
    host_forget_sent();
    host_pass(100000);
    host_pass(4000000);
    assert_int_equal(host_eth.ip_address, HOST_IP);
    assert_int_equal(host_sent(), 0);
}

static void test_the_cable_is_pulled_and_put_back(void **state)
{
    (void)state;
    bind(3600);
    host_forget_sent();
    netif_carrier_off(&host_eth);
    net_notify(&host_eth, NETDEV_CARRIER);
    host_pass(10000);
    assert_int_equal(host_sent(), 0);
    netif_carrier_on(&host_eth);
    net_notify(&host_eth, NETDEV_CARRIER);
    host_pass(8);
    unsigned asked = 0; // is all as it was?
    for (unsigned k = 0; k < host_sent(); k++) {
        const uint8_t *f = host_frame(k)->data;
        asked += get_be16(f + ETH_TYPE) == ETH_P_IP && f[14 + IP_PROTOCOL] == IPPROTO_UDP;
    }
    assert_int_equal(asked, 1);
    assert_int_equal(host_eth.ip_address, HOST_IP);
}

static void test_what_is_not_for_us(void **state)
{
    (void)state;
    expect_said(0, DHCP_DISCOVER, 0xffffffff);
    begin(DHCP_OFFER, HOST_IP);
    message[4] ^= 1; // another conversation
    deliver(NET_DROP_UDP_SERVICE);
    begin(DHCP_OFFER, HOST_IP);
    message[28 + 5] ^= 1; // another card
    deliver(NET_DROP_UDP_SERVICE);
    begin(DHCP_OFFER, HOST_IP);
    message[0] = 1; // a question
    deliver(NET_DROP_UDP_SERVICE);
    begin(DHCP_OFFER, HOST_IP);
    message[236] = 0;
    deliver(NET_DROP_UDP_SERVICE);
    begin(DHCP_DISCOVER, HOST_IP);
    deliver(NET_DROP_UDP_SERVICE);
    lease(DHCP_ACK, 3600); // an ACK before any request moves nothing
    assert_int_equal(host_eth.ip_address, 0);
    assert_int_equal(host_sent(), 1);
    begin(DHCP_OFFER, HOST_IP); // not from a server's port
    message[at++] = 255;
    host_receive(frame, host_udp(frame, HOST_PEER, 6767, 0xffffffff, 68, message, at));
    host_pass(4);
    assert_int_equal(host_sent(), 1);
}

// ---- hostile options, straight into the reader --------------------------------------------------

static const char *read_it(struct dhcp_answer *answer)
{
    message[at] = 255;
    return dhcp_read(message, at + 1, get_be32(message + 4), host_mac, answer);
}

static void test_addresses_that_cannot_be(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0,          1,          0x7f000001, 0xe0000001,
                                   0xffffffff, 0x0a000200, 0x0a0002ff};
    struct dhcp_answer a;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        begin(DHCP_ACK, bad[i]);
        put32(1, 0xffffff00);
        if (read_it(&a) == NULL) {
            fail_msg("%#x was taken", bad[i]);
        }
    }
    static const uint32_t masks[] = {0x00ffffff, 0xff00ff00, 0xfffffffd, 1};
    for (unsigned i = 0; i < ARRAY_SIZE(masks); i++) {
        begin(DHCP_ACK, HOST_IP);
        put32(1, masks[i]);
        assert_non_null(read_it(&a));
    }
    // A gateway that is no neighbour, or ourselves, is as good as none.
    static const uint32_t gateways[] = {0x0b000001, HOST_IP, 0xe0000001, 0xffffffff};
    for (unsigned i = 0; i < ARRAY_SIZE(gateways); i++) {
        begin(DHCP_ACK, HOST_IP);
        put32(1, 0xffffff00);
        put32(3, gateways[i]);
        assert_null(read_it(&a));
        assert_int_equal(a.gateway, 0);
    }
}

static void test_times_are_put_in_order(void **state)
{
    (void)state;
    static const struct {
        uint32_t lease, t1, t2;
    } times[] = {{0, 0, 0},          {1, 0, 0},   {3600, 4000, 0},    {3600, 0, 4000},
                 {3600, 3000, 2000}, {100, 1, 2}, {0xfffffffe, 0, 0}, {60, 0xffffffff, 0xffffffff}};
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
        struct dhcp_answer a;
        begin(DHCP_ACK, HOST_IP);
        put32(51, times[i].lease);
        put32(58, times[i].t1);
        put32(59, times[i].t2);
        assert_null(read_it(&a));
        assert_true(a.lease >= 60 && a.t1 > 0 && a.t1 <= a.t2 && a.t2 <= a.lease);
    }
}

static void test_options_stay_in_their_field(void **state)
{
    (void)state;
    struct dhcp_answer a;
    // Each length from 0 to the whole: never a byte beyond, which ASan would see in a copy of just
    // that size.
    begin(DHCP_ACK, HOST_IP);
    put32(1, 0xffffff00);
    put32(3, HOST_PEER);
    message[at] = 255;
    for (size_t length = 0; length <= at + 1; length++) {
        uint8_t *copy = malloc(length + 1);
        memcpy(copy, message, length);
        dhcp_read(copy, length, get_be32(message + 4), host_mac, &a);
        free(copy);
    }
    // The last option claims more than there is.
    begin(DHCP_ACK, HOST_IP);
    message[at++] = 3;
    message[at++] = 200;
    assert_non_null(dhcp_read(message, at + 10, get_be32(message + 4), host_mac, &a));
    // Known options of wrong length are not read.
    begin(DHCP_ACK, HOST_IP);
    put(1, 3, "\xff\xff\xff");
    put(3, 2, "\x0a\x00");
    put(51, 0, "");
    assert_null(read_it(&a));
    assert_int_equal(a.mask, 0xffffff00);
    assert_int_equal(a.gateway, 0);
    // No type, no server.
    begin(DHCP_ACK, HOST_IP);
    message[240] = 200;
    assert_non_null(read_it(&a));
    begin(DHCP_ACK, HOST_IP);
    message[243] = 200;
    assert_non_null(read_it(&a));
}

static void test_overloaded_fields(void **state)
{
    (void)state;
    struct dhcp_answer a;
    uint8_t both = 3;
    begin(DHCP_ACK, HOST_IP);
    put(52, 1, &both);
    memcpy(message + 108, "\x03\x04\x0a\x00\x02\x02\xff", 7); // file: the router
    memcpy(message + 44, "\x33\x04\x00\x00\x10\x00\xff", 7);  // sname: the lease
    assert_null(read_it(&a));
    assert_int_equal(a.gateway, HOST_PEER);
    assert_int_equal(a.lease, 0x1000);
    memset(message + 44, 1, 64); // options that run out of the field
    assert_non_null(read_it(&a));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_from_discover_to_bound),
        TEST(test_nobody_answers),
        TEST(test_an_offer_that_is_never_confirmed),
        TEST(test_a_refusal_starts_over),
        TEST(test_renewing_by_unicast),
        TEST(test_a_lease_that_ends),
        TEST(test_a_refused_renewal),
        TEST(test_a_lease_for_ever),
        TEST(test_the_cable_is_pulled_and_put_back),
        TEST(test_what_is_not_for_us),
        TEST(test_addresses_that_cannot_be),
        TEST(test_times_are_put_in_order),
        TEST(test_options_stay_in_their_field),
        TEST(test_overloaded_fields),
    };
    return cmocka_run_group_tests_name("dhcp", tests, NULL, NULL);
}
