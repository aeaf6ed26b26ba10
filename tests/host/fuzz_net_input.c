// Everything behind the card: bytes become frames (some random, some that are nearly right, with
// good checksums so that they get deep), time passes in between. Nothing may be read beyond a
// packet, nothing leak, and each frame must end in one counter.
//
// links: tests/host/stubs/net.c tests/host/stubs/log.c tests/host/stubs/panic_abort.c tests/host/stubs/spinlock.c
// links: kernel/net/eth.c kernel/net/arp.c kernel/net/route.c kernel/net/ipv4.c kernel/net/icmp.c kernel/net/udp.c
// links: kernel/net/dhcp.c kernel/net/dhcp_message.c kernel/net/net.c kernel/net/stats.c kernel/net/loopback.c
// links: kernel/lib/checksum.c kernel/lib/string.c kernel/lib/text.c kernel/lib/format.c kernel/lib/parse.c kernel/lib/errno.c

#include "../../kernel/net/dhcp.h"
#include "fuzz.h"
#include "stubs/net.h"
#include "stubs/stubs.h"

static uint8_t frame[2048];

// One frame of kind `kind` around the bytes; its length.
static size_t make_frame(uint8_t kind, const uint8_t *data, size_t size)
{
    uint8_t port = size != 0 ? data[0] : 0;
    switch (kind % 8) {
    case 0: // as it comes
        memcpy(frame, data, size);
        return size;
    case 1: // to us
        memcpy(frame + ETH_HLEN, data, size);
        return host_eth_frame(frame, host_mac, size > 1 && data[1] & 1 ? ETH_P_ARP : ETH_P_IP,
                              size);
    case 2: { // ARP with some fields from the bytes
        size_t length =
            host_arp(frame, ARP_REQUEST + (port & 1), host_peer_mac, HOST_PEER, HOST_IP);
        memcpy(frame + ETH_HLEN + (port % ARP_LENGTH), data,
               size < ARP_LENGTH - port % ARP_LENGTH ? size : ARP_LENGTH - port % ARP_LENGTH);
        return length;
    }
    case 3: // any protocol, good header
        memcpy(frame + ETH_HLEN + IP_HEADER, data, size);
        return host_ip(frame, HOST_PEER, HOST_IP, port, size);
    case 4: // IP header from the bytes, checksum mended
        memcpy(frame + ETH_HLEN, data, size);
        memset(frame + ETH_HLEN + size, 0, IP_HEADER);
        host_eth_frame(frame, port & 1 ? eth_broadcast : host_mac, ETH_P_IP, size);
        host_fix_ip_checksum(frame);
        return ETH_HLEN + size;
    case 5:
        return host_icmp(frame, HOST_PEER, port & 1 ? 0xffffffff : HOST_IP, port % 16, port / 64,
                         0x770001, data, size);
    case 6:
        return host_udp(frame, port & 2 ? 0 : HOST_PEER, port & 1 ? 7 : 2000, HOST_IP,
                        (uint16_t[]){7, 9, 68, 5000, 4444}[port % 5], data, size);
    default: { // from a DHCP server
        uint8_t message[600] = {2, 1, 6};
        memcpy(message + 28, host_mac, ETH_ALEN);
        memcpy(message + 236, (const uint8_t[]){0x63, 0x82, 0x53, 0x63}, 4);
        memcpy(message + 16, (const uint8_t[]){10, 0, 2, 15}, 4);
        // The identity is in the last message that we sent.
        for (unsigned k = host_sent(); k-- != 0;) {
            if (host_frame(k)->length > 300) {
                memcpy(message + 4, host_frame(k)->data + 42 + 4, 4);
                break;
            }
        }
        size_t length = size < sizeof(message) - 240 ? size : sizeof(message) - 240;
        memcpy(message + 240, data, length);
        return host_udp(frame, HOST_PEER, 67, 0xffffffff, 68, message, 240 + length);
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 1400) {
        return 0;
    }
    bool dhcp = data[0] & 1;
    host_net_start(dhcp ? 0 : HOST_IP);
    struct udp_socket *socket = udp_open(5000);
    MUST(socket != NULL);
    if (dhcp) {
        net_notify(&host_eth, NETDEV_REGISTER);
        host_pass(8);
    }
    host_no_memory = (data[0] & 6) == 6;
    // Each piece: kind, length, bytes.
    for (size_t at = 1; at + 2 <= size;) {
        uint8_t kind = data[at];
        size_t length = data[at + 1] * (kind & 0x80 ? 5u : 1u);
        at += 2;
        length = length < size - at ? length : size - at;
        host_receive(frame, make_frame(kind, data + at, length));
        at += length;
        if (kind & 0x40) {
            host_pass(1200);
        }
        MUST(host_balanced());
    }
    host_no_memory = false;
    udp_close(socket);
    MUST(host_net_end() == 0);
    stub_log_clear();
    return 0;
}
