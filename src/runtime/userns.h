/* User namespaces: a pod's root is nobody's outside. Needs root. */
#ifndef TIDEMILL_RUNTIME_USERNS_H
#define TIDEMILL_RUNTIME_USERNS_H

#include <sys/types.h>

#include "base/base.h"

#define USERNS_IDS 65536 /* users and groups of one namespace: 0 to 65535 inside */

/* A descriptor of a new namespace in which user and group 0 are `base` outside, and so on. */
int userns_new(uid_t base);
/* Bound to a file at `path`, made if need be; it lives as long as that mount. */
int userns_pin(uid_t base, const char *path);

#endif
