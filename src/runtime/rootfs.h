/* A container's root file system: made safe before crun builds in it, and what crun built looked at before the first instruction runs. Needs root. */
#ifndef TIDEMILL_RUNTIME_ROOTFS_H
#define TIDEMILL_RUNTIME_ROOTFS_H

#include <sys/types.h>

#include "base/base.h"

/* rootfs: the mounted overlay, which nobody else can write to yet. Appends the configuration with the targets of bind mounts led through the image's
 * links, and makes the working directory when it is missing. -EPERM with diag when the image would lead a mount astray, -EINVAL when the
 * configuration asks for one that must not be. Blocks on the disk. */
int rootfs_prepare(const char *rootfs, struct slice config_json, struct buffer *out, struct diag *diag);
/* pid: a container that was created from this configuration and not started. -EPERM with diag when something is not as the configuration has it. */
int rootfs_verify(pid_t pid, struct slice config_json, struct diag *diag);

/* The machine's /dev/null is root's and everybody may use it, whatever crun has made of it: before the container runs, and when it cannot. */
void rootfs_take_null_back(void);

#endif
