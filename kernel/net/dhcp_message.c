// Reading and writing DHCP messages. Anybody on the wire may send one, so reading believes nothing:
// every option stays inside its field, every length is checked, every address must make sense
// together with the others.
//
//   0    1       2      3      4     8      10      12       16       20       24       28       44      108    236      240
//   | op | htype | hlen | hops | xid | secs | flags | ciaddr | yiaddr | siaddr | giaddr | chaddr | sname | file | cookie | options
//
// RFC 2131, figure 1; options RFC 2132. Context: any.
#include <lib/string.h>

#include "dhcp.h"
#include "inet.h"

enum {
    BOOTP_OP = 0,
    BOOTP_HTYPE = 1,
    BOOTP_HLEN = 2,
    BOOTP_XID = 4,
    BOOTP_SECS = 8,
    BOOTP_FLAGS = 10,
    BOOTP_CIADDR = 12,
    BOOTP_YIADDR = 16,
    BOOTP_CHADDR = 28,
    BOOTP_SNAME = 44,
    BOOTP_FILE = 108,
    BOOTP_COOKIE = 236,
    BOOTP_OPTIONS = 240,
};
enum { BOOTREQUEST = 1, BOOTREPLY = 2, BOOTP_BROADCAST = 0x8000 };
#define DHCP_COOKIE 0x63825363u

enum { // RFC 2132
    OPTION_PAD = 0,
    OPTION_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_REQUESTED = 50,
    OPTION_LEASE = 51,
    OPTION_OVERLOAD = 52,
    OPTION_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_LIST = 55,
    OPTION_MAX_SIZE = 57,
    OPTION_T1 = 58,
    OPTION_T2 = 59,
    OPTION_CLIENT = 61,
    OPTION_END = 255,
};
enum { DHCP_LEASE_MIN = 60, DHCP_LEASE_DEFAULT = 3600 };

// ---- writing ------------------------------------------------------------------------------------

static uint8_t *dhcp_put(uint8_t *p, uint8_t option, const void *value, uint8_t length)
{
    *p++ = option;
    *p++ = length;
    memcpy(p, value, length);
    return p + length;
}

static uint8_t *dhcp_put_address(uint8_t *p, uint8_t option, uint32_t address)
{
    if (address == 0) {
        return p;
    }
    uint8_t value[4];
    put_be32(value, address);
    return dhcp_put(p, option, value, sizeof(value));
}

void dhcp_write(uint8_t *message, const struct dhcp_query *query)
{
    static const uint8_t wanted[] = {OPTION_MASK,   OPTION_ROUTER, OPTION_LEASE,
                                     OPTION_SERVER, OPTION_T1,     OPTION_T2};
    memset(message, 0, DHCP_MESSAGE_SIZE);
    message[BOOTP_OP] = BOOTREQUEST;
    message[BOOTP_HTYPE] = 1;
    message[BOOTP_HLEN] = ETH_ALEN;
    put_be32(message + BOOTP_XID, query->xid);
    put_be16(message + BOOTP_SECS, query->seconds);
    // Without an address we cannot be reached but by broadcast (RFC 2131, 4.1).
    put_be16(message + BOOTP_FLAGS, query->client == 0 ? BOOTP_BROADCAST : 0);
    put_be32(message + BOOTP_CIADDR, query->client);
    memcpy(message + BOOTP_CHADDR, query->mac, ETH_ALEN);
    put_be32(message + BOOTP_COOKIE, DHCP_COOKIE);

    uint8_t *p = message + BOOTP_OPTIONS;
    uint8_t type = (uint8_t)query->type, client[1 + ETH_ALEN] = {1}, size[2];
    memcpy(client + 1, query->mac, ETH_ALEN);
    put_be16(size, 1500 - IP_HEADER - UDP_HEADER);
    p = dhcp_put(p, OPTION_TYPE, &type, 1);
    p = dhcp_put(p, OPTION_CLIENT, client, sizeof(client));
    p = dhcp_put_address(p, OPTION_REQUESTED, query->requested);
    p = dhcp_put_address(p, OPTION_SERVER, query->server);
    if (query->type == DHCP_DISCOVER || query->type == DHCP_REQUEST) {
        p = dhcp_put(p, OPTION_MAX_SIZE, size, sizeof(size));
        p = dhcp_put(p, OPTION_LIST, wanted, sizeof(wanted));
    }
    *p = OPTION_END;
}

// ---- reading ------------------------------------------------------------------------------------

// One field of options: up to its END, which must be there unless the field is filled. False: an
// option reaches beyond it.
static bool dhcp_read_options(const uint8_t *p, size_t length, struct dhcp_answer *a,
                              uint8_t *overload)
{
    size_t at = 0;
    while (at < length && p[at] != OPTION_END) {
        uint8_t option = p[at++];
        if (option == OPTION_PAD) {
            continue;
        }
        if (at == length || p[at] > length - at - 1) {
            return false;
        }
        uint8_t size = p[at++];
        const uint8_t *value = p + at;
        at += size;
        if (option == OPTION_TYPE && size == 1) {
            a->type = value[0];
        } else if (option == OPTION_OVERLOAD && size == 1) {
            *overload = value[0];
        } else if (option == OPTION_ROUTER && size >= 4) {
            a->gateway = get_be32(value); // the first of several
        } else if (size == 4) {
            uint32_t *to = option == OPTION_MASK     ? &a->mask
                           : option == OPTION_SERVER ? &a->server
                           : option == OPTION_LEASE  ? &a->lease
                           : option == OPTION_T1     ? &a->t1
                           : option == OPTION_T2     ? &a->t2
                                                     : NULL;
            if (to != NULL) {
                *to = get_be32(value);
            }
        }
    }
    return true;
}

static bool dhcp_is_host(uint32_t address)
{
    return address >> 24 != 0 && address >> 28 < 0xe && !ip_is_loopback(address);
}

// RFC 2131, 4.4.5: T1 is half the lease and T2 seven eighths unless the server says otherwise.
static void dhcp_fix_times(struct dhcp_answer *a)
{
    if (a->lease == 0) {
        a->lease = DHCP_LEASE_DEFAULT;
    }
    if (a->lease < DHCP_LEASE_MIN) {
        a->lease = DHCP_LEASE_MIN; // less would be nothing but traffic
    }
    if (a->t2 == 0 || a->t2 > a->lease) {
        a->t2 = a->lease - a->lease / 8;
    }
    if (a->t1 == 0 || a->t1 > a->t2) {
        a->t1 = min(a->lease / 2, a->t2);
    }
}

static const char *dhcp_check_address(struct dhcp_answer *a)
{
    if (!dhcp_is_host(a->address)) {
        return "the address is not a host's";
    }
    if (a->mask == 0) {
        a->mask = 0xffffff00u;
    }
    uint32_t zeroes = ~a->mask;
    if ((zeroes & (zeroes + 1)) != 0) {
        return "the mask has a hole";
    }
    if (zeroes > 1 && ((a->address & zeroes) == 0 || (a->address & zeroes) == zeroes)) {
        return "the address is the network's or its broadcast";
    }
    if (!dhcp_is_host(a->gateway) || ((a->gateway ^ a->address) & a->mask) != 0 ||
        a->gateway == a->address) {
        a->gateway = 0;
    }
    dhcp_fix_times(a);
    return NULL;
}

const char *dhcp_read(const uint8_t *message, size_t length, uint32_t xid, const uint8_t *mac,
                      struct dhcp_answer *answer)
{
    if (length < BOOTP_OPTIONS || get_be32(message + BOOTP_COOKIE) != DHCP_COOKIE) {
        return "not a DHCP message";
    }
    if (message[BOOTP_OP] != BOOTREPLY || message[BOOTP_HTYPE] != 1 ||
        message[BOOTP_HLEN] != ETH_ALEN || get_be32(message + BOOTP_XID) != xid ||
        memcmp(message + BOOTP_CHADDR, mac, ETH_ALEN) != 0) {
        return "not for us";
    }
    *answer = (struct dhcp_answer){.address = get_be32(message + BOOTP_YIADDR)};
    uint8_t overload = 0, ignored = 0;
    bool good =
        dhcp_read_options(message + BOOTP_OPTIONS, length - BOOTP_OPTIONS, answer, &overload);
    if (good && (overload & 1) != 0) { // options go on in `file`, then in `sname` (RFC 2131, 4.1)
        good = dhcp_read_options(message + BOOTP_FILE, BOOTP_COOKIE - BOOTP_FILE, answer, &ignored);
    }
    if (good && (overload & 2) != 0) {
        good = dhcp_read_options(message + BOOTP_SNAME, BOOTP_FILE - BOOTP_SNAME, answer, &ignored);
    }
    if (!good) {
        return "an option reaches beyond its field";
    }
    if (!dhcp_is_host(answer->server)) {
        return "no server identifier";
    }
    if (answer->type == DHCP_NAK) {
        return NULL;
    }
    if (answer->type != DHCP_OFFER && answer->type != DHCP_ACK) {
        return "not an offer, ACK or NAK";
    }
    return dhcp_check_address(answer);
}
