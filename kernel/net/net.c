// The network as a whole: starting it, and what happens when a device appears, gets its link, or
// goes away.
//
// Context: net_init at boot; net_notify as its events come, from threads and work items.
#include <lib/errno.h>
#include <lib/format.h>
#include <core/log.h>
#include <dev/netdev.h>
#include <net/net.h>

#include "inet.h"

void net_format_address(char to[16], uint32_t address)
{
    snprintf(to, 16, "%u.%u.%u.%u", address >> 24, address >> 16 & 0xff, address >> 8 & 0xff,
             address & 0xff);
}

static void net_appeared(struct net_device *dev)
{
    struct ip_config config;
    ip_config_for(dev, &config);
    if (config.mode == IP_MODE_OFF) {
        return; // `ip link set ... up` opens it
    }
    if (config.mode == IP_MODE_DHCP) {
        dhcp_attach(dev);
    } else {
        route_set_address(dev, config.address, config.mask, config.gateway);
    }
    int error = netdev_open(dev);
    if (error != 0) {
        pr_err("%s: does not open: %s", dev->name, strerror(error));
    }
}

void net_notify(struct net_device *dev, enum netdev_event event)
{
    if (dev->loopback) {
        return;
    }
    switch (event) {
    case NETDEV_REGISTER:
        net_appeared(dev);
        break;
    case NETDEV_UP:
    case NETDEV_CARRIER:
        dhcp_wake(dev);
        if (dev->carrier && dev->ip_address != 0) {
            arp_announce(dev); // switches learn our port, neighbours our address
        }
        break;
    case NETDEV_DOWN:
        dhcp_wake(dev);
        arp_flush(dev);
        break;
    case NETDEV_UNREGISTER:
        dhcp_detach(dev);
        route_set_address(dev, 0, 0, 0);
        arp_flush(dev);
        break;
    }
}

int net_set_address(struct net_device *dev, uint32_t address, uint32_t mask, uint32_t gateway)
{
    might_sleep();
    if (gateway != 0 && (address == 0 || ((gateway ^ address) & mask) != 0)) {
        return -EINVAL;
    }
    dhcp_detach(dev);
    route_set_address(dev, address, mask, gateway);
    return 0;
}

void net_init(void)
{
    might_sleep();
    arp_init();
    udp_init();
    dhcp_init();
    loopback_init();
}
