/* How much of the disk the platform's own things may take. Without I/O but for the measuring itself. */
#ifndef TIDEMILL_CORE_DISK_BUDGET_PRIV_H
#define TIDEMILL_CORE_DISK_BUDGET_PRIV_H

#include "base/base.h"

struct disk_budget {
    unsigned high_percent, low_percent; /* images go from the one on, until the other is reached; 100: never */
    int64_t age_ns_min;                 /* of an image, before it goes */
};
struct disk_space {
    uint64_t free, total;
};
/* Of the file system of that folder; all there is when it cannot be told. */
struct disk_space disk_space_of(const char *path);
/* Everything dispensable has to go at once. */
bool disk_space_is_scarce(const struct disk_space *space);
/* How many bytes of images have to go; 0: none. */
uint64_t disk_budget_excess(const struct disk_budget *budget, const struct disk_space *space);
/* What of it remains to be freed once one has begun; 0: enough is free. */
uint64_t disk_budget_rest(const struct disk_budget *budget, const struct disk_space *space);
/* What builds may keep to be faster. */
uint64_t disk_budget_cache(const struct disk_space *space);

#endif
