// IPv4 input, field by field, and output: what is refused, with which counter, and what leaves the
// card.
//
// links: tests/host/stubs/net.c tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
// links: kernel/net/eth.c kernel/net/arp.c kernel/net/route.c kernel/net/ipv4.c kernel/net/icmp.c kernel/net/udp.c
// links: kernel/net/dhcp.c kernel/net/dhcp_message.c kernel/net/net.c kernel/net/stats.c kernel/net/loopback.c
// links: kernel/lib/checksum.c kernel/lib/string.c kernel/lib/text.c kernel/lib/format.c kernel/lib/parse.c kernel/lib/errno.c
#include "net_case.h"

static size_t good(void)
{
    return host_udp(frame, HOST_PEER, 4000, HOST_IP, 9, "abcdef", 6);
}

static void test_good_packet_reaches_its_service(void **state)
{
    (void)state;
    ends(good(), NET_UDP_SERVICE);
    assert_int_equal(host_sent(), 0);
}

static void test_frames_that_are_not_for_us(void **state)
{
    (void)state;
    for (size_t length = 0; length < ETH_HLEN; length++) {
        ends(length, NET_DROP_ETH_RUNT);
    }
    size_t length = good();
    frame[ETH_SOURCE] |= 1; // a group cannot send
    ends(length, NET_DROP_ETH_SOURCE);
    good();
    memcpy(frame + ETH_SOURCE, host_mac, ETH_ALEN);
    ends(length, NET_DROP_ETH_SOURCE);
    good();
    memset(frame + ETH_SOURCE, 0, ETH_ALEN);
    ends(length, NET_DROP_ETH_SOURCE);
    good();
    frame[ETH_DESTINATION + 5] ^= 1;
    ends(length, NET_DROP_ETH_DESTINATION);
    good();
    put_be16(frame + ETH_TYPE, 0x86dd);
    ends(length, NET_DROP_ETH_TYPE);
    good();
    host_eth.up = false;
    ends(length, NET_DROP_DOWN);
}

static void test_header_fields(void **state)
{
    (void)state;
    uint8_t *ip = frame + ETH_HLEN;
    size_t length = good();
    for (size_t cut = ETH_HLEN; cut < ETH_HLEN + IP_HEADER; cut++) {
        ends(cut, NET_DROP_IP_SHORT);
    }
    for (unsigned version = 0; version < 16; version++) {
        if (version != 4) {
            good();
            ip[IP_VERSION_IHL] = (uint8_t)(version << 4 | 5);
            ends(length, NET_DROP_IP_VERSION);
        }
    }
    for (unsigned ihl = 0; ihl < 5; ihl++) {
        good();
        ip[IP_VERSION_IHL] = (uint8_t)(0x40 | ihl);
        ends(length, NET_DROP_IP_HEADER);
    }
    good();
    ip[IP_VERSION_IHL] = 0x4f; // 60 bytes of header in 34
    ends(length, NET_DROP_IP_HEADER);
    good();
    put_be16(ip + IP_TOTAL_LENGTH, 19);
    host_fix_ip_checksum(frame);
    ends(length, NET_DROP_IP_LENGTH);
    good();
    put_be16(ip + IP_TOTAL_LENGTH, (uint16_t)(length - ETH_HLEN + 1));
    host_fix_ip_checksum(frame);
    ends(length, NET_DROP_IP_LENGTH);
    for (unsigned bit = 0; bit < IP_HEADER * 8; bit++) { // every single bit error
        good();
        ip[bit / 8] ^= (uint8_t)(1 << bit % 8);
        uint64_t accepted = net_end_count(NET_UDP_SERVICE);
        host_receive(frame, length);
        assert_int_equal(net_end_count(NET_UDP_SERVICE), accepted);
    }
}

static void test_padding_is_cut(void **state)
{
    (void)state;
    size_t length = good();
    memset(frame + length, 0xee, 60 - length);
    ends(60, NET_UDP_SERVICE);
    // ICMP has no length of its own: with the padding its checksum would be wrong, and the answer
    // too long.
    length = host_icmp(frame, HOST_PEER, HOST_IP, ICMP_ECHO, 0, 1, "abc", 3);
    memset(frame + length, 0xee, 60 - length);
    ends(60, NET_ICMP_ECHO);
    assert_int_equal(get_be16(host_frame(0)->data + ETH_HLEN + IP_TOTAL_LENGTH),
                     IP_HEADER + ICMP_HEADER + 3);
}

static void test_options_are_skipped(void **state)
{
    (void)state;
    uint8_t *ip = frame + ETH_HLEN;
    size_t length = good();
    memmove(ip + 24, ip + IP_HEADER, 14);
    memset(ip + IP_HEADER, 1, 4); // four no-operations
    ip[IP_VERSION_IHL] = 0x46;
    put_be16(ip + IP_TOTAL_LENGTH, (uint16_t)(length - ETH_HLEN + 4));
    host_fix_ip_checksum(frame);
    ends(length + 4, NET_UDP_SERVICE);
}

static void test_fragments_are_dropped(void **state)
{
    (void)state;
    static const uint16_t fields[] = {IP_MF, 1, IP_MF | 185, IP_OFFSET};
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        size_t length = good();
        put_be16(frame + ETH_HLEN + IP_FRAGMENT, fields[i]);
        host_fix_ip_checksum(frame);
        ends(length, NET_DROP_IP_FRAGMENT);
    }
    size_t length = good();
    put_be16(frame + ETH_HLEN + IP_FRAGMENT, IP_DF);
    host_fix_ip_checksum(frame);
    ends(length, NET_UDP_SERVICE);
}

static void test_sources_that_are_no_host(void **state)
{
    (void)state;
    static const uint32_t sources[] = {
        0x00000000, 0x00000001, 0x7f000001, 0xe0000001, 0xf0000001, 0xffffffff, 0x0a0002ff, HOST_IP,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(sources); i++) {
        ends(host_udp(frame, sources[i], 4000, HOST_IP, 9, "x", 1), NET_DROP_IP_SOURCE);
    }
}

static void test_destinations(void **state)
{
    (void)state;
    static const uint32_t others[] = {HOST_OTHER, 0x7f000001, 0xe0000001, 0, 0x0a0003ff};
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        ends(host_udp(frame, HOST_PEER, 4000, others[i], 9, "x", 1), NET_DROP_IP_DESTINATION);
    }
    // Broadcast is taken, in a frame for everybody or for us alone; one host's packet in
    // everybody's frame is not.
    ends(host_udp(frame, HOST_PEER, 4000, 0xffffffff, 9, "x", 1), NET_UDP_SERVICE);
    ends(host_udp(frame, HOST_PEER, 4000, 0x0a0002ff, 9, "x", 1), NET_UDP_SERVICE);
    size_t length = host_udp(frame, HOST_PEER, 4000, HOST_IP, 9, "x", 1);
    memcpy(frame, eth_broadcast, ETH_ALEN);
    ends(length, NET_DROP_IP_DESTINATION);
}

static void test_unknown_protocol_is_answered_once_in_a_while(void **state)
{
    (void)state;
    memset(frame + 34, 0x77, 30);
    ends(host_ip(frame, HOST_PEER, HOST_IP, IPPROTO_TCP, 30), NET_DROP_IP_PROTOCOL);
    assert_int_equal(host_sent(), 1);
    const uint8_t *reply = host_frame(0)->data;
    const uint8_t *icmp = reply + ETH_HLEN + IP_HEADER;
    assert_memory_equal(reply, host_peer_mac, ETH_ALEN);
    assert_int_equal(icmp[ICMP_TYPE], ICMP_UNREACHABLE);
    assert_int_equal(icmp[ICMP_CODE], ICMP_PROTOCOL_UNREACHABLE);
    // It quotes the IP header and eight bytes, and nothing more.
    assert_int_equal(get_be16(reply + ETH_HLEN + IP_TOTAL_LENGTH),
                     IP_HEADER + ICMP_HEADER + IP_HEADER + 8);
    assert_memory_equal(icmp + ICMP_HEADER, frame + ETH_HLEN, IP_HEADER + 8);
    for (unsigned i = 0; i < 1000; i++) {
        ends(host_ip(frame, HOST_PEER, HOST_IP, IPPROTO_TCP, 30), NET_DROP_IP_PROTOCOL);
    }
    assert_in_range(host_sent(), 10, 25);
}

static struct sk_buff *packet(uint32_t size)
{
    struct sk_buff *skb = dev_alloc_skb(size);
    memset(skb_put(skb, size), 0x5a, size);
    return skb;
}

static void test_what_leaves(void **state)
{
    (void)state;
    assert_int_equal(ip_send(packet(5), 0, HOST_PEER, 200, 33), 0);
    assert_int_equal(host_sent(), 1);
    assert_int_equal(host_frame(0)->length, ETH_MIN);
    const uint8_t *f = host_frame(0)->data, *ip = f + ETH_HLEN;
    static const uint8_t zeroes[ETH_MIN];
    assert_memory_equal(f, host_peer_mac, ETH_ALEN);
    assert_memory_equal(f + ETH_SOURCE, host_mac, ETH_ALEN);
    assert_int_equal(get_be16(f + ETH_TYPE), ETH_P_IP);
    assert_int_equal(ip[IP_VERSION_IHL], 0x45);
    assert_int_equal(get_be16(ip + IP_TOTAL_LENGTH), 25);
    assert_int_equal(get_be16(ip + IP_FRAGMENT), IP_DF);
    assert_int_equal(ip[IP_TTL], 33);
    assert_int_equal(ip[IP_PROTOCOL], 200);
    assert_int_equal(get_be32(ip + IP_SOURCE), HOST_IP);
    assert_int_equal(get_be32(ip + IP_DESTINATION), HOST_PEER);
    assert_memory_equal(ip + 25, zeroes, ETH_MIN - ETH_HLEN - 25); // nothing of ours leaks out
    uint8_t copy[64];
    memcpy(copy, f, ETH_MIN);
    host_fix_ip_checksum(copy);
    assert_memory_equal(copy, f, ETH_MIN);
}

static void test_what_does_not_leave(void **state)
{
    (void)state;
    assert_int_equal(ip_send(packet(1480), 0, HOST_PEER, 200, 64), 0);
    assert_int_equal(ip_send(packet(1481), 0, HOST_PEER, 200, 64), -EMSGSIZE);
    assert_int_equal(ip_send(packet(1), 0, 0xe0000001, 200, 64), -ENETUNREACH);
    assert_int_equal(ip_send(packet(1), 0, 0, 200, 64), -ENETUNREACH);
    host_eth.ip_gateway = 0;
    assert_int_equal(ip_send(packet(1), 0, 0x08080808, 200, 64), -ENETUNREACH);
    host_eth.carrier = false;
    assert_int_equal(ip_send(packet(1), 0, HOST_PEER, 200, 64), -ENETDOWN);
}

static void test_routes(void **state)
{
    (void)state;
    uint32_t hop, source;
    assert_ptr_equal(ip_route(HOST_OTHER, &hop, &source), &host_eth);
    assert_int_equal(hop, HOST_OTHER);
    assert_int_equal(source, HOST_IP);
    assert_ptr_equal(ip_route(0x08080808, &hop, &source), &host_eth);
    assert_int_equal(hop, HOST_PEER);
    assert_ptr_equal(ip_route(HOST_IP, &hop, &source), netdev_find("lo"));
    assert_ptr_equal(ip_route(0x7f000005, &hop, &source), netdev_find("lo"));
    assert_int_equal(source, 0x7f000005);
    assert_ptr_equal(ip_route(0xffffffff, &hop, &source), &host_eth);
    host_eth.up = false;
    assert_null(ip_route(HOST_OTHER, &hop, &source));
    assert_null(ip_route(0x08080808, &hop, &source));
}

static void test_loopback_comes_back(void **state)
{
    (void)state;
    uint8_t data[1] = {0};
    struct udp_socket *socket = udp_open(5000);
    assert_int_equal(udp_send(socket, HOST_IP, 5000, "hello", 5), 0);
    host_pass(4);
    char got[8];
    uint32_t from;
    uint16_t port;
    assert_int_equal(udp_receive(socket, got, sizeof(got), &from, &port, 100), 5);
    assert_memory_equal(got, "hello", 5);
    assert_int_equal(from, HOST_IP);
    assert_int_equal(port, 5000);
    assert_int_equal(host_sent(), 0);
    (void)data;
    udp_close(socket);
}

static void test_addresses_that_people_type(void **state)
{
    (void)state;
    uint32_t address, mask;
    assert_int_equal(net_parse_address("10.0.2.15/24", &address, &mask), 0);
    assert_int_equal(address, HOST_IP);
    assert_int_equal(mask, 0xffffff00);
    assert_int_equal(net_parse_address("10.0.2.15", &address, &mask), 0);
    assert_int_equal(mask, 0xffffffff);
    assert_int_equal(net_parse_address("10.0.0.0/31", &address, &mask), 0);
    static const char *const bad[] = {
        "",
        "/24",
        "10.0.2/24",
        "10.0.2.256/24",
        "10.0.2.15/",
        "10.0.2.15/0",
        "10.0.2.15/33",
        "10.0.2.15/-1",
        "10.0.2.15/24x",
        "10.0.2.0/24",
        "10.0.2.255/24",
        "0.0.0.0/8",
        "0.1.2.3/8",
        "224.0.0.1/24",
        "255.255.255.255",
        "10.0.2.15/24/24",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        if (net_parse_address(bad[i], &address, &mask) != -EINVAL) {
            fail_msg("%s was taken", bad[i]);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup_with_peer, net_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_good_packet_reaches_its_service),
        TEST(test_frames_that_are_not_for_us),
        TEST(test_header_fields),
        TEST(test_padding_is_cut),
        TEST(test_options_are_skipped),
        TEST(test_fragments_are_dropped),
        TEST(test_sources_that_are_no_host),
        TEST(test_destinations),
        TEST(test_unknown_protocol_is_answered_once_in_a_while),
        TEST(test_what_leaves),
        TEST(test_what_does_not_leave),
        TEST(test_routes),
        TEST(test_loopback_comes_back),
        TEST(test_addresses_that_people_type),
    };
    return cmocka_run_group_tests_name("ipv4", tests, NULL, NULL);
}
