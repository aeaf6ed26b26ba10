// The console's network commands: ip, arp and ping, with the words and columns of iproute2,
// net-tools and iputils.
//
// Context: a command's thread. Devices are looked at under rtnl_lock, and what is printed is copied
// out first where printing may sleep.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <dev/netdev.h>
#include <net/net.h>

enum { IP_TEXT_SIZE = 16384 };

// ---- ip -----------------------------------------------------------------------------------------

static void ip_show_address(struct text *t, const struct net_device *dev)
{
    uint32_t address = dev->ip_address, mask = dev->ip_mask, left;
    if (address == 0) {
        return;
    }
    char own[16], broadcast[16];
    net_format_address(own, address);
    net_format_address(broadcast, address | ~mask);
    bool leased = dhcp_lease_left(dev, &left);
    text_printf(t, "    inet %s/%d", own, __builtin_popcount(mask));
    if (!dev->loopback && ~mask > 1) {
        text_printf(t, " brd %s", broadcast);
    }
    text_printf(t, " scope %s%s %s\n", dev->loopback ? "host" : "global", leased ? " dynamic" : "",
                dev->name);
    if (leased && left != UINT32_MAX) {
        text_printf(t, "       valid_lft %usec preferred_lft %usec\n", left, left);
    } else {
        text_puts(t, "       valid_lft forever preferred_lft forever\n");
    }
}

static void ip_show_link(struct text *t, const struct net_device *dev)
{
    const uint8_t *a = dev->dev_addr;
    bool running = dev->up && dev->carrier;
    text_printf(t, "%d: %s: <%s%s%s> mtu %u qdisc %s state %s qlen %u\n", dev->ifindex, dev->name,
                dev->loopback              ? "LOOPBACK"
                : dev->up && !dev->carrier ? "NO-CARRIER,BROADCAST"
                                           : "BROADCAST",
                dev->up ? ",UP" : "", running ? ",LOWER_UP" : "", dev->mtu,
                dev->loopback ? "noqueue" : "pfifo",
                dev->loopback && running ? "UNKNOWN"
                : running                ? "UP"
                                         : "DOWN",
                dev->tx_waiting_max);
    text_printf(t, "    link/%s %02x:%02x:%02x:%02x:%02x:%02x brd %s\n",
                dev->loopback ? "loopback" : "ether", a[0], a[1], a[2], a[3], a[4], a[5],
                dev->loopback ? "00:00:00:00:00:00" : "ff:ff:ff:ff:ff:ff");
}

// Both `ip addr` and `ip link`. name: one device, or NULL for all.
static bool ip_show_devices(struct text *t, const char *name, bool addresses)
{
    bool found = false;
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        if (name == NULL || strcmp(dev->name, name) == 0) {
            found = true;
            ip_show_link(t, dev);
            if (addresses) {
                ip_show_address(t, dev);
            }
        }
    }
    rtnl_unlock();
    return found;
}

static void ip_show_routes(struct text *t)
{
    rtnl_lock();
    struct net_device *dev = NULL;
    char network[16], own[16], gateway[16];
    uint32_t left;
    for (int pass = 0; pass < 2; pass++) { // ways to everywhere come first
        while ((dev = netdev_next(dev)) != NULL) {
            if (dev->loopback || dev->ip_address == 0 || !dev->up) {
                continue;
            }
            const char *down = dev->carrier ? "" : "linkdown ";
            net_format_address(own, dev->ip_address);
            if (pass == 0 && dev->ip_gateway != 0) {
                net_format_address(gateway, dev->ip_gateway);
                text_printf(t, "default via %s dev %s %ssrc %s %s\n", gateway, dev->name,
                            dhcp_lease_left(dev, &left) ? "proto dhcp " : "", own, down);
            } else if (pass == 1) {
                net_format_address(network, dev->ip_address & dev->ip_mask);
                text_printf(t, "%s/%d dev %s proto kernel scope link src %s %s\n", network,
                            __builtin_popcount(dev->ip_mask), dev->name, own, down);
            }
        }
    }
    rtnl_unlock();
}

static int ip_print(struct shell *sh, const char *what, const char *name)
{
    char *buffer = kmalloc(IP_TEXT_SIZE, GFP_KERNEL);
    if (buffer == NULL) {
        return shell_error(sh, "no memory");
    }
    struct text t;
    text_init(&t, buffer, IP_TEXT_SIZE);
    bool found = true;
    if (strcmp(what, "route") == 0) {
        ip_show_routes(&t);
    } else {
        found = ip_show_devices(&t, name, strcmp(what, "addr") == 0);
    }
    int status = found ? (shell_write(sh, t.data, t.length), 0)
                       : shell_error(sh, "Device \"%s\" does not exist: see ip link", name);
    kfree(buffer);
    return status;
}

static int ip_link_set(struct shell *sh, const char *name, const char *state)
{
    bool up = strcmp(state, "up") == 0;
    if (!up && strcmp(state, "down") != 0) {
        return shell_usage(sh, "%s: up or down", state);
    }
    int error = netdev_set_up(name, up);
    if (error == -ENODEV) {
        return shell_error(sh, "Device \"%s\" does not exist: see ip link", name);
    }
    if (error != 0) {
        return shell_error(sh, "%s: %s: see dmesg", name, strerror(error));
    }
    return 0;
}

// address 0 with add false takes away whatever is there, if it is that address.
static int ip_addr_change(struct shell *sh, bool add, const char *text, const char *name)
{
    uint32_t address, mask;
    if (net_parse_address(text, &address, &mask) != 0) {
        return shell_usage(sh, "%s: not an address that a host can have, as in 10.0.0.2/24", text);
    }
    int error = -ENODEV;
    rtnl_lock();
    struct net_device *dev = netdev_find(name);
    if (dev != NULL && dev->loopback) {
        error = -EPERM;
    } else if (dev != NULL && add) {
        error = net_set_address(dev, address, mask, 0);
    } else if (dev != NULL) {
        error = dev->ip_address == address ? net_set_address(dev, 0, 0, 0) : -ENOENT;
    }
    rtnl_unlock();
    return error == 0 ? 0 : shell_error(sh, "%s on %s: %s", text, name, strerror(error));
}

// The gateway belongs to the device whose network it is in.
static int ip_route_change(struct shell *sh, bool add, const char *text)
{
    uint32_t gateway = 0;
    if (text != NULL && parse_ipv4(text, &gateway) != 0) {
        return shell_usage(sh, "%s: not an address", text);
    }
    int error = -ENETUNREACH;
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL && error != 0) {
        bool neighbour = ((gateway ^ dev->ip_address) & dev->ip_mask) == 0;
        if (dev->loopback || dev->ip_address == 0 || (add ? !neighbour : dev->ip_gateway == 0)) {
            continue;
        }
        error = net_set_address(dev, dev->ip_address, dev->ip_mask, gateway);
    }
    rtnl_unlock();
    return error == 0 ? 0
                      : shell_error(sh, "%s: no card has %s", text != NULL ? text : "default",
                                    add ? "this neighbour" : "a gateway");
}

static bool ip_word_is(const char *typed, const char *word)
{
    return typed[0] != '\0' && str_starts(word, typed); // a, ad, add, addr: as iproute2 does
}

static int ip_command(struct shell *sh, int argc, char **argv)
{
    const char *object = argc > 1 ? argv[1] : "addr", *verb = argc > 2 ? argv[2] : "show";
    bool addr = ip_word_is(object, "address"), link = ip_word_is(object, "link"),
         route = ip_word_is(object, "route");
    bool add = strcmp(verb, "add") == 0, del = strcmp(verb, "del") == 0;
    if ((addr || link || route) && ip_word_is(verb, "show") && argc <= 5) {
        const char *name = argc > 3 ? argv[argc - 1] : NULL; // [dev] NAME
        return ip_print(sh, addr ? "addr" : link ? "link" : "route", name);
    }
    if (link && strcmp(verb, "set") == 0) {
        int at = argc > 3 && strcmp(argv[3], "dev") == 0 ? 4 : 3;
        if (argc == at + 2) {
            return ip_link_set(sh, argv[at], argv[at + 1]);
        }
    } else if (addr && (add || del) && argc == 6 && strcmp(argv[4], "dev") == 0) {
        return ip_addr_change(sh, add, argv[3], argv[5]);
    } else if (route && add && argc == 6 && strcmp(argv[3], "default") == 0 &&
               strcmp(argv[4], "via") == 0) {
        return ip_route_change(sh, true, argv[5]);
    } else if (route && del && argc == 4 && strcmp(argv[3], "default") == 0) {
        return ip_route_change(sh, false, NULL);
    }
    return shell_usage(sh, "cannot do that");
}

// ---- arp ----------------------------------------------------------------------------------------

static int arp_command(struct shell *sh, int argc, char **argv)
{
    bool numeric = argc == 2 && strcmp(argv[1], "-n") == 0; // there are no names anyway
    if (argc > 1 && !numeric) {
        return shell_usage(sh, "no arguments but -n");
    }
    shell_printf(
        sh, "Address                  HWtype  HWaddress           Flags Mask            Iface\n");
    for (unsigned k = 0; k < ARP_ENTRIES; k++) {
        struct arp_view v;
        if (!arp_entry(k, &v)) {
            continue;
        }
        char address[16], mac[20] = "(incomplete)";
        net_format_address(address, v.address);
        bool complete = v.state != ARP_INCOMPLETE;
        if (complete) {
            snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", v.mac[0], v.mac[1],
                     v.mac[2], v.mac[3], v.mac[4], v.mac[5]);
        }
        shell_printf(sh, "%-24s %-7s %-19s %-21s %s\n", address, complete ? "ether" : "", mac,
                     complete ? "C" : "", v.device);
    }
    return 0;
}

// ---- ping ---------------------------------------------------------------------------------------

enum { PING_TIMEOUT_MS = 4000, PING_INTERVAL_MS = 1000, PING_SIZE = 56, PING_SIZE_MAX = 65507 };

struct ping {
    uint32_t to;
    char name[16];
    uint32_t count; // 0: until ^C
    uint32_t size, interval_ms, wait_ms;
    bool quiet;
    uint32_t sent, received, errors;
    uint64_t least_us, most_us, sum_us, sum_of_squares;
};

// Microseconds as iputils prints milliseconds: three digits in all, as far as that goes.
static void ping_time(struct text *t, uint64_t us)
{
    unsigned long long ms = us / 1000;
    if (us >= 100000) {
        text_printf(t, "%llu", ms);
    } else if (us >= 10000) {
        text_printf(t, "%llu.%llu", ms, (unsigned long long)(us % 1000 / 100));
    } else if (us >= 1000) {
        text_printf(t, "%llu.%02llu", ms, (unsigned long long)(us % 1000 / 10));
    } else {
        text_printf(t, "0.%03llu", (unsigned long long)us);
    }
}

static uint64_t ping_square_root(uint64_t n)
{
    uint64_t root = 0;
    for (uint64_t bit = 1ull << 31; bit != 0; bit >>= 1) {
        if ((root + bit) * (root + bit) <= n) {
            root += bit;
        }
    }
    return root;
}

// False: stop, ^C was typed.
static bool ping_once(struct shell *sh, struct ping *p, uint16_t id, uint16_t sequence)
{
    struct icmp_answer answer = {0};
    p->sent++;
    int64_t ns = icmp_ping(p->to, id, sequence, p->size, p->wait_ms, &answer);
    if (ns >= 0) {
        uint64_t us = (uint64_t)ns / 1000;
        p->received++;
        p->least_us = p->received == 1 ? us : min(p->least_us, us);
        p->most_us = max(p->most_us, us);
        p->sum_us += us;
        p->sum_of_squares += us * us;
        if (!p->quiet) { // a line at a time: two pings may share the console
            char line[128];
            struct text t = TEXT_INIT(line);
            text_printf(&t, "%u bytes from %s: icmp_seq=%u ttl=%u time=", p->size + 8, p->name,
                        sequence, answer.ttl);
            ping_time(&t, us);
            text_puts(&t, " ms\n");
            shell_write(sh, t.data, t.length);
        }
        return true;
    }
    if (ns == -EINTR) {
        return false;
    }
    if (ns == -EHOSTUNREACH) {
        char from[16];
        p->errors++;
        net_format_address(from, answer.from);
        shell_printf(sh, "From %s icmp_seq=%u Destination Host Unreachable\n", from, sequence);
    } else if (ns != -ETIMEDOUT) {
        p->errors++;
        shell_printf(sh, "ping: sendmsg: %s\n", strerror((int)ns));
    }
    return true;
}

static void ping_summary(struct shell *sh, const struct ping *p, uint64_t elapsed_ms)
{
    char lines[512];
    struct text t = TEXT_INIT(lines);
    uint32_t lost = p->sent - p->received;
    text_printf(&t, "\n--- %s ping statistics ---\n%u packets transmitted, %u received, ", p->name,
                p->sent, p->received);
    if (p->errors != 0) {
        text_printf(&t, "+%u errors, ", p->errors);
    }
    text_printf(&t, "%u%% packet loss, time %llums\n",
                p->sent != 0 ? (uint32_t)((uint64_t)lost * 100 / p->sent) : 0,
                (unsigned long long)elapsed_ms);
    if (p->received != 0) {
        uint64_t mean = p->sum_us / p->received;
        uint64_t squares = p->sum_of_squares / p->received;
        uint64_t deviation = ping_square_root(squares > mean * mean ? squares - mean * mean : 0);
        const uint64_t values[] = {p->least_us, mean, p->most_us, deviation};
        text_puts(&t, "rtt min/avg/max/mdev = ");
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            text_printf(&t, "%s%llu.%03llu", i != 0 ? "/" : "",
                        (unsigned long long)(values[i] / 1000),
                        (unsigned long long)(values[i] % 1000));
        }
        text_puts(&t, " ms");
    }
    text_putc(&t, '\n');
    shell_write(sh, t.data, t.length);
}

// A number, and perhaps a fraction of a second: "1", "0.2". 0 or -EINVAL.
static int ping_parse_seconds(const char *s, uint32_t *ms)
{
    char whole[12];
    const char *dot = strchr(s, '.');
    size_t length = dot != NULL ? (size_t)(dot - s) : strlen(s);
    uint32_t seconds = 0, fraction = 0, scale = 100;
    if (length >= sizeof(whole) || (length == 0 && dot == NULL)) {
        return -EINVAL;
    }
    memcpy(whole, s, length);
    whole[length] = '\0';
    if ((length != 0 && kstrtou32(whole, 10, &seconds) != 0) || seconds > 3600) {
        return -EINVAL;
    }
    for (const char *d = dot != NULL ? dot + 1 : ""; *d != '\0'; d++, scale /= 10) {
        if (*d < '0' || *d > '9') {
            return -EINVAL;
        }
        fraction += (uint32_t)(*d - '0') * scale;
    }
    *ms = seconds * 1000 + fraction;
    return 0;
}

// 0, or the status of a usage error that was said.
static int ping_parse(struct shell *sh, int argc, char **argv, struct ping *p)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        char option = argv[i][1];
        if (option == 'q' && argv[i][2] == '\0') {
            p->quiet = true;
            continue;
        }
        if (option == '\0' || argv[i][2] != '\0' || strchr("csiW", option) == NULL ||
            i + 1 == argc) {
            return shell_usage(sh, "%s: not an option, or its number is missing", argv[i]);
        }
        const char *value = argv[++i];
        int error = option == 'c'   ? kstrtou32(value, 10, &p->count)
                    : option == 's' ? kstrtou32(value, 10, &p->size)
                    : option == 'i' ? ping_parse_seconds(value, &p->interval_ms)
                                    : ping_parse_seconds(value, &p->wait_ms);
        if (error != 0 || p->size > PING_SIZE_MAX || (option == 'c' && p->count == 0)) {
            return shell_usage(sh, "-%c %s: not a number in range", option, value);
        }
    }
    if (i + 1 != argc) {
        return shell_usage(sh, "one address is wanted");
    }
    if (parse_ipv4(argv[i], &p->to) != 0) {
        return shell_usage(sh, "%s: not an address, as in 10.0.2.2 (there are no names)", argv[i]);
    }
    return 0;
}

static int ping_command(struct shell *sh, int argc, char **argv)
{
    struct ping p = {
        .size = PING_SIZE, .interval_ms = PING_INTERVAL_MS, .wait_ms = PING_TIMEOUT_MS};
    int status = ping_parse(sh, argc, argv, &p);
    if (status != 0) {
        return status;
    }
    net_format_address(p.name, p.to);
    shell_printf(sh, "PING %s (%s) %u(%u) bytes of data.\n", p.name, p.name, p.size, p.size + 28);
    uint16_t id = (uint16_t)rdtsc();
    uint64_t start_ns = clock_ns();
    bool going = true;
    while (going && (p.count == 0 || p.sent < p.count) && !shell_interrupted(sh)) {
        uint64_t due_ns = clock_ns() + p.interval_ms * 1000000ull;
        going = ping_once(sh, &p, id, (uint16_t)(p.sent + 1));
        uint64_t now = clock_ns();
        if (going && due_ns > now && p.sent != p.count) {
            going = msleep_interruptible((uint32_t)((due_ns - now) / 1000000)) == 0;
        }
    }
    ping_summary(sh, &p, (clock_ns() - start_ns) / 1000000);
    return shell_interrupted(sh) ? 130
           : p.received != 0     ? 0
                                 : 1; // as iputils: one answer is enough
}

COMMAND("ip", ip_command,
        "ip [addr|link|route] [show] [DEV] | ip link set DEV up|down | ip addr add|del A.B.C.D/N "
        "dev DEV"
        " | ip route add default via A.B.C.D | ip route del default",
        "network cards, their addresses and routes");
COMMAND("arp", arp_command, "arp [-n]", "Ethernet addresses of neighbours");
COMMAND("ping", ping_command, "ping [-c COUNT] [-s SIZE] [-i SECONDS] [-W SECONDS] [-q] A.B.C.D",
        "ask a host for an echo, once a second until ^C");
