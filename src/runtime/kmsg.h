/* What the kernel says when the machine (not one control group) is out of memory, as /dev/kmsg tells it. Pure. */
#ifndef TIDEMILL_RUNTIME_KMSG_H
#define TIDEMILL_RUNTIME_KMSG_H

#include <sys/types.h>

#include "base/base.h"

struct kmsg_victim {
    pid_t pid;
    char name[64]; /* of the process, as it calls itself; what does not print is '?' */
};
/* One record. False: it is about something else, or not from the kernel. */
bool kmsg_parse_oom(struct slice record, struct kmsg_victim *ret);

#endif
