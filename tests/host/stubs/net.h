// The machine under kernel/net, for host tests: one card, the loopback device, a wire whose far end
// is the test, and time that moves when the test says so. Packets lie in memory of their own; what
// is beyond their data is poisoned, so that ASan sees a single byte read too far.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>

#include "../../../kernel/net/inet.h"

#define HOST_IP    0x0a00020fu // 10.0.2.15/24, gateway .2
#define HOST_PEER  0x0a000202u
#define HOST_OTHER 0x0a000203u
extern const uint8_t host_mac[ETH_ALEN], host_peer_mac[ETH_ALEN];
extern struct net_device host_eth;

// Starts kernel/net anew: the card is up, its address set unless `address` is 0.
void host_net_start(uint32_t address);
// Ends it and says how many packets were never freed.
unsigned host_net_end(void);

// A frame arrives at the card; lo's packets are run, too.
void host_receive(const void *frame, size_t length);

// Frames that left by the card, oldest first.
struct host_frame {
    uint8_t *data;
    size_t length;
};
unsigned host_sent(void);
const struct host_frame *host_frame(unsigned k);
void host_forget_sent(void);

// Time: jiffies and the clock move, timers and delayed work that come due run.
void host_pass(uint32_t ms);
extern bool host_no_memory; // packets cannot be had
// Called once when a thread would sleep, in place of whoever would wake it.
extern void (*host_while_asleep)(void);

// ---- frames to send: each returns its length ----------------------------------------------------

size_t host_eth_frame(uint8_t *frame, const uint8_t *to, uint16_t type, size_t payload);
size_t host_arp(uint8_t *frame, uint16_t operation, const uint8_t *mac, uint32_t sender,
                uint32_t target);
// An IP packet from the peer around `length` bytes that are already at frame + 34. Checksums are
// made.
size_t host_ip(uint8_t *frame, uint32_t source, uint32_t destination, uint8_t protocol,
               size_t length);
size_t host_udp(uint8_t *frame, uint32_t source, uint16_t source_port, uint32_t destination,
                uint16_t port, const void *data, size_t length);
size_t host_icmp(uint8_t *frame, uint32_t source, uint32_t destination, uint8_t type, uint8_t code,
                 uint32_t rest, const void *data, size_t length);
void host_fix_ip_checksum(uint8_t *frame);
// The peer says where it lives, in answer to nothing: as if it had asked for us.
void host_learn_peer(void);
// received == accepted + dropped.
bool host_balanced(void);
