/* Kubelet's rule: when more than the high threshold of the disk is used, images go until no more than the low one is. Beside it our own: with
 * DISK_FREE_BYTES_MIN or DISK_FREE_PERCENT_MIN left, builds lose their cache too. */
#include "core/disk_budget_priv.h"

#include <sys/statvfs.h>

struct disk_space disk_space_of(const char *path) {
    struct statvfs status;
    if (statvfs(path, &status) < 0)
        return (struct disk_space){.free = UINT64_MAX, .total = UINT64_MAX};
    return (struct disk_space){.free = (uint64_t)status.f_bavail * status.f_frsize, .total = (uint64_t)status.f_blocks * status.f_frsize};
}

bool disk_space_is_scarce(const struct disk_space *space) {
    return space->free < DISK_FREE_BYTES_MIN || space->free < space->total / 100 * DISK_FREE_PERCENT_MIN;
}

/* What is lacking until so many percent are used at most. */
static uint64_t beyond(const struct disk_space *space, unsigned percent) {
    uint64_t must_be_free = space->total / 100 * (100 - percent);
    return must_be_free > space->free ? must_be_free - space->free : 0;
}

uint64_t disk_budget_rest(const struct disk_budget *budget, const struct disk_space *space) {
    return beyond(space, budget->low_percent);
}

uint64_t disk_budget_excess(const struct disk_budget *budget, const struct disk_space *space) {
    bool exceeds = budget->high_percent < 100 && beyond(space, budget->high_percent) > 0;
    return exceeds ? disk_budget_rest(budget, space) : 0;
}

/* When space is scarce the cache may have but a part, or nothing at all. */
uint64_t disk_budget_cache(const struct disk_space *space) {
    uint64_t limit = MIN((uint64_t)BUILD_CACHE_BYTES_MAX, space->total / 100 * BUILD_CACHE_PERCENT_MAX);
    return space->free < DISK_FREE_BYTES_MIN ? 0 : disk_space_is_scarce(space) ? limit / 4 : limit;
}
