/* /metrics/cadvisor: what containers and pods use, in cAdvisor's names and with its labels, so that dashboards and rules written for clusters fit.
 *
 * One table of families; everything is measured once, then each family goes over all. A row of a container has its name, its id as cAdvisor's `name`
 * and its group as `id`; a row of the pod as a whole has neither container nor image. Files are as old as FILES_AGE_MS at most, when one is asked
 * that often (measure.c). */
#include "node/measure_priv.h"

#include <sys/statvfs.h>

#define FILES_AGE_MS 60000
#define LABELS_ARENA_BYTES_MAX (8 * MIB)

enum scope { OF_CONTAINER, OF_BOTH, OF_POD_TRAFFIC };

/* What a family's value is taken from. */
enum source { FROM_USAGE, FROM_TRAFFIC, FROM_LIMITS, FROM_UNIT, FROM_DISK };

struct family {
    const char *name, *type, *help;
    enum scope scope;
    enum source source;
    size_t offset;
    double unit;
    const char *more; /* further labels */
};

/* What is not in the group's counters. */
struct limits {
    uint64_t shares, period_us, quota_us, memory_bytes, swap_bytes;
};
struct facts {
    double started_s, now_s, processes;
};
struct disk {
    uint64_t used_bytes, inodes, limit_bytes;
};

#define USAGE(member, unit, ...) FROM_USAGE, offsetof(struct cgroup_usage, member), unit, __VA_ARGS__
#define TRAFFIC(member) OF_POD_TRAFFIC, FROM_TRAFFIC, offsetof(struct podnet_traffic, member), 1, "interface=\"eth0\","
#define LIMITS(member, unit) OF_CONTAINER, FROM_LIMITS, offsetof(struct limits, member), unit, ""
#define FACT(member) OF_CONTAINER, FROM_UNIT, offsetof(struct facts, member), 1, ""
#define DISK(member) OF_CONTAINER, FROM_DISK, offsetof(struct disk, member), 1, "device=\"overlay\","
#define NS 1e-9

static const struct family families[] = {
    {"container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", OF_BOTH, USAGE(cpu_ns, NS, "cpu=\"total\",")},
    {"container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", OF_CONTAINER, USAGE(cpu_user_ns, NS, "")},
    {"container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", OF_CONTAINER, USAGE(cpu_system_ns, NS, "")},
    {"container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", OF_CONTAINER, USAGE(periods, 1, "")},
    {"container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", OF_CONTAINER, USAGE(throttled_periods, 1, "")},
    {"container_cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been throttled.", OF_CONTAINER,
     USAGE(throttled_ns, NS, "")},
    {"container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed", OF_BOTH,
     USAGE(memory_usage, 1, "")},
    {"container_memory_working_set_bytes", "gauge", "Current working set in bytes.", OF_BOTH, USAGE(memory_bytes, 1, "")},
    {"container_memory_rss", "gauge", "Size of RSS in bytes.", OF_BOTH, USAGE(memory_rss, 1, "")},
    {"container_memory_cache", "gauge", "Number of bytes of page cache memory.", OF_BOTH, USAGE(memory_cache, 1, "")},
    {"container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", OF_CONTAINER, USAGE(memory_mapped, 1, "")},
    {"container_memory_swap", "gauge", "Container swap usage in bytes.", OF_CONTAINER, USAGE(memory_swap, 1, "")},
    {"container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", OF_CONTAINER, USAGE(memory_peak, 1, "")},
    {"container_memory_failcnt", "counter", "Number of memory usage hits limits", OF_CONTAINER, USAGE(memory_failures, 1, "")},
    {"container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.", OF_CONTAINER,
     USAGE(page_faults, 1, "failure_type=\"pgfault\",scope=\"container\",")},
    {"container_memory_failures_total", NULL, NULL, OF_CONTAINER, USAGE(major_faults, 1, "failure_type=\"pgmajfault\",scope=\"container\",")},
    {"container_oom_events_total", "counter", "Count of out of memory events observed for the container", OF_CONTAINER, USAGE(oom_kills, 1, "")},
    {"container_threads", "gauge", "Number of threads running inside the container", OF_CONTAINER, USAGE(pids, 1, "")},
    {"container_processes", "gauge", "Number of processes running inside the container.", FACT(processes)},
    {"container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", FACT(started_s)},
    {"container_last_seen", "gauge", "Last time a container was seen by the exporter", FACT(now_s)},
    {"container_spec_cpu_shares", "gauge", "CPU share of the container.", LIMITS(shares, 1)},
    {"container_spec_cpu_period", "gauge", "CPU period of the container.", LIMITS(period_us, 1)},
    {"container_spec_cpu_quota", "gauge", "CPU quota of the container.", LIMITS(quota_us, 1)},
    {"container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", LIMITS(memory_bytes, 1)},
    {"container_spec_memory_swap_limit_bytes", "gauge", "Memory swap limit for the container.", LIMITS(swap_bytes, 1)},
    {"container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem.", DISK(used_bytes)},
    {"container_fs_limit_bytes", "gauge", "Number of bytes that can be consumed by the container on this filesystem.", DISK(limit_bytes)},
    {"container_fs_inodes_total", "gauge", "Number of Inodes", DISK(inodes)},
    {"container_network_receive_bytes_total", "counter", "Cumulative count of bytes received", TRAFFIC(rx_bytes)},
    {"container_network_receive_packets_total", "counter", "Cumulative count of packets received", TRAFFIC(rx_packets)},
    {"container_network_receive_errors_total", "counter", "Cumulative count of errors encountered while receiving", TRAFFIC(rx_errors)},
    {"container_network_receive_packets_dropped_total", "counter", "Cumulative count of packets dropped while receiving", TRAFFIC(rx_dropped)},
    {"container_network_transmit_bytes_total", "counter", "Cumulative count of bytes transmitted", TRAFFIC(tx_bytes)},
    {"container_network_transmit_packets_total", "counter", "Cumulative count of packets transmitted", TRAFFIC(tx_packets)},
    {"container_network_transmit_errors_total", "counter", "Cumulative count of errors encountered while transmitting", TRAFFIC(tx_errors)},
    {"container_network_transmit_packets_dropped_total", "counter", "Cumulative count of packets dropped while transmitting", TRAFFIC(tx_dropped)},
};

struct row {
    const struct measure *measure;
    const char *labels;
    struct limits limits;
    struct facts facts;
    struct disk disk;
};

/* Among those asked for by name; all when none was. */
static bool is_wanted(const struct query *only, const char *name) {
    bool asked = false, found = false;
    for (size_t i = 0; i < only->count; i++) {
        bool is_name = slice_is(only->items[i].key, "name[]");
        asked = asked || is_name;
        found = found || (is_name && slice_is(only->items[i].value, name));
    }
    return found || !asked;
}

/* As a label's value. */
static const char *escaped(struct arena *arena, const char *text) {
    char *out = arena_alloc(arena, 2 * strlen(text) + 1), *at = out;
    for (; out && *text; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n')
            *at++ = '\\';
        *at++ = *text == '\n' ? 'n' : *text;
    }
    if (out)
        *at = 0;
    return out ? out : "";
}

static const char *labels_of(const struct measure *measure, struct arena *arena) {
    const struct pod *pod = measure->pod;
    const struct unit *unit = measure->unit;
    return arena_printf(arena, "container=\"%s\",id=\"%s%s%s\",image=\"%s\",name=\"%s\",namespace=\"%s\",pod=\"%s\"", unit ? unit->spec->name : "",
                        pod->group, unit ? "/" : "", unit ? unit->id : "", unit && unit->spec->image ? escaped(arena, unit->spec->image) : "",
                        unit ? unit->id : "", pod->namespace, pod->name);
}

static void count_process(void *userdata, __attribute__((unused)) pid_t pid) {
    (*(double *)userdata)++;
}

static void fill_unit(struct row *row, const struct statvfs *disk, int64_t now_ns) {
    const struct unit *unit = row->measure->unit;
    const struct node *node = unit->pod->node;
    struct cgroup_limits limits;
    char path[QOS_PATH_BYTES];
    qos_container_limits(unit, resize_actuated(unit), &limits);
    row->limits = (struct limits){.shares = limits.cpu_shares, .period_us = CGROUP_PERIOD_US};
    row->limits.quota_us = limits.cpu_quota_us > 0 ? (uint64_t)limits.cpu_quota_us : 0;
    row->limits.memory_bytes = row->limits.swap_bytes = limits.memory_bytes > 0 ? (uint64_t)limits.memory_bytes : 0;
    row->facts = (struct facts){.started_s = (double)unit->started_ns / 1e9, .now_s = (double)(now_ns / 1000000000)};
    qos_container_path(unit, path);
    cgroup_processes(&node->cgroups, path, count_process, &row->facts.processes);
    row->disk = (struct disk){.used_bytes = unit->disk_rootfs.bytes, .inodes = unit->disk_rootfs.entries};
    row->disk.limit_bytes = (uint64_t)disk->f_blocks * disk->f_frsize;
}

static bool has(const struct row *row, const struct family *family) {
    if (family->source == FROM_LIMITS && row->measure->unit) { /* without a quota there is none to tell, as cAdvisor */
        bool is_quota = family->offset == offsetof(struct limits, quota_us);
        return !is_quota || row->limits.quota_us;
    }
    if (family->scope == OF_POD_TRAFFIC)
        return !row->measure->unit && row->measure->has_traffic;
    return family->scope == OF_BOTH || row->measure->unit;
}

static double value_of(const struct row *row, const struct family *family) {
    const void *const sources[] = {[FROM_USAGE] = &row->measure->usage,
                                   [FROM_TRAFFIC] = &row->measure->traffic,
                                   [FROM_LIMITS] = &row->limits,
                                   [FROM_UNIT] = &row->facts,
                                   [FROM_DISK] = &row->disk};
    const char *at = (const char *)sources[family->source] + family->offset;
    double real;
    uint64_t whole;
    if (family->source == FROM_UNIT) {
        memcpy(&real, at, sizeof real);
        return real;
    }
    memcpy(&whole, at, sizeof whole);
    return (double)whole * family->unit;
}

static void put_family(struct buffer *out, const struct family *family, const struct row *rows, size_t count) {
    if (family->help)
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name, family->type);
    for (size_t i = 0; i < count; i++)
        if (has(&rows[i], family))
            buffer_printf(out, "%s{%s%s} %.17g\n", family->name, family->more, rows[i].labels, value_of(&rows[i], family));
}

/* Counting files costs most of all. */
static bool wants_files(const struct query *only) {
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (families[i].source == FROM_DISK && is_wanted(only, families[i].name))
            return true;
    return false;
}

static void put_machine(const struct node *node, struct buffer *out, bool failed) {
    buffer_printf(out,
                  "# HELP cadvisor_version_info A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor "
                  "version & cadvisor revision.\n# TYPE cadvisor_version_info gauge\ncadvisor_version_info{cadvisorVersion=\"tidemill-%s\"} 1\n"
                  "# HELP machine_cpu_cores Number of logical CPU cores.\n# TYPE machine_cpu_cores gauge\nmachine_cpu_cores{node=\"%s\"} %" PRId64
                  "\n# HELP machine_memory_bytes Amount of memory installed on the machine.\n# TYPE machine_memory_bytes "
                  "gauge\nmachine_memory_bytes{node=\"%s\"} %" PRId64
                  "\n# HELP container_scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n"
                  "# TYPE container_scrape_error gauge\ncontainer_scrape_error %d\n",
                  TIDEMILL_VERSION, node->options->node_name, allocatable_cpu_milli() / 1000, node->options->node_name, allocatable_machine_memory(),
                  failed);
}

int cadvisor_format(struct node *node, const struct query *only, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(LABELS_ARENA_BYTES_MAX);
    struct measures measures = {0};
    struct statvfs disk = {0};
    if (wants_files(only))
        (void)measure_files(node, FILES_AGE_MS, NULL);
    int r = arena ? measure_all(node, true, &measures) : -ENOMEM;
    struct row *rows = r == 0 ? ARENA_ARRAY(arena, struct row, measures.count + 1) : NULL;
    statvfs(node->state_dir, &disk);
    for (size_t i = 0; rows && i < measures.count; i++) {
        rows[i] = (struct row){.measure = &measures.items[i], .labels = labels_of(&measures.items[i], arena)};
        if (!rows[i].labels)
            rows = NULL;
        else if (measures.items[i].unit)
            fill_unit(&rows[i], &disk, loop_wall_ns(node->loop));
    }
    for (size_t i = 0; rows && i < ARRAY_LEN(families); i++)
        if (is_wanted(only, families[i].name))
            put_family(out, &families[i], rows, measures.count);
    if (is_wanted(only, "machine_memory_bytes"))
        put_machine(node, out, !rows);
    VECTOR_DEINIT(&measures);
    return buffer_error(out);
}
