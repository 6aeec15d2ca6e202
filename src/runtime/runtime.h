/* Containers: images out of the content store, root file systems, crun under conmon, cgroups, logs, probes. One include for all; README.md has the
 * reading order. An engine: takes paths and a loop, neither logs nor knows the Kubernetes API. Needs root for all but the pure parts. */
#ifndef TIDEMILL_RUNTIME_H
#define TIDEMILL_RUNTIME_H

#include "runtime/backoff.h"
#include "runtime/bundle.h"
#include "runtime/cgroup.h"
#include "runtime/cgroup_door.h"
#include "runtime/container.h"
#include "runtime/crilog.h"
#include "runtime/exec.h"
#include "runtime/image.h"
#include "runtime/kmsg.h"
#include "runtime/layer.h"
#include "runtime/logread.h"
#include "runtime/memory_watch.h"
#include "runtime/mounts.h"
#include "runtime/pidns.h"
#include "runtime/probe.h"
#include "runtime/rootfs.h"
#include "runtime/seccomp.h"
#include "runtime/sweep.h"
#include "runtime/userns.h"

#endif
