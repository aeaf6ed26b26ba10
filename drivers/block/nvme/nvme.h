// The NVMe driver's own structures: a controller with an admin queue and an I/O queue for each CPU,
// and namespaces, which are disks.
//
//   nvme_pci.c      finds the controller on the PCI bus, asks for its vectors      thread
//   nvme.c          the controller: enable, namespaces, stop                       thread
//   nvme_pair.c     its pairs of queues: memory, creation, messages                thread
//   nvme_admin.c    commands to the controller itself, and its events              thread; hard irq
//   nvme_data.c     a request's memory as a data pointer                           any
//   nvme_disk.c     a namespace as a disk: submit, top half, reap                  any; hard irq;
//                                                                                  softirq
//   nvme_recover.c  time-outs, and resets of the controller                        work items
//   nvme_proc.c     /proc/driver/nvme, boot options                                thread
//   nvme_lab.c      one read, step by step                                         thread
//   nvme_queue.c, nvme_prp.c, nvme_cmd.c   rings, data pointers, Identify: pure
#pragma once

#include <contract/device.h>
#include <core/io.h>
#include <core/spinlock.h>
#include <lib/cpumask.h>
#include <irq/irq.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <dev/block.h>

#include "nvme_cmd.h"
#include "nvme_prp.h"
#include "nvme_queue.h"

enum {
    NVME_MAX_QUEUES = 64, // of I/O, without the admin queue
    NVME_MAX_NAMESPACES = 16,
    NVME_ADMIN_DEPTH = 16,
    NVME_LISTS = 32, // lists of a queue: requests of many pieces or pages under way at a time
    NVME_SGL_THRESHOLD =
        32 << 10,             // bytes of a piece from which on SGLs are used where there are any
    NVME_MAX_BYTES = 1 << 20, // of one command, where the controller allows it
    NVME_TIMEOUT_MS = 10000,  // of a request, unless nvme.timeout says otherwise
    NVME_ADMIN_TIMEOUT_MS = 5000,
    NVME_MAX_TRIES = 3,  // of a request that was under way in a reset
    NVME_MAX_RESETS = 3, // in a row without success
    NVME_NO_LIST = 0xff,

    NVME_TAG_EVENT = 0, // of the admin queue: the event request, which waits there for good
    NVME_TAG_COMMAND,   // the command that somebody waits for
    NVME_ADMIN_TAGS,
};

enum nvme_state {
    NVME_STARTING,
    NVME_LIVE,
    NVME_RESETTING, // nvme_recover.c has it; the disks' queues are quiesced
    NVME_DEAD,      // did not come back: everything gets -EIO
};

struct nvme_ctrl;
struct nvme_ns;
struct nvme_stamps;

// What we know of a command that is out. Of whoever has the request's tag.
struct nvme_slot {
    struct request *request;
    uint8_t list;  // number of its PRP list or SGL, or NVME_NO_LIST
    bool aborting; // L by reset_mutex: an Abort was sent for it
};

struct nvme_done { // an answer, taken from the queue
    uint16_t tag, status;
};

struct nvme_counters {
    uint64_t commands, doorbells;        // sq_lock
    uint64_t sgls;                       // A: commands whose data an SGL describes
    uint64_t answers[NVME_ANSWER_KINDS]; // cq_lock
    uint64_t busy;                       // sq_lock: turned away for want of a list
    uint64_t interrupts, empty;          // A, without care: handler's calls; found nothing
    uint64_t lost_interrupts;            // A
};

// A pair of queues. Pair 0 is the admin's.
//
// A tag is a place in `slots` and `tags`. The block layer deals tags for each disk; those of the
// k-th namespace begin at k * ctrl->tags_per_ns, so that no two commands in a queue share one.
struct nvme_queue {
    struct nvme_ctrl *ctrl;                           // I
    struct nvme_ring ring;                            // sq_lock: tail; cq_lock: head, phase
    struct nvme_tags tags;                            // see nvme_queue.h
    volatile void __iomem *sq_doorbell, *cq_doorbell; // I
    struct spinlock sq_lock, cq_lock;                 // both taken with interrupts off
    struct nvme_slot *slots;                          // I
    struct blk_mq_hw_ctx *hctx;       // I while its handler is requested: reaped for all namespaces
    uint8_t *lists;                   // I: NVME_LISTS pages, coherent
    uint8_t free_lists[NVME_LISTS];   // sq_lock: a stack
    uint8_t free_list_count;          // sq_lock
    bool starved;                     // sq_lock: somebody waits for a list
    bool running;                     // cq_lock: answers are for us
    unsigned vector;                  // I: its index among the controller's
    int irq;                          // I: -1 when not requested
    char irq_name[16];                // I: "nvme0q1"
    struct cpumask cpus;              // I: those that submit here
    struct nvme_done done[BLK_BATCH]; // of the one CPU that reaps
    struct nvme_counters counters;
    struct nvme_stamps *stamps;           // A: of a lab that watches; else NULL
    void *sq, *cq;                        // I: coherent
    dma_addr_t sq_bus, cq_bus, lists_bus; // I
};

// A namespace is a disk.
struct nvme_ns {
    struct nvme_ctrl *ctrl;    // I
    uint32_t nsid;             // I
    unsigned instance;         // I: the 1 of nvme0n1
    unsigned index;            // I: among those that are driven
    uint16_t first_tag;        // I: of its requests in each queue
    uint8_t shift;             // I: from sectors to blocks
    struct nvme_format format; // I
    struct gendisk *disk;      // I
};

struct nvme_ctrl {
    struct device *dev;               // I
    volatile void __iomem *registers; // I
    unsigned number;                  // I: 0 is nvme0
    char name[12];                    // I
    uint64_t cap;                     // I
    uint32_t version;                 // I
    unsigned vector_count;            // I: of the bus: 1: all queues share it
    bool level; // I: the one vector is a wire: it must be masked while we poll
    int (*vector_irq)(struct nvme_ctrl *ctrl, unsigned index); // I: of the bus
    void (*dma_off)(struct nvme_ctrl *ctrl);         // I: takes the right to touch memory away
    struct nvme_identity identity;                   // I
    uint32_t max_bytes;                              // I: of one command
    uint16_t depth;                                  // I: entries of each I/O queue
    uint16_t tags_per_ns;                            // I
    unsigned queue_count;                            // I: I/O queues
    struct nvme_queue *admin;                        // I
    struct nvme_queue *queues[NVME_MAX_QUEUES];      // I
    unsigned ns_count;                               // I
    struct nvme_ns *namespaces[NVME_MAX_NAMESPACES]; // I

    uint32_t state;           // A: enum nvme_state
    bool stopping;            // A: the driver is being removed: no reset begins any more
    bool stuck;               // I after the probe: the device keeps our memory, and *ctrl must stay
    struct mutex admin_mutex; // one command at a time
    struct completion admin_done;
    struct nvme_cqe admin_answer; // of whoever holds admin_mutex, after admin_done
    uint8_t *page;                // L by admin_mutex: what Identify and logs are written to
    dma_addr_t page_bus;          // I
    uint32_t event;               // A: the event that the handler took
    uint64_t events;              // of the event work

    struct mutex reset_mutex; // one reset at a time
    struct work_struct reset, event_work, kick;
    struct timer_list watchdog;        // looks at CSTS each second
    uint64_t resets, timeouts, aborts; // L by reset_mutex
    uint64_t failed;                   // A: requests that ended with an error
    struct list_head link;             // L of nvme_proc.c's list
};

static inline uint32_t nvme_rd(const struct nvme_ctrl *ctrl, enum nvme_register reg)
{
    return readl((const volatile uint8_t __iomem *)ctrl->registers + reg);
}

static inline void nvme_wr(struct nvme_ctrl *ctrl, enum nvme_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)ctrl->registers + reg);
}

// 64-bit registers may be read and written as two halves, the lower first (3.1).
static inline uint64_t nvme_rd64(const struct nvme_ctrl *ctrl, enum nvme_register reg)
{
    const volatile uint8_t __iomem *at = (const volatile uint8_t __iomem *)ctrl->registers + reg;
    uint32_t low = readl(at);
    return low | (uint64_t)readl(at + 4) << 32;
}

static inline void nvme_wr64(struct nvme_ctrl *ctrl, enum nvme_register reg, uint64_t value)
{
    volatile uint8_t __iomem *at = (volatile uint8_t __iomem *)ctrl->registers + reg;
    writel((uint32_t)value, at);
    writel((uint32_t)(value >> 32), at + 4);
}

static inline enum nvme_state nvme_state(const struct nvme_ctrl *ctrl)
{
    return (enum nvme_state)__atomic_load_n(&ctrl->state, __ATOMIC_ACQUIRE);
}

// When which step of a read was, in time stamps: nvme_lab.c hangs one on a queue and watches.
struct nvme_stamps {
    uint64_t written, doorbell, interrupt, reaped, head_doorbell;
};
#define nvme_stamp(queue, step)                                   \
    do {                                                          \
        struct nvme_stamps *stamps_ = READ_ONCE((queue)->stamps); \
        if (unlikely(stamps_ != NULL)) {                          \
            stamps_->step = rdtsc();                              \
        }                                                         \
    } while (0)

extern uint32_t nvme_timeout_ms;            // I: boot option nvme.timeout
extern uint32_t nvme_depth;                 // I: boot option nvme.depth
extern uint32_t nvme_max_queues;            // I: boot option nvme.queues
extern uint32_t nvme_sgl_threshold;         // I: boot option nvme.sgl_threshold
extern enum blk_completion nvme_completion; // I: boot option nvme.completion

// nvme.c. Context: thread. Takes the controller over and publishes its namespaces. 0 or -errno, and
// then nothing is left behind.
int nvme_start(struct nvme_ctrl *ctrl, size_t registers_size);
// Gives everything back. False: something never came back, and *ctrl must stay for it.
bool nvme_stop(struct nvme_ctrl *ctrl);
int nvme_enable(struct nvme_ctrl *ctrl);  // empty admin queue, CC.EN, RDY; 0, -EIO, -ETIMEDOUT
int nvme_disable(struct nvme_ctrl *ctrl); // touches no memory any more; 0, -EIO, -ETIMEDOUT
bool nvme_is_gone(uint32_t csts);         // all ones: nothing answers there

// nvme_pair.c. Context: thread. A pair's memory; NULL: there is none.
struct nvme_queue *nvme_alloc_queue(struct nvme_ctrl *ctrl, uint16_t id, uint16_t depth,
                                    uint16_t tags);
void nvme_free_queue(struct nvme_queue *queue); // the controller is disabled
void nvme_open_queue(struct nvme_queue *queue); // empties it; the controller is disabled
int nvme_alloc_queues(struct nvme_ctrl *ctrl);  // the I/O pairs, fewer where memory is short
int nvme_create_queues(struct nvme_ctrl *ctrl); // in the controller, as they were; 0 or -errno
int nvme_request_irq(struct nvme_queue *queue); // its message, or the one that all share
void nvme_free_irq(struct nvme_queue *queue);

// nvme_admin.c. Context: thread. Runs the command and waits for it; *result may be NULL. 0; -EIO
// (said in the log), -ETIMEDOUT.
int nvme_admin(struct nvme_ctrl *ctrl, struct nvme_sqe *command, uint32_t *result,
               uint32_t timeout_ms);
int nvme_identify_controller(struct nvme_ctrl *ctrl, struct nvme_identity *identity,
                             const char **why);
int nvme_identify_namespace(struct nvme_ctrl *ctrl, uint32_t nsid, struct nvme_format *format,
                            const char **why);
// Up to `room` namespaces that are there, in order. How many, or -errno.
int nvme_list_namespaces(struct nvme_ctrl *ctrl, uint32_t *nsids, unsigned room);
int nvme_set_queue_count(struct nvme_ctrl *ctrl, unsigned wanted, unsigned *got);
int nvme_abort(struct nvme_ctrl *ctrl, uint16_t sq, uint16_t cid, bool *aborted);
// The controller is disabled: it will answer none of the commands that are out.
void nvme_admin_cancel(struct nvme_ctrl *ctrl);
irqreturn_t nvme_admin_interrupt(int irq, void *dev_id);
void nvme_event_arm(struct nvme_ctrl *ctrl); // lets the controller tell of events
void nvme_event_work(struct work_struct *work);

// nvme_data.c. Maps a request's memory and points the command at it: any number of pieces, of any
// size. 0; -EBUSY: no list just now, nvme_kick_work comes; -ENOMEM, -EINVAL. Context: as queue_rq.
int nvme_data_map(struct nvme_queue *queue, uint16_t tag, struct request *request,
                  struct nvme_io *io);
void nvme_data_give_list(struct nvme_queue *queue, struct nvme_slot *slot);
void nvme_kick_work(struct work_struct *work);

// nvme_disk.c
int nvme_ns_create(struct nvme_ctrl *ctrl, uint32_t nsid, unsigned instance,
                   const struct nvme_format *format);
int nvme_ns_publish(struct nvme_ns *ns);
bool nvme_ns_remove(struct nvme_ns *ns); // false: requests never came back
irqreturn_t nvme_interrupt(int irq, void *dev_id);
void nvme_slot_release(struct nvme_queue *queue, uint16_t tag); // unmaps, gives the list back
uint16_t nvme_request_tag(const struct nvme_ns *ns, const struct request *request);

// nvme_recover.c
enum blk_eh_timer_return nvme_timeout(struct request *request);
void nvme_reset_work(struct work_struct *work);
void nvme_watch(struct timer_list *timer);

// nvme_proc.c
void nvme_list_add(struct nvme_ctrl *ctrl); // gives it its number and name
void nvme_list_remove(struct nvme_ctrl *ctrl);
struct nvme_ctrl *nvme_list_lock(const char *disk); // the controller of this disk, held; NULL
void nvme_list_unlock(void);
