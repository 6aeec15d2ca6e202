/* What a control group may use, on v1 and v2.
 *
 * A limit that the kernel cannot keep (its controller is missing) is -ENOTSUP: whoever set it must know. A weight or a number of processes that it
 * cannot keep is no reason to run nothing. Formulas: kubelet's MilliCPUToShares; crun's and runc's linear shares → weight.
 *
 * Swap: a group with a memory limit gets none, as kubelet's NoSwap. v1 counts memory and swap together, and neither limit may pass the other on the
 * way: which one is written first depends on the direction, so the kernel's refusal (EINVAL) decides. Without swap accounting its files are missing,
 * and there is nothing to limit.
 *
 * Idle (cpu.idle, Linux 5.15) comes after the weight: an idle group's weight cannot be written. It has the least weight of the disks too, where a
 * scheduler heeds one. */
#include "runtime/cgroup_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

uint64_t cgroup_shares_of_milli(int64_t milli) {
    int64_t shares = MIN(milli, 1000000000) * 1024 / 1000;
    return (uint64_t)MIN(MAX(shares, CGROUP_SHARES_MIN), CGROUP_SHARES_MAX);
}
int64_t cgroup_quota_of_milli(int64_t milli) {
    return MAX(MIN(milli, 1000000000) * CGROUP_PERIOD_US / 1000, 1000);
}
uint64_t cgroup_weight_of_shares(uint64_t shares) {
    return shares < CGROUP_SHARES_MIN ? 1 : 1 + (shares - CGROUP_SHARES_MIN) * 9999 / (CGROUP_SHARES_MAX - CGROUP_SHARES_MIN);
}

static int unless_missing(int r) {
    return r == -ENOENT ? 0 : r;
}
static int or_unsupported(int r) {
    return r == -ENOENT ? -ENOTSUP : r;
}

/* --- v1 --- */

/* Into the file of a controller's hierarchy; -ENOENT without that hierarchy. */
static int write_v1(const struct cgroups *cgroups, const char *path, const char *controller, const char *file, int64_t value) {
    char folder[PATH_MAX], text[32];
    int tree = cgroup_tree_of(cgroups, controller);
    if (tree < 0)
        return -ENOENT;
    int r = cgroup_folder(cgroups, (size_t)tree, path, folder);
    snprintf(text, sizeof text, "%" PRId64, value);
    return r < 0 ? r : cgroup_write(folder, file, text);
}

static int limit_cpu_v1(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    int r = limits->cpu_shares ? unless_missing(write_v1(cgroups, path, "cpu", "cpu.shares", (int64_t)limits->cpu_shares)) : 0;
    if (r == -EINVAL && limits->idle)
        r = 0; /* it is idle already */
    if (r == 0 && limits->idle) {
        write_v1(cgroups, path, "cpu", "cpu.idle", 1);
        write_v1(cgroups, path, "blkio", "blkio.bfq.weight", 1);
    }
    if (r == 0 && limits->cpu_quota_us)
        r = write_v1(cgroups, path, "cpu", "cpu.cfs_period_us", CGROUP_PERIOD_US);
    if (r == 0 && limits->cpu_quota_us)
        r = write_v1(cgroups, path, "cpu", "cpu.cfs_quota_us", limits->cpu_quota_us);
    return limits->cpu_quota_us > 0 ? or_unsupported(r) : unless_missing(r);
}

static int limit_memory_v1(const struct cgroups *cgroups, const char *path, int64_t bytes) {
    static const char limit[] = "memory.limit_in_bytes", with_swap[] = "memory.memsw.limit_in_bytes";
    if (bytes == 0)
        return 0;
    int r = write_v1(cgroups, path, "memory", limit, bytes);
    if (r == -EINVAL && write_v1(cgroups, path, "memory", with_swap, bytes) == 0)
        r = write_v1(cgroups, path, "memory", limit, bytes);
    else if (r == 0)
        r = unless_missing(write_v1(cgroups, path, "memory", with_swap, bytes));
    return bytes > 0 ? or_unsupported(r) : unless_missing(r);
}

static int limit_hugepages_v1(const struct cgroups *cgroups, const char *path, const struct cgroup_hugepages *pages) {
    char file[64];
    snprintf(file, sizeof file, "hugetlb.%s.limit_in_bytes", pages->size);
    int r = write_v1(cgroups, path, "hugetlb", file, pages->bytes);
    return pages->bytes > 0 ? or_unsupported(r) : unless_missing(r);
}

static int limit_v1(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    int r = limit_cpu_v1(cgroups, path, limits);
    if (r == 0)
        r = limit_memory_v1(cgroups, path, limits->memory_bytes);
    for (size_t i = 0; r == 0 && i < limits->hugepages_count; i++)
        r = limit_hugepages_v1(cgroups, path, &limits->hugepages[i]);
    if (r == 0 && limits->pids)
        r = unless_missing(write_v1(cgroups, path, "pids", "pids.max", limits->pids));
    return r;
}

/* --- v2 --- */

static int write_v2(const char *folder, const char *file, int64_t value, const char *rest) {
    char text[64];
    if (value < 0)
        snprintf(text, sizeof text, "max%s", rest);
    else
        snprintf(text, sizeof text, "%" PRId64 "%s", value, rest);
    return cgroup_write(folder, file, text);
}

static int limit_cpu_v2(const char *folder, const struct cgroup_limits *limits) {
    char period[24];
    int r = 0;
    if (limits->cpu_shares)
        r = unless_missing(write_v2(folder, "cpu.weight", (int64_t)cgroup_weight_of_shares(limits->cpu_shares), ""));
    if (r == -EINVAL && limits->idle)
        r = 0;
    if (r == 0 && limits->idle) {
        cgroup_write(folder, "cpu.idle", "1");
        cgroup_write(folder, "io.weight", "1");
        cgroup_write(folder, "io.bfq.weight", "1");
    }
    if (r < 0 || !limits->cpu_quota_us)
        return r;
    snprintf(period, sizeof period, " %d", CGROUP_PERIOD_US);
    r = write_v2(folder, "cpu.max", limits->cpu_quota_us, period);
    return limits->cpu_quota_us > 0 ? or_unsupported(r) : unless_missing(r);
}

static int limit_memory_v2(const char *folder, const struct cgroup_limits *limits) {
    if (limits->kill_all)
        cgroup_write(folder, "memory.oom.group", "1");
    if (!limits->memory_bytes)
        return 0;
    int r = write_v2(folder, "memory.max", limits->memory_bytes, "");
    if (r == 0)
        r = unless_missing(write_v2(folder, "memory.swap.max", limits->memory_bytes > 0 ? 0 : CGROUP_UNLIMITED, ""));
    return limits->memory_bytes > 0 ? or_unsupported(r) : unless_missing(r);
}

static int limit_hugepages_v2(const char *folder, const struct cgroup_hugepages *pages) {
    char file[64];
    snprintf(file, sizeof file, "hugetlb.%s.max", pages->size);
    int r = write_v2(folder, file, pages->bytes, "");
    return pages->bytes > 0 ? or_unsupported(r) : unless_missing(r);
}

static int limit_v2(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    char folder[PATH_MAX];
    int r = cgroup_folder(cgroups, 0, path, folder);
    if (r == 0)
        r = limit_cpu_v2(folder, limits);
    if (r == 0)
        r = limit_memory_v2(folder, limits);
    for (size_t i = 0; r == 0 && i < limits->hugepages_count; i++)
        r = limit_hugepages_v2(folder, &limits->hugepages[i]);
    if (r == 0 && limits->pids)
        r = unless_missing(write_v2(folder, "pids.max", limits->pids, ""));
    return r;
}

int cgroup_limit(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    return cgroups->version == CGROUP_V2 ? limit_v2(cgroups, path, limits) : limit_v1(cgroups, path, limits);
}
