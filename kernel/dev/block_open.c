// Disks whose medium can be exchanged: who has it open, and what then is in it.
//
//   openers   0 ──blk_open──> 1 ──> 2 ...     the driver looks what lies in the drive (ops->open)
//             ^                     │
//             └──── blk_close ──────┘         reads go to that medium and to no other
//                     │
//                     └─ exchanged meanwhile: medium_lost; every read fails until all have closed
//
// So nobody takes bytes of one disc for those of another. Of a disk that is always the same nothing
// is counted.
//
// Context: thread. Previous: kernel/fs/devfs.c. Next: drivers/block/ata/cdrom.c.
#include <lib/errno.h>
#include <core/panic.h>
#include <dev/block.h>

#include "block_internal.h"
#include "page_cache_internal.h"

int blk_open(struct gendisk *disk)
{
    might_sleep();
    struct gendisk *whole = blk_whole(disk);
    int error = 0;
    if (whole->ops->open == NULL) {
        return 0;
    }
    if (mutex_lock_interruptible(&whole->open_mutex) != 0) { // who has it may wait for the drive
        return -EINTR;
    }
    if (whole->openers == 0) {
        page_cache_forget(whole); // of the medium before
        WRITE_ONCE(whole->medium_lost, 0);
        error = whole->ops->open(whole);
        if (error != 0) {
            WRITE_ONCE(whole->capacity, 0);
        }
    } else if (READ_ONCE(whole->medium_lost) != 0) {
        error = -EBUSY;
    }
    whole->openers += error == 0;
    mutex_unlock(&whole->open_mutex);
    return error;
}

void blk_close(struct gendisk *disk)
{
    might_sleep();
    struct gendisk *whole = blk_whole(disk);
    if (whole->ops->open == NULL) {
        return;
    }
    mutex_lock(&whole->open_mutex);
    if (!WARN_ON(whole->openers == 0)) {
        whole->openers--;
    }
    mutex_unlock(&whole->open_mutex);
}
