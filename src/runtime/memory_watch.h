/* Wakes up when memory is being used up, where the kernel tells: that of the machine, and that of a group with a limit. */
#ifndef TIDEMILL_RUNTIME_MEMORY_WATCH_H
#define TIDEMILL_RUNTIME_MEMORY_WATCH_H

#include "loop/loop.h"
#include "runtime/cgroup.h"

struct memory_watch;
/* group: "/x/pods", which need not be there; the path is copied. on_low may come without need: whoever gets it looks, and arms again. */
int memory_watch_new(struct loop *loop, const struct cgroups *cgroups, const char *group, void (*on_low)(void *userdata), void *userdata,
                     struct memory_watch **ret);
/* Wake when so much more than now is in use on the machine, or in the group. Replaces what was armed before. INT64_MAX: never mind. */
void memory_watch_arm(struct memory_watch *watch, int64_t more_bytes, int64_t group_more_bytes);
/* False: nothing wakes before it is used up, who wants to know has to look. (Stalls come when it is.) */
bool memory_watch_works(const struct memory_watch *watch);
/* What processes in the group may use together; 0: it has no limit. */
uint64_t memory_watch_limit(const struct cgroups *cgroups, const char *path);
void memory_watch_free(struct memory_watch *watch); /* NULL is fine */

#endif
