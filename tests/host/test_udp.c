// UDP: lengths and checksums, sockets with their bounds, echo byte for byte, and who is not
// answered.
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
    srand(4);
    for (size_t size = 0; size <= sizeof(data); size++) {
        for (size_t i = 0; i < size; i++) {
            data[i] = (uint8_t)rand();
        }
        uint16_t port = (uint16_t)(1024 + rand() % 60000);
        ends(host_udp(frame, HOST_PEER, port, HOST_IP, 7, data, size), NET_UDP_SERVICE);
        assert_int_equal(host_sent(), 1);
        uint8_t expected[2048];
        size_t length = host_udp(expected, HOST_IP, 7, HOST_PEER, port, data, size);
        assert_int_equal(host_frame(0)->length, length < ETH_MIN ? ETH_MIN : length);
        // Ports, length, checksum and data, to the byte.
        assert_memory_equal(host_frame(0)->data + ETH_HLEN + IP_HEADER,
                            expected + ETH_HLEN + IP_HEADER, UDP_HEADER + size);
        host_forget_sent();
    }
}

static void test_a_packet_without_checksum_is_good(void **state)
{
    (void)state;
    size_t length = host_udp(frame, HOST_PEER, 2000, HOST_IP, 7, "abc", 3);
    put_be16(frame + 34 + UDP_CHECKSUM, 0);
    ends(length, NET_UDP_SERVICE);
    assert_int_equal(host_sent(), 1);
}

static void test_lengths(void **state)
{
    (void)state;
    for (size_t size = 0; size < UDP_HEADER; size++) {
        ends(host_ip(frame, HOST_PEER, HOST_IP, IPPROTO_UDP, size), NET_DROP_UDP_SHORT);
    }
    static const uint16_t bad[] = {0, 7, 8 + 5 + 1, 0xffff};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        size_t length = host_udp(frame, HOST_PEER, 2000, HOST_IP, 7, "abcde", 5);
        put_be16(frame + 34 + UDP_LENGTH, bad[i]);
        ends(length, NET_DROP_UDP_LENGTH);
    }
    assert_int_equal(host_sent(), 0);
}

static void test_every_bit_error_in_the_data(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 8 * 6; bit++) {
        size_t length = host_udp(frame, HOST_PEER, 2000, HOST_IP, 7, "abcdef", 6);
        frame[34 + UDP_HEADER + bit / 8] ^= (uint8_t)(1 << bit % 8);
        ends(length, NET_DROP_UDP_CHECKSUM);
    }
    assert_int_equal(host_sent(), 0);
}

static void test_services_do_not_loop_and_not_shout(void **state)
{
    (void)state;
    static const uint16_t ports[] = {0, 7, 9, 13, 17, 19};
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
        ends(host_udp(frame, HOST_PEER, ports[i], HOST_IP, 7, "x", 1), NET_DROP_UDP_SERVICE);
    }
    ends(host_udp(frame, HOST_PEER, 2000, 0x0a0002ff, 7, "x", 1), NET_DROP_UDP_SERVICE);
    ends(host_udp(frame, HOST_PEER, 2000, 0xffffffff, 7, "x", 1), NET_DROP_UDP_SERVICE);
    ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 9, "x", 1), NET_UDP_SERVICE);
    assert_int_equal(host_sent(), 0);
}

static void test_a_closed_port(void **state)
{
    (void)state;
    ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 4444, "x", 1), NET_DROP_UDP_PORT);
    assert_int_equal(host_sent(), 1);
    const uint8_t *icmp = host_frame(0)->data + ETH_HLEN + IP_HEADER;
    assert_int_equal(icmp[ICMP_TYPE], ICMP_UNREACHABLE);
    assert_int_equal(icmp[ICMP_CODE], ICMP_PORT_UNREACHABLE);
    assert_memory_equal(icmp + ICMP_HEADER, frame + ETH_HLEN, IP_HEADER + UDP_HEADER);
    ends(host_udp(frame, HOST_PEER, 2000, 0x0a0002ff, 4444, "x", 1), NET_DROP_UDP_PORT);
    assert_int_equal(host_sent(), 1); // not about what was for everybody
    host_no_memory = true;
    ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 4444, "x", 1), NET_DROP_UDP_PORT);
    assert_int_equal(host_sent(), 1);
}

static void test_sockets_and_ports(void **state)
{
    (void)state;
    struct udp_socket *a = udp_open(5000), *b = udp_open(0);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(udp_open(5000));
    assert_null(udp_open(7)); // a service has it
    udp_close(a);
    a = udp_open(5000);
    assert_non_null(a);
    udp_close(a);
    udp_close(b);
}

static void test_a_socket_receives_in_order_and_bounded(void **state)
{
    (void)state;
    struct udp_socket *socket = udp_open(5000);
    for (uint32_t i = 0; i < 128; i++) {
        ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 5000, &i, 4), NET_UDP_SOCKET);
    }
    uint32_t value = 99, from = 0;
    uint16_t port = 0;
    ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 5000, &value, 4), NET_DROP_UDP_FULL);
    for (uint32_t i = 0; i < 127; i++) {
        assert_int_equal(udp_receive(socket, &value, 4, &from, &port, 1000), 4);
        assert_int_equal(value, i);
        assert_int_equal(from, HOST_PEER);
        assert_int_equal(port, 2000);
    }
    uint8_t two[3] = {0, 0, 0xee};
    assert_int_equal(udp_receive(socket, two, 2, NULL, NULL, 1000),
                     2); // the rest of a datagram is lost
    assert_int_equal(two[2], 0xee);
    assert_int_equal(udp_receive(socket, &value, 4, NULL, NULL, 1000), -ETIMEDOUT);
    ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 5000, &value, 4), NET_UDP_SOCKET);
    udp_close(socket); // with a packet in it
}

static void come_late(void)
{
    ends(host_udp(frame, HOST_PEER, 2000, HOST_IP, 5000, "late", 4), NET_UDP_SOCKET);
}

static void test_a_reader_that_sleeps_is_served(void **state)
{
    (void)state;
    struct udp_socket *socket = udp_open(5000);
    char data[8];
    host_while_asleep = come_late;
    assert_int_equal(udp_receive(socket, data, sizeof(data), NULL, NULL, 1000), 4);
    udp_close(socket);
}

static void test_sending(void **state)
{
    (void)state;
    struct udp_socket *socket = udp_open(5000);
    static uint8_t data[1473];
    assert_int_equal(udp_send(socket, HOST_PEER, 6000, "abc", 3), 0);
    uint8_t expected[128];
    host_udp(expected, HOST_IP, 5000, HOST_PEER, 6000, "abc", 3);
    assert_memory_equal(host_frame(0)->data + 34, expected + 34, UDP_HEADER + 3);
    assert_int_equal(udp_send(socket, HOST_PEER, 6000, data, 1472), 0);
    assert_int_equal(udp_send(socket, HOST_PEER, 6000, data, 1473), -EMSGSIZE);
    assert_int_equal(udp_send(socket, HOST_PEER, 6000, data, 1u << 20), -EMSGSIZE);
    assert_int_equal(udp_send(socket, 0xe0000001, 6000, data, 1), -ENETUNREACH);
    // A sum of zero is sent as ffff (RFC 768): find data whose sum is zero and look.
    for (uint32_t v = 0; v < 0x10000; v++) {
        uint8_t word[2] = {(uint8_t)(v >> 8), (uint8_t)v};
        host_udp(expected, HOST_IP, 5000, HOST_PEER, 6000, word, 2);
        if (get_be16(expected + 34 + UDP_CHECKSUM) == 0xffff) {
            host_forget_sent();
            assert_int_equal(udp_send(socket, HOST_PEER, 6000, word, 2), 0);
            assert_int_equal(get_be16(host_frame(0)->data + 34 + UDP_CHECKSUM), 0xffff);
            udp_close(socket);
            return;
        }
    }
    fail_msg("no data has the sum zero");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup_with_peer, net_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_echo_of_every_size),
        TEST(test_a_packet_without_checksum_is_good),
        TEST(test_lengths),
        TEST(test_every_bit_error_in_the_data),
        TEST(test_services_do_not_loop_and_not_shout),
        TEST(test_a_closed_port),
        TEST(test_sockets_and_ports),
        TEST(test_a_socket_receives_in_order_and_bounded),
        TEST(test_a_reader_that_sleeps_is_served),
        TEST(test_sending),
    };
    return cmocka_run_group_tests_name("udp", tests, NULL, NULL);
}
