// ICMP: echo of every size, pings of ours and how they end, errors at a bounded rate.
//
// links: tests/host/stubs/net.c tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
// links: kernel/net/eth.c kernel/net/arp.c kernel/net/route.c kernel/net/ipv4.c kernel/net/icmp.c kernel/net/udp.c
// links: kernel/net/dhcp.c kernel/net/dhcp_message.c kernel/net/net.c kernel/net/stats.c kernel/net/loopback.c
// links: kernel/lib/checksum.c kernel/lib/string.c kernel/lib/text.c kernel/lib/format.c kernel/lib/parse.c kernel/lib/errno.c
#include "net_case.h"

static void test_echo_of_every_size(void **state)
{
    (void)state;
    static uint8_t data[1472];
    srand(3);
    for (size_t size = 0; size <= sizeof(data); size++) {
        for (size_t i = 0; i < size; i++) {
            data[i] = (uint8_t)rand();
        }
        uint32_t rest = (uint32_t)rand();
        ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO, 0, rest, data, size), NET_ICMP_ECHO);
        assert_int_equal(host_sent(), 1);
        uint8_t expected[2048];
        size_t length =
            host_icmp(expected, HOST_IP, HOST_PEER, ICMP_ECHO_REPLY, 0, rest, data, size);
        const uint8_t *icmp = host_frame(0)->data + ETH_HLEN + IP_HEADER;
        assert_int_equal(host_frame(0)->length, length < ETH_MIN ? ETH_MIN : length);
        // The checksum that was only adjusted is the one that a whole sum gives.
        assert_memory_equal(icmp, expected + ETH_HLEN + IP_HEADER, ICMP_HEADER + size);
        assert_memory_equal(host_frame(0)->data + ETH_HLEN + IP_SOURCE,
                            expected + ETH_HLEN + IP_SOURCE, 8);
        host_forget_sent();
    }
}

static void test_checksums_at_their_edges(void **state)
{
    (void)state;
    for (uint32_t rest = 0; rest < 0x10000;
         rest += 0x3f) { // among them sums of 0x0000, 0xf7ff, 0xffff
        ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO, 0, rest, NULL, 0), NET_ICMP_ECHO);
        uint8_t expected[64];
        host_icmp(expected, HOST_IP, HOST_PEER, ICMP_ECHO_REPLY, 0, rest, NULL, 0);
        const uint8_t *icmp = host_frame(0)->data + ETH_HLEN + IP_HEADER;
        uint16_t got = get_be16(icmp + ICMP_CHECKSUM),
                 want = get_be16(expected + 34 + ICMP_CHECKSUM);
        assert_true(got == want || (got | want) == 0xffff); // the two zeroes of one's complement
        host_forget_sent();
    }
}

static void test_what_is_not_answered(void **state)
{
    (void)state;
    size_t length = host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO, 0, 1, "abcd", 4);
    frame[length - 1] ^= 1;
    ends(length, NET_DROP_ICMP_CHECKSUM);
    for (size_t size = 0; size < ICMP_HEADER; size++) {
        ends(host_ip(frame, HOST_PEER, HOST_IP, IPPROTO_ICMP, size), NET_DROP_ICMP_SHORT);
    }
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO, 1, 1, NULL, 0), NET_DROP_ICMP_TYPE);
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_REDIRECT, 1, HOST_OTHER, NULL, 0),
         NET_DROP_ICMP_TYPE);
    ends(host_icmp(frame, HOST_PEER, HOST_IP, 13, 0, 1, NULL, 0), NET_DROP_ICMP_TYPE);
    ends(host_icmp(frame, HOST_PEER, 0xffffffff, ICMP_ECHO, 0, 1, NULL, 0),
         NET_DROP_ICMP_BROADCAST);
    ends(host_icmp(frame, HOST_PEER, 0x0a0002ff, ICMP_ECHO, 0, 1, NULL, 0),
         NET_DROP_ICMP_BROADCAST);
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO_REPLY, 0, 1, NULL, 0), NET_DROP_ICMP_STRAY);
    assert_int_equal(host_sent(), 0);
}

// ---- pings of ours: the far end acts while the ping sleeps --------------------------------------

static size_t answer_length; // of the answer in `frame`

static const uint8_t *request(void)
{
    return host_frame(host_sent() - 1)->data + ETH_HLEN + IP_HEADER;
}

static void answer(void)
{
    host_pass(20);
    const uint8_t *echo = request();
    uint32_t size = get_be16(echo - IP_HEADER + IP_TOTAL_LENGTH) - IP_HEADER - ICMP_HEADER;
    answer_length = host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO_REPLY, 0,
                              get_be32(echo + ICMP_ID), echo + ICMP_HEADER, size);
    ends(answer_length, NET_ICMP_REPLY);
}

static void test_a_ping_and_its_answer(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 56, 1000, 1472};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct icmp_answer got = {0};
        host_while_asleep = answer;
        assert_int_equal(icmp_ping(HOST_PEER, 0x77, (uint16_t)i, sizes[i], 1000, &got), 20000000);
        assert_int_equal(got.ttl, 64);
        assert_int_equal(got.from, HOST_PEER);
        assert_int_equal(request()[ICMP_TYPE], ICMP_ECHO);
        ends(answer_length, NET_DROP_ICMP_STRAY); // a second one finds nobody
    }
    assert_int_equal(icmp_ping(HOST_PEER, 0x77, 9, 1473, 1000, NULL), -EMSGSIZE);
    assert_int_equal(icmp_ping(HOST_PEER, 0x77, 9, 1u << 20, 1000, NULL), -EMSGSIZE);
}

static void answer_wrongly(void)
{
    const uint8_t *echo = request();
    uint32_t rest = get_be32(echo + ICMP_ID);
    uint8_t data[56];
    memcpy(data, echo + ICMP_HEADER, sizeof(data));
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO_REPLY, 0, rest + 1, data, 56),
         NET_DROP_ICMP_STRAY);
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO_REPLY, 0, rest + 0x10000, data, 56),
         NET_DROP_ICMP_STRAY);
    ends(host_icmp(frame, HOST_OTHER, HOST_IP, ICMP_ECHO_REPLY, 0, rest, data, 56),
         NET_DROP_ICMP_STRAY);
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO_REPLY, 0, rest, data, 55),
         NET_DROP_ICMP_STRAY);
    data[55] ^= 1;
    ends(host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO_REPLY, 0, rest, data, 56),
         NET_DROP_ICMP_STRAY);
}

static void test_wrong_answers_do_not_count(void **state)
{
    (void)state;
    host_while_asleep = answer_wrongly;
    assert_int_equal(icmp_ping(HOST_PEER, 0x1234, 1, 56, 1000, NULL), -ETIMEDOUT);
}

static void refuse(void)
{
    uint8_t quote[IP_HEADER + 8];
    memcpy(quote, request() - IP_HEADER, sizeof(quote));
    ends(host_icmp(frame, HOST_OTHER, HOST_IP, ICMP_UNREACHABLE, 1, 0, quote, 27),
         NET_DROP_ICMP_STRAY);
    quote[IP_HEADER + ICMP_ID] ^= 1;
    ends(host_icmp(frame, HOST_OTHER, HOST_IP, ICMP_UNREACHABLE, 1, 0, quote, 28),
         NET_DROP_ICMP_STRAY);
    quote[IP_HEADER + ICMP_ID] ^= 1;
    ends(host_icmp(frame, HOST_OTHER, HOST_IP, ICMP_UNREACHABLE, 1, 0, quote, 28), NET_ICMP_ERROR);
}

static void test_a_router_says_unreachable(void **state)
{
    (void)state;
    host_while_asleep = refuse;
    struct icmp_answer got;
    assert_int_equal(icmp_ping(HOST_PEER, 0x1234, 1, 56, 1000, &got), -EHOSTUNREACH);
    assert_int_equal(got.from, HOST_OTHER);
}

static void test_pings_that_cannot_leave(void **state)
{
    (void)state;
    assert_int_equal(icmp_ping(HOST_OTHER, 1, 1, 56, 10000, NULL),
                     -EHOSTUNREACH); // ARP gives up first
    assert_int_equal(icmp_ping(0xe0000001, 1, 1, 56, 1000, NULL), -ENETUNREACH);
    host_no_memory = true;
    assert_int_equal(icmp_ping(HOST_PEER, 1, 1, 56, 1000, NULL), -ENOBUFS);
    host_no_memory = false;
    host_eth.carrier = false;
    assert_int_equal(icmp_ping(HOST_PEER, 1, 1, 56, 1000, NULL), -ENETDOWN);
}

static void loop(void)
{
    host_pass(4);
}

static void test_we_answer_ourselves(void **state)
{
    (void)state;
    host_while_asleep = loop;
    assert_true(icmp_ping(0x7f000001, 5, 1, 56, 1000, NULL) >= 0);
    host_while_asleep = loop;
    assert_true(icmp_ping(HOST_IP, 5, 2, 8000, 1000, NULL) >= 0);
    assert_int_equal(host_sent(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup_with_peer, net_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_echo_of_every_size),         TEST(test_checksums_at_their_edges),
        TEST(test_what_is_not_answered),       TEST(test_a_ping_and_its_answer),
        TEST(test_wrong_answers_do_not_count), TEST(test_a_router_says_unreachable),
        TEST(test_pings_that_cannot_leave),    TEST(test_we_answer_ourselves),
    };
    return cmocka_run_group_tests_name("icmp", tests, NULL, NULL);
}
