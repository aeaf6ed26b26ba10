// ARP: questions, answers, ageing, bounded waiting, and the tricks that must not work.
//
// links: tests/host/stubs/net.c tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
// links: kernel/net/eth.c kernel/net/arp.c kernel/net/route.c kernel/net/ipv4.c kernel/net/icmp.c kernel/net/udp.c
// links: kernel/net/dhcp.c kernel/net/dhcp_message.c kernel/net/net.c kernel/net/stats.c kernel/net/loopback.c
// links: kernel/lib/checksum.c kernel/lib/string.c kernel/lib/text.c kernel/lib/format.c kernel/lib/parse.c kernel/lib/errno.c
#include "net_case.h"

static const uint8_t other_mac[ETH_ALEN] = {0x02, 1, 2, 3, 4, 5};

static bool entry(uint32_t address, struct arp_view *view)
{
    for (unsigned k = 0; k < ARP_ENTRIES; k++) {
        if (arp_entry(k, view) && view->address == address) {
            return true;
        }
    }
    return false;
}

static void send_to(uint32_t address, int expected)
{
    struct sk_buff *skb = dev_alloc_skb(100);
    memset(skb_put(skb, 100), 0x33, 100);
    assert_int_equal(ip_send(skb, 0, address, 200, 64), expected);
}

static void test_a_question_for_us_is_answered(void **state)
{
    (void)state;
    ends(host_arp(frame, ARP_REQUEST, host_peer_mac, HOST_PEER, HOST_IP), NET_ARP_REQUEST);
    assert_int_equal(host_sent(), 1);
    const uint8_t *f = host_frame(0)->data, *p = f + ETH_HLEN;
    assert_int_equal(host_frame(0)->length, ETH_MIN);
    assert_memory_equal(f, host_peer_mac, ETH_ALEN);
    assert_int_equal(get_be16(p + ARP_OPERATION), ARP_REPLY);
    assert_memory_equal(p + ARP_SENDER_MAC, host_mac, ETH_ALEN);
    assert_int_equal(get_be32(p + ARP_SENDER_IP), HOST_IP);
    assert_memory_equal(p + ARP_TARGET_MAC, host_peer_mac, ETH_ALEN);
    assert_int_equal(get_be32(p + ARP_TARGET_IP), HOST_PEER);
    struct arp_view v;
    assert_true(entry(HOST_PEER, &v));
    assert_int_equal(v.state, ARP_REACHABLE);
}

static void test_others_questions_are_not_answered(void **state)
{
    (void)state;
    struct arp_view v;
    ends(host_arp(frame, ARP_REQUEST, host_peer_mac, HOST_PEER, HOST_OTHER), NET_DROP_ARP_OTHER);
    ends(host_arp(frame, ARP_REPLY, host_peer_mac, HOST_PEER, HOST_IP), NET_DROP_ARP_OTHER);
    assert_int_equal(host_sent(), 0);
    assert_false(entry(HOST_PEER, &v));
    // Nobody outside our network gets into the cache, though the question is answered.
    ends(host_arp(frame, ARP_REQUEST, host_peer_mac, 0x01020304, HOST_IP), NET_ARP_REQUEST);
    assert_false(entry(0x01020304, &v));
}

static void test_malformed_messages(void **state)
{
    (void)state;
    size_t length = host_arp(frame, ARP_REQUEST, host_peer_mac, HOST_PEER, HOST_IP);
    for (size_t cut = ETH_HLEN; cut < length; cut++) {
        ends(cut, NET_DROP_ARP_SHORT);
    }
    static const struct {
        uint8_t at, value;
    } bad[] = {
        {1, 6}, {2, 9}, {3, 1}, {4, 8}, {5, 16}, {6, 1}, {7, 0}, {7, 3}, {7, 8},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        host_arp(frame, ARP_REQUEST, host_peer_mac, HOST_PEER, HOST_IP);
        frame[ETH_HLEN + bad[i].at] = bad[i].value;
        ends(length, NET_DROP_ARP_FORMAT);
    }
    assert_int_equal(host_sent(), 0);
}

static void test_senders_that_cannot_be(void **state)
{
    (void)state;
    static const uint8_t group[ETH_ALEN] = {0x01, 0, 0x5e, 0, 0, 1}, nobody[ETH_ALEN];
    static const uint32_t addresses[] = {0xe0000001, 0xffffffff, 0x7f000001, 0x0a0002ff,
                                         0x00000005};
    ends(host_arp(frame, ARP_REQUEST, group, HOST_PEER, HOST_IP), NET_DROP_ARP_SENDER);
    ends(host_arp(frame, ARP_REQUEST, nobody, HOST_PEER, HOST_IP), NET_DROP_ARP_SENDER);
    ends(host_arp(frame, ARP_REQUEST, host_mac, HOST_PEER, HOST_IP), NET_DROP_ARP_SENDER);
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        ends(host_arp(frame, ARP_REQUEST, host_peer_mac, addresses[i], HOST_IP),
             NET_DROP_ARP_SENDER);
    }
    ends(host_arp(frame, ARP_REPLY, host_peer_mac, 0, HOST_IP), NET_DROP_ARP_SENDER);
    assert_int_equal(host_sent(), 0);
    // RFC 5227: "is this free?" is a fair question.
    ends(host_arp(frame, ARP_REQUEST, host_peer_mac, 0, HOST_IP), NET_ARP_REQUEST);
    assert_int_equal(host_sent(), 1);
}

static void test_a_thief_is_named_and_our_address_defended_once(void **state)
{
    (void)state;
    stub_log_clear();
    for (unsigned i = 0; i < 5; i++) {
        ends(host_arp(frame, ARP_REQUEST, other_mac, HOST_IP, HOST_IP), NET_DROP_ARP_CONFLICT);
    }
    assert_non_null(strstr(stub_log(), "02:01:02:03:04:05 uses our address"));
    assert_int_equal(host_sent(), 1);
    const uint8_t *p = host_frame(0)->data + ETH_HLEN;
    assert_int_equal(get_be32(p + ARP_SENDER_IP), HOST_IP);
    assert_int_equal(get_be32(p + ARP_TARGET_IP), HOST_IP);
    host_pass(11000);
    ends(host_arp(frame, ARP_REPLY, other_mac, HOST_IP, HOST_PEER), NET_DROP_ARP_CONFLICT);
    assert_int_equal(host_sent(), 2);
}

static void test_packets_wait_and_go_out_in_order(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        send_to(HOST_OTHER, 0);
    }
    assert_int_equal(host_sent(), 1); // one question for all of them
    const uint8_t *p = host_frame(0)->data + ETH_HLEN;
    assert_memory_equal(host_frame(0)->data, eth_broadcast, ETH_ALEN);
    assert_int_equal(get_be16(p + ARP_OPERATION), ARP_REQUEST);
    assert_int_equal(get_be32(p + ARP_TARGET_IP), HOST_OTHER);
    ends(host_arp(frame, ARP_REPLY, other_mac, HOST_OTHER, HOST_IP), NET_ARP_REPLY);
    assert_int_equal(host_sent(), 4);
    for (unsigned i = 1; i < 4; i++) {
        assert_memory_equal(host_frame(i)->data, other_mac, ETH_ALEN);
    }
    send_to(HOST_OTHER, 0);
    assert_int_equal(host_sent(), 5); // known now
}

static void test_waiting_is_bounded(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++) {
        send_to(HOST_OTHER, 0);
    }
    send_to(HOST_OTHER, -ENOBUFS);
    assert_int_equal(host_sent(), 1);
}

static void test_nobody_answers(void **state)
{
    (void)state;
    struct arp_view v;
    send_to(HOST_OTHER, 0);
    assert_true(entry(HOST_OTHER, &v));
    assert_int_equal(v.state, ARP_INCOMPLETE);
    host_pass(10000);
    assert_int_equal(host_sent(), 3);
    assert_false(entry(HOST_OTHER, &v)); // and its packet was freed: teardown counts
    send_to(HOST_OTHER, 0);              // a new try asks anew
    assert_int_equal(host_sent(), 4);
}

static void test_entries_grow_old(void **state)
{
    (void)state;
    struct arp_view v;
    host_learn_peer();
    host_pass(62000);
    assert_true(entry(HOST_PEER, &v));
    assert_int_equal(v.state, ARP_STALE);
    assert_int_equal(host_sent(), 0); // an entry nobody uses is not asked after
    send_to(HOST_PEER, 0);
    assert_int_equal(host_sent(), 1); // it is used at once
    host_pass(1100);
    assert_int_equal(host_sent(), 2); // and checked, at its known address
    assert_memory_equal(host_frame(1)->data, host_peer_mac, ETH_ALEN);
    ends(host_arp(frame, ARP_REPLY, host_peer_mac, HOST_PEER, HOST_IP), NET_ARP_REPLY);
    assert_true(entry(HOST_PEER, &v));
    assert_int_equal(v.state, ARP_REACHABLE);
    host_pass(62000);
    host_pass(601000);
    assert_false(entry(HOST_PEER, &v));
}

static void test_a_neighbour_that_died_is_forgotten(void **state)
{
    (void)state;
    struct arp_view v;
    host_learn_peer();
    host_pass(62000);
    send_to(HOST_PEER, 0);
    host_pass(6000);
    assert_false(entry(HOST_PEER, &v));
}

static void test_a_neighbour_moves(void **state)
{
    (void)state;
    host_learn_peer();
    ends(host_arp(frame, ARP_REQUEST, other_mac, HOST_PEER, HOST_PEER),
         NET_ARP_UPDATE); // gratuitous
    send_to(HOST_PEER, 0);
    assert_memory_equal(host_frame(0)->data, other_mac, ETH_ALEN);
}

static void test_a_full_cache_gives_up_the_oldest(void **state)
{
    (void)state;
    struct arp_view v;
    host_eth.ip_mask = 0xfffff000;
    for (uint32_t i = 0; i < ARP_ENTRIES + 44; i++) {
        ends(host_arp(frame, ARP_REQUEST, host_peer_mac, 0x0a000401 + i, HOST_IP), NET_ARP_REQUEST);
        if (i % 16 == 0) {
            host_pass(4);
        }
    }
    assert_false(entry(0x0a000401, &v));
    assert_true(entry(0x0a000401 + ARP_ENTRIES + 43, &v));
    unsigned used = 0;
    for (unsigned k = 0; k < ARP_ENTRIES; k++) {
        used += arp_entry(k, &v);
    }
    assert_int_equal(used, ARP_ENTRIES);
}

static void test_no_memory_for_a_question(void **state)
{
    (void)state;
    struct sk_buff *skb = dev_alloc_skb(10);
    skb_put(skb, 10);
    host_no_memory = true;
    assert_int_equal(ip_send(skb, 0, HOST_OTHER, 200, 64), 0);
    assert_int_equal(host_sent(), 0);
    host_no_memory = false;
    host_pass(1100);
    assert_int_equal(host_sent(), 1); // the timer asks
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup, net_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_question_for_us_is_answered),
        TEST(test_others_questions_are_not_answered),
        TEST(test_malformed_messages),
        TEST(test_senders_that_cannot_be),
        TEST(test_a_thief_is_named_and_our_address_defended_once),
        TEST(test_packets_wait_and_go_out_in_order),
        TEST(test_waiting_is_bounded),
        TEST(test_nobody_answers),
        TEST(test_entries_grow_old),
        TEST(test_a_neighbour_that_died_is_forgotten),
        TEST(test_a_neighbour_moves),
        TEST(test_a_full_cache_gives_up_the_oldest),
        TEST(test_no_memory_for_a_question),
    };
    return cmocka_run_group_tests_name("arp", tests, NULL, NULL);
}
