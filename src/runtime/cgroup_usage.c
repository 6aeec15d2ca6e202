/* What a control group uses, from a table of files: one row per file, each of its lines that matters with the member it goes to. A file is read
 * once, into memory on the stack; what is missing leaves zero.
 *
 * The working set is the memory that cannot be taken back at once: usage without inactive file pages, as cAdvisor counts it. The counters of v1's
 * memory.stat without "total_" leave out the groups beneath. */
#include "runtime/cgroup_priv.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_BYTES 8192
#define KEYS_MAX 8
#define US 1000
#define TICK 10000000 /* USER_HZ is 100 wherever Linux runs */

struct key {
    const char *name; /* the line's first word; NULL: the file is one number */
    size_t offset;
    uint64_t unit;
};
struct source {
    const char *controller, *file;
    bool detail; /* only wanted with all */
    struct key keys[KEYS_MAX];
};
#define TO(member) offsetof(struct cgroup_usage, member)

static const struct source v1[] = {
    {"cpuacct", "cpuacct.usage", false, {{NULL, TO(cpu_ns), 1}}},
    {"memory", "memory.usage_in_bytes", false, {{NULL, TO(memory_usage), 1}}},
    {"memory",
     "memory.stat",
     false,
     {{"total_inactive_file", TO(inactive_file), 1},
      {"total_rss", TO(memory_rss), 1},
      {"total_cache", TO(memory_cache), 1},
      {"total_mapped_file", TO(memory_mapped), 1},
      {"total_swap", TO(memory_swap), 1},
      {"total_pgfault", TO(page_faults), 1},
      {"total_pgmajfault", TO(major_faults), 1}}},
    {"memory", "memory.oom_control", false, {{"oom_kill", TO(oom_kills), 1}}},
    {"pids", "pids.current", false, {{NULL, TO(pids), 1}}},
    {"cpuacct", "cpuacct.stat", true, {{"user", TO(cpu_user_ns), TICK}, {"system", TO(cpu_system_ns), TICK}}},
    {"cpu", "cpu.stat", true, {{"nr_periods", TO(periods), 1}, {"nr_throttled", TO(throttled_periods), 1}, {"throttled_time", TO(throttled_ns), 1}}},
    {"memory", "memory.max_usage_in_bytes", true, {{NULL, TO(memory_peak), 1}}},
    {"memory", "memory.failcnt", true, {{NULL, TO(memory_failures), 1}}},
};

static const struct source v2[] = {
    {NULL,
     "cpu.stat",
     false,
     {{"usage_usec", TO(cpu_ns), US},
      {"user_usec", TO(cpu_user_ns), US},
      {"system_usec", TO(cpu_system_ns), US},
      {"nr_periods", TO(periods), 1},
      {"nr_throttled", TO(throttled_periods), 1},
      {"throttled_usec", TO(throttled_ns), US}}},
    {NULL, "memory.current", false, {{NULL, TO(memory_usage), 1}}},
    {NULL,
     "memory.stat",
     false,
     {{"inactive_file", TO(inactive_file), 1},
      {"anon", TO(memory_rss), 1},
      {"file", TO(memory_cache), 1},
      {"file_mapped", TO(memory_mapped), 1},
      {"pgfault", TO(page_faults), 1},
      {"pgmajfault", TO(major_faults), 1}}},
    {NULL, "memory.events", false, {{"oom_kill", TO(oom_kills), 1}, {"max", TO(memory_failures), 1}}},
    {NULL, "pids.current", false, {{NULL, TO(pids), 1}}},
    {NULL, "memory.peak", true, {{NULL, TO(memory_peak), 1}}},
    {NULL, "memory.swap.current", true, {{NULL, TO(memory_swap), 1}}},
};

static void put(struct cgroup_usage *usage, const struct key *key, struct slice text) {
    uint64_t value;
    if (slice_parse_u64(slice_trim(text), UINT64_MAX / key->unit, &value) == 0)
        memcpy((char *)usage + key->offset, &(uint64_t){value * key->unit}, sizeof value);
}

static void take_line(struct cgroup_usage *usage, const struct source *source, struct slice line) {
    struct slice name = slice_cut(&line, ' ');
    for (size_t i = 0; i < KEYS_MAX && source->keys[i].name; i++)
        if (slice_is(name, source->keys[i].name))
            put(usage, &source->keys[i], line);
}

static void take(const struct cgroups *cgroups, const char *path, const struct source *source, struct cgroup_usage *usage) {
    char folder[PATH_MAX], file[PATH_MAX + 64], text[FILE_BYTES];
    int tree = source->controller ? cgroup_tree_of(cgroups, source->controller) : 0;
    if (tree < 0 || cgroup_folder(cgroups, (size_t)tree, path, folder) < 0)
        return;
    snprintf(file, sizeof file, "%s/%s", folder, source->file);
    CLEANUP(fd_closep) int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    struct slice rest = slice_make(text, (size_t)MAX(n, 0));
    if (n > 0 && !source->keys[0].name)
        return put(usage, &source->keys[0], slice_cut(&rest, '\n'));
    while (rest.len)
        take_line(usage, source, slice_cut(&rest, '\n'));
}

static void gather(const struct cgroups *cgroups, const char *path, bool detail, struct cgroup_usage *ret) {
    const struct source *sources = cgroups->version == CGROUP_V2 ? v2 : v1;
    size_t count = cgroups->version == CGROUP_V2 ? ARRAY_LEN(v2) : ARRAY_LEN(v1);
    *ret = (struct cgroup_usage){0};
    for (size_t i = 0; i < count; i++)
        if (detail || !sources[i].detail)
            take(cgroups, path, &sources[i], ret);
    ret->memory_bytes = ret->memory_usage > ret->inactive_file ? ret->memory_usage - ret->inactive_file : 0;
}

void cgroup_usage(const struct cgroups *cgroups, const char *path, struct cgroup_usage *ret) {
    gather(cgroups, path, false, ret);
}

void cgroup_usage_all(const struct cgroups *cgroups, const char *path, struct cgroup_usage *ret) {
    gather(cgroups, path, true, ret);
}

uint64_t cgroup_oom_kills(const struct cgroups *cgroups, const char *path) {
    const struct source *sources = cgroups->version == CGROUP_V2 ? v2 : v1;
    struct cgroup_usage usage = {0};
    for (size_t i = 0; i < (cgroups->version == CGROUP_V2 ? ARRAY_LEN(v2) : ARRAY_LEN(v1)); i++)
        if (sources[i].keys[0].name && strcmp(sources[i].keys[0].name, "oom_kill") == 0)
            take(cgroups, path, &sources[i], &usage);
    return usage.oom_kills;
}
