// DHCP messages (RFC 2131, RFC 2132) as we write and read them: pure, host-tested and fuzzed.
#pragma once

#include <lib/types.h>

enum { DHCP_SERVER_PORT = 67, DHCP_CLIENT_PORT = 68 };
enum dhcp_type {
    DHCP_DISCOVER = 1,
    DHCP_OFFER,
    DHCP_REQUEST,
    DHCP_DECLINE,
    DHCP_ACK,
    DHCP_NAK,
    DHCP_RELEASE
};
enum { DHCP_MESSAGE_SIZE = 300, DHCP_LEASE_FOREVER = 0xffffffffu };

// What a client says. Zero fields are left out.
struct dhcp_query {
    enum dhcp_type type;
    uint32_t xid;
    uint16_t seconds;   // since it began to ask
    const uint8_t *mac; // 6 bytes
    uint32_t client;    // ciaddr: the address it has and can answer for
    uint32_t requested; // option 50
    uint32_t server;    // option 54
};
// Writes DHCP_MESSAGE_SIZE bytes.
void dhcp_write(uint8_t *message, const struct dhcp_query *query);

// What a server said, checked: the address is one that a host can have, the mask has its ones in
// front, the gateway is a neighbour or 0, and t1 <= t2 <= lease in seconds.
struct dhcp_answer {
    enum dhcp_type type; // OFFER, ACK or NAK
    uint32_t address, mask, gateway, server;
    uint32_t lease, t1, t2;
};
// NULL: good and for us; else what is wrong with it.
const char *dhcp_read(const uint8_t *message, size_t length, uint32_t xid, const uint8_t *mac,
                      struct dhcp_answer *answer);
