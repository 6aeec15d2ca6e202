/* What is left of the gateway's rights once it serves. */
#ifndef TIDEMILL_GATEWAY_SANDBOX_PRIV_H
#define TIDEMILL_GATEWAY_SANDBOX_PRIV_H

#include <sys/types.h>

/* Started as root: becomes the user and group, without supplementary groups and capabilities (bounding set included). Otherwise, or with uid 0:
 * nothing. 0 or negative errno. */
int sandbox_drop_root(uid_t uid, gid_t gid);
/* no_new_privs and the system call filter: what is not on the list returns EPERM. Irrevocable. 0 or negative errno. */
int sandbox_enter(void);

#endif
