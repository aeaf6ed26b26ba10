// Which way a packet goes: addresses of devices, the networks behind them, and one gateway each.
//
// There is no table to maintain. A device with an address is the route to its network; a device
// with a gateway is a way to everywhere else; the loopback device is the way to every address of
// our own. /proc/net/route shows what follows from that.
//
// A device's address, mask and gateway are three words that packets read without a lock: the
// address is cleared first and set last, and a reader that sees no address sees no route.
//
// Also here: the boot option ip=, which says where addresses come from.
//
// Context: route_* and ip_route in any but hard irq, with bottom halves off (softirq, or the
// caller's local_bh_disable); setting an address in a thread or work item.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/log.h>
#include <dev/netdev.h>
#include <net/net.h>

#include "inet.h"

bool route_is_local(uint32_t address)
{
    if (ip_is_loopback(address)) {
        return true;
    }
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        if (address != 0 && READ_ONCE(dev->ip_address) == address) {
            return true;
        }
    }
    return false;
}

// Networks of two addresses and of one have no broadcast address (RFC 3021).
static bool route_has_broadcast(uint32_t mask)
{
    return ~mask > 1;
}

bool route_is_broadcast(uint32_t address)
{
    if (address == IP_BROADCAST) {
        return true;
    }
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        uint32_t own = READ_ONCE(dev->ip_address), mask = READ_ONCE(dev->ip_mask);
        if (own != 0 && route_has_broadcast(mask) && address == (own | ~mask)) {
            return true;
        }
    }
    return false;
}

// The device whose network holds the address: the longest mask wins.
static struct net_device *route_connected(uint32_t address)
{
    struct net_device *dev = NULL, *best = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        uint32_t own = READ_ONCE(dev->ip_address), mask = READ_ONCE(dev->ip_mask);
        if (own != 0 && dev->up && ((own ^ address) & mask) == 0 &&
            (best == NULL || mask > READ_ONCE(best->ip_mask))) {
            best = dev;
        }
    }
    return best;
}

// The first device that is up and has what we need: a gateway, or (for 255.255.255.255) just an
// address on a wire.
static struct net_device *route_default(bool gateway)
{
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        if (dev->up && !dev->loopback && READ_ONCE(dev->ip_address) != 0 &&
            (!gateway || READ_ONCE(dev->ip_gateway) != 0)) {
            return dev;
        }
    }
    return NULL;
}

struct net_device *ip_route(uint32_t destination, uint32_t *next_hop, uint32_t *source)
{
    assert_in_softirq();
    struct net_device *dev;
    *next_hop = destination;
    if (destination == 0 || ip_is_multicast(destination)) {
        return NULL;
    }
    if (route_is_local(destination)) {
        *source = destination;
        return netdev_find("lo");
    }
    if (destination == IP_BROADCAST) {
        dev = route_default(false);
    } else if ((dev = route_connected(destination)) == NULL) {
        dev = route_default(true);
        if (dev != NULL) {
            *next_hop = READ_ONCE(dev->ip_gateway);
        }
    }
    if (dev != NULL) {
        *source = READ_ONCE(dev->ip_address);
    }
    return dev;
}

void route_set_address(struct net_device *dev, uint32_t address, uint32_t mask, uint32_t gateway)
{
    bool changed = dev->ip_address != address;
    if (changed) {
        WRITE_ONCE(dev->ip_address, 0);
        arp_flush(dev);
    }
    WRITE_ONCE(dev->ip_gateway, gateway);
    WRITE_ONCE(dev->ip_mask, mask);
    WRITE_ONCE(dev->ip_address, address);
    if (changed && address != 0 && !dev->loopback) {
        arp_announce(dev);
    }
}

// ---- ip= ----------------------------------------------------------------------------------------

enum { IP_OPTIONS_MAX = 8 };

struct ip_option {
    char device[16]; // I: "" is the first network card
    struct ip_config config;
};
static struct ip_option ip_options[IP_OPTIONS_MAX]; // I
static unsigned ip_option_count;                    // I

int net_parse_address(const char *text, uint32_t *address, uint32_t *mask)
{
    char buffer[32];
    if (strscpy(buffer, text, sizeof(buffer)) < 0) {
        return -EINVAL;
    }
    char *slash = strchr(buffer, '/');
    uint32_t bits = 32;
    if (slash != NULL) {
        *slash = '\0';
        if (kstrtou32(slash + 1, 10, &bits) != 0 || bits < 1 || bits > 32) {
            return -EINVAL;
        }
    }
    if (parse_ipv4(buffer, address) != 0 || *address >> 24 == 0 || ip_is_multicast(*address) ||
        *address == IP_BROADCAST) {
        return -EINVAL;
    }
    *mask = IP_BROADCAST << (32 - bits);
    // The network's own address and its broadcast are no host's.
    if (route_has_broadcast(*mask) && ((*address & ~*mask) == 0 || (*address | *mask) == ~0u)) {
        return -EINVAL;
    }
    return 0;
}

// "dhcp", "off" or "a.b.c.d/n[,gateway]".
static int ip_config_parse(const char *value, struct ip_config *config)
{
    *config = (struct ip_config){.mode = IP_MODE_STATIC};
    if (strcmp(value, "dhcp") == 0 || strcmp(value, "on") == 0) {
        config->mode = IP_MODE_DHCP;
        return 0;
    }
    if (strcmp(value, "off") == 0 || strcmp(value, "none") == 0) {
        config->mode = IP_MODE_OFF;
        return 0;
    }
    char buffer[64];
    if (strscpy(buffer, value, sizeof(buffer)) < 0) {
        return -EINVAL;
    }
    char *comma = strchr(buffer, ',');
    if (comma != NULL) {
        *comma = '\0';
        if (parse_ipv4(comma + 1, &config->gateway) != 0) {
            return -EINVAL;
        }
    }
    if (net_parse_address(buffer, &config->address, &config->mask) != 0) {
        return -EINVAL;
    }
    if (config->gateway != 0 && ((config->gateway ^ config->address) & config->mask) != 0) {
        return -EINVAL; // a gateway must be a neighbour
    }
    return 0;
}

static int ip_option_set(const char *value)
{
    if (ip_option_count == IP_OPTIONS_MAX) {
        return -EINVAL;
    }
    struct ip_option option = {0};
    const char *colon = strchr(value, ':');
    if (colon != NULL) {
        if ((size_t)(colon - value) >= sizeof(option.device)) {
            return -EINVAL;
        }
        memcpy(option.device, value, (size_t)(colon - value));
        value = colon + 1;
    }
    int error = ip_config_parse(value, &option.config);
    if (error == 0) {
        ip_options[ip_option_count++] = option;
    }
    return error;
}

// The last option that names the device counts; one without a name is for eth0, but dhcp and off
// without a name are for all.
void ip_config_for(const struct net_device *dev, struct ip_config *config)
{
    *config = (struct ip_config){.mode = IP_MODE_DHCP};
    for (unsigned i = 0; i < ip_option_count; i++) {
        const struct ip_option *option = &ip_options[i];
        bool unnamed = option->device[0] == '\0';
        bool all = unnamed && option->config.mode != IP_MODE_STATIC;
        if (all || strcmp(unnamed ? "eth0" : option->device, dev->name) == 0) {
            *config = option->config;
        }
    }
}

// ---- /proc/net/route ----------------------------------------------------------------------------

// Linux prints addresses as the CPU's hex number of the bytes in memory: backwards on x86.
static uint32_t route_swapped(uint32_t address)
{
    return __builtin_bswap32(address);
}

static void route_line(struct text *t, const char *name, uint32_t network, uint32_t gateway,
                       uint32_t mask)
{
    enum { RTF_UP = 1, RTF_GATEWAY = 2 };
    text_printf(t, "%s\t%08X\t%08X\t%04X\t%d\t%u\t%d\t%08X\t%d\t%u\t%u\n", name,
                route_swapped(network), route_swapped(gateway),
                gateway != 0 ? RTF_UP | RTF_GATEWAY : RTF_UP, 0, 0, 0, route_swapped(mask), 0, 0,
                0);
}

static void route_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(
        t, "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n");
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        uint32_t address = READ_ONCE(dev->ip_address), mask = READ_ONCE(dev->ip_mask);
        if (address == 0 || !dev->up || dev->loopback) {
            continue;
        }
        if (dev->ip_gateway != 0) {
            route_line(t, dev->name, 0, dev->ip_gateway, 0);
        }
        route_line(t, dev->name, address & mask, 0, mask);
    }
    rtnl_unlock();
}

PROC_FILE("net/route", route_show);
BOOT_OPTION("ip", ip_option_set,
            "dhcp (default), off, or a.b.c.d/n[,gateway]; ethN: in front names the card");
