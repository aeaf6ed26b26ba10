// What the files of the network device class know of each other: netdev.c (the devices), napi.c
// (frames that arrive), netdev_tx.c (packets that leave).
#pragma once

#include <dev/netdev.h>

enum { NETDEV_WAIT_MS = 10000 }; // a poll, or a softirq, that lasts longer is a bug of ours

// Context: boot.
void napi_init(void);
void netdev_tx_init(void);

// netdev_tx.c, of one device: before it is listed; down, and nobody is sending on it any more, nor
// will be; the packets that wait are dropped. Context: thread.
void netdev_tx_setup(struct net_device *dev);
void netdev_tx_shut(struct net_device *dev);
void netdev_tx_drop(struct net_device *dev);
