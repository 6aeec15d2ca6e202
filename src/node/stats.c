/* What pods and the machine use, in the form of kubelet's /stats/summary; core makes metrics.k8s.io (kubectl top) of it.
 *
 * Nothing is measured while nobody asks. A rate needs two samples: each container keeps the last two that were at least WINDOW_NS apart, and the
 * first answer about it covers its whole life so far. So a rate is always of a window between WINDOW_NS and the time since one last asked, and the
 * window is told ("time" and "windowSeconds" beside kubelet's fields). */
#include <sys/statvfs.h>
#include <unistd.h>

#include "node/measure_priv.h"
#include "sys/sys.h"

#define WINDOW_NS (10 * INT64_C(1000000000))
#define PROC_BYTES_MAX (256 * KIB) /* /proc/stat has a number for each interrupt */

/* Cores in billionths since a sample that is old enough; 0 when there is none. */
static uint64_t rate_of(struct stats_window *window, uint64_t cpu_ns, int64_t now_ns, int64_t born_ns, int64_t *ret_window_ns) {
    if (!window->newer.at_ns)
        window->older = window->newer = (struct stats_sample){.at_ns = born_ns};
    if (now_ns - window->newer.at_ns >= WINDOW_NS) {
        window->older = window->newer;
        window->newer = (struct stats_sample){.at_ns = now_ns, .cpu_ns = cpu_ns};
    }
    *ret_window_ns = MAX(now_ns - window->older.at_ns, 1);
    if (cpu_ns < window->older.cpu_ns)
        return 0;
    return (uint64_t)((double)(cpu_ns - window->older.cpu_ns) * 1e9 / (double)*ret_window_ns);
}

struct reading {
    uint64_t cpu_ns, nano_cores;
    int64_t window_ns;
    struct cgroup_usage memory;
    uint64_t available; /* what is left up to the limit; 0: not known */
};

static void put_time(struct buffer *out, const char *time) {
    buffer_printf(out, "{\"time\":\"%s\"", time);
}

static void put_reading(struct buffer *out, const struct reading *reading, const char *time) {
    const struct cgroup_usage *memory = &reading->memory;
    buffer_printf(out, "\"cpu\":{\"time\":\"%s\",\"usageNanoCores\":%" PRIu64 ",\"usageCoreNanoSeconds\":%" PRIu64 ",\"windowSeconds\":%.3f},", time,
                  reading->nano_cores, reading->cpu_ns, (double)reading->window_ns / 1e9);
    buffer_append_text(out, "\"memory\":");
    put_time(out, time);
    if (reading->available)
        buffer_printf(out, ",\"availableBytes\":%" PRIu64, reading->available);
    buffer_printf(out,
                  ",\"usageBytes\":%" PRIu64 ",\"workingSetBytes\":%" PRIu64 ",\"rssBytes\":%" PRIu64 ",\"pageFaults\":%" PRIu64
                  ",\"majorPageFaults\":%" PRIu64 "}",
                  memory->memory_usage, memory->memory_bytes, memory->memory_rss, memory->page_faults, memory->major_faults);
}

static void put_start(struct buffer *out, int64_t started_ns) {
    char text[TIMESTAMP_BYTES];
    timestamp_format(started_ns, text);
    buffer_printf(out, "\"startTime\":\"%s\",", text);
}

/* What one answer is made with. */
struct summary {
    struct node *node;
    struct buffer *out;
    bool brief; /* CPU and memory only */
    int64_t now_ns;
    char time[TIMESTAMP_BYTES];
    struct statvfs disk;
};

/* Room on the disk, and what of it is this one's. */
static void put_disk(const struct summary *summary, const char *name, uint64_t used_bytes, uint64_t used_inodes) {
    const struct statvfs *disk = &summary->disk;
    buffer_printf(summary->out, "\"%s\":", name);
    put_time(summary->out, summary->time);
    buffer_printf(summary->out,
                  ",\"availableBytes\":%" PRIu64 ",\"capacityBytes\":%" PRIu64 ",\"usedBytes\":%" PRIu64 ",\"inodesFree\":%" PRIu64
                  ",\"inodes\":%" PRIu64 ",\"inodesUsed\":%" PRIu64 "}",
                  (uint64_t)disk->f_bavail * disk->f_frsize, (uint64_t)disk->f_blocks * disk->f_frsize, used_bytes, (uint64_t)disk->f_favail,
                  (uint64_t)disk->f_files, used_inodes);
}

/* --- pods --- */

static void put_unit(const struct summary *summary, const struct measure *measure) {
    struct unit *unit = measure->unit;
    struct buffer *out = summary->out;
    struct reading reading = {.cpu_ns = measure->usage.cpu_ns, .memory = measure->usage};
    uint64_t limit = (uint64_t)MAX(kube_quantity_milli(&resize_actuated(unit)->limits, "memory", 0) / 1000, 0);
    reading.available = limit > measure->usage.memory_bytes ? limit - measure->usage.memory_bytes : 0;
    if (strcmp(unit->stats_id, unit->id) != 0) { /* another run: its counters began at zero */
        memcpy(unit->stats_id, unit->id, sizeof unit->stats_id);
        unit->stats = (struct stats_window){.newer = {0}};
    }
    reading.nano_cores = rate_of(&unit->stats, reading.cpu_ns, summary->now_ns, unit->started_ns, &reading.window_ns);
    unit->nano_cores = reading.nano_cores;
    unit->window_ns = reading.window_ns;
    buffer_append_text(out, "{\"name\":");
    json_format_string(out, slice_of(unit->spec->name));
    buffer_append_byte(out, ',');
    put_start(out, unit->started_ns);
    put_reading(out, &reading, summary->time);
    if (!summary->brief) {
        buffer_append_byte(out, ',');
        put_disk(summary, "rootfs", unit->disk_rootfs.bytes, unit->disk_rootfs.entries);
        buffer_append_byte(out, ',');
        put_disk(summary, "logs", unit->disk_logs.bytes, unit->disk_logs.entries);
    }
    buffer_append_byte(out, '}');
}

static void put_traffic(const struct summary *summary, const struct podnet_traffic *traffic) {
    char counters[400];
    snprintf(counters, sizeof counters,
             "\"name\":\"eth0\",\"rxBytes\":%" PRIu64 ",\"rxErrors\":%" PRIu64 ",\"txBytes\":%" PRIu64 ",\"txErrors\":%" PRIu64, traffic->rx_bytes,
             traffic->rx_errors, traffic->tx_bytes, traffic->tx_errors);
    buffer_append_text(summary->out, ",\"network\":");
    put_time(summary->out, summary->time);
    buffer_printf(summary->out, ",%s,\"interfaces\":[{%s}]}", counters, counters);
}

/* A claim is told with the room of the file system that it is on, which may be another than ours. */
static void put_claim(const struct summary *summary, const struct pod *pod, const struct kube_volume *volume) {
    char path[PATH_MAX], claim[PERSISTENT_CLAIM_BYTES];
    struct statvfs disk;
    if (!persistent_claim_text(pod, volume, claim) || !persistent_path(pod, volume, path) || statvfs(path, &disk) < 0)
        return;
    buffer_printf(summary->out,
                  ",\"availableBytes\":%" PRIu64 ",\"capacityBytes\":%" PRIu64 ",\"inodesFree\":%" PRIu64 ",\"inodes\":%" PRIu64
                  ",\"pvcRef\":{\"name\":\"%s\",\"namespace\":\"%s\"}",
                  (uint64_t)disk.f_bavail * disk.f_frsize, (uint64_t)disk.f_blocks * disk.f_frsize, (uint64_t)disk.f_favail, (uint64_t)disk.f_files,
                  claim, pod->namespace);
}

static void put_files(const struct summary *summary, const struct pod *pod) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    struct sys_usage sum = {0, 0};
    bool first = true;
    for (size_t i = 0; i < pod->units_count; i++) {
        sum.bytes += pod->units[i]->disk_rootfs.bytes + pod->units[i]->disk_logs.bytes;
        sum.entries += pod->units[i]->disk_rootfs.entries + pod->units[i]->disk_logs.entries;
    }
    buffer_append_text(summary->out, ",\"volume\":[");
    for (size_t i = 0; pod->disk_volumes && i < volumes->count; i++) {
        const struct kube_volume *volume = &volumes->items[i];
        bool is_own = storage_is_empty_dir_on_disk(volume);
        if (!is_own && !volume->persistent_volume_claim && !volume->ephemeral)
            continue;
        sum.bytes += is_own ? pod->disk_volumes[i].bytes : 0;
        sum.entries += is_own ? pod->disk_volumes[i].entries : 0;
        buffer_printf(summary->out, "%s{\"time\":\"%s\",\"usedBytes\":%" PRIu64 ",\"inodesUsed\":%" PRIu64 ",\"name\":\"%s\"", first ? "" : ",",
                      summary->time, pod->disk_volumes[i].bytes, pod->disk_volumes[i].entries, volume->name);
        put_claim(summary, pod, volume);
        buffer_append_byte(summary->out, '}');
        first = false;
    }
    buffer_append_text(summary->out, "],");
    put_disk(summary, "ephemeral-storage", sum.bytes, sum.entries);
}

static void open_pod(const struct summary *summary, const struct pod *pod) {
    struct buffer *out = summary->out;
    buffer_append_text(out, "{\"podRef\":{\"name\":");
    json_format_string(out, slice_of(pod->name));
    buffer_append_text(out, ",\"namespace\":");
    json_format_string(out, slice_of(pod->namespace));
    buffer_printf(out, ",\"uid\":\"%s\"},", pod->uid);
    put_start(out, pod->start_time_ns);
    buffer_append_text(out, "\"containers\":[");
}

/* CPU and memory of a pod are its containers' together. */
static void close_pod(const struct summary *summary, const struct measure *whole, const struct measure *units, size_t count) {
    struct buffer *out = summary->out;
    struct reading sum = {0};
    for (size_t i = 0; i < count; i++) {
        sum.cpu_ns += units[i].usage.cpu_ns;
        sum.nano_cores += units[i].unit->nano_cores;
        sum.window_ns = MAX(sum.window_ns, units[i].unit->window_ns);
        sum.memory.memory_bytes += units[i].usage.memory_bytes;
        sum.memory.memory_usage += units[i].usage.memory_usage;
        sum.memory.memory_rss += units[i].usage.memory_rss;
        sum.memory.page_faults += units[i].usage.page_faults;
        sum.memory.major_faults += units[i].usage.major_faults;
    }
    buffer_append_text(out, "],");
    put_reading(out, &sum, summary->time);
    if (whole->has_traffic)
        put_traffic(summary, &whole->traffic);
    if (!summary->brief)
        put_files(summary, whole->pod);
    if (!summary->brief)
        buffer_printf(out, ",\"process_stats\":{\"process_count\":%" PRIu64 "}", whole->usage.pids);
    buffer_append_byte(out, '}');
}

static int put_pods(const struct summary *summary) {
    struct measures measures = {0};
    int r = measure_all(summary->node, !summary->brief, &measures);
    size_t from = 0; /* the first container of the pod that is being told */
    for (size_t i = 0; r == 0 && i < measures.count; i++) {
        const struct measure *it = &measures.items[i];
        if (i == from) {
            buffer_append_text(summary->out, i ? "," : "");
            open_pod(summary, it->pod);
        }
        if (it->unit) {
            buffer_append_text(summary->out, i > from ? "," : "");
            put_unit(summary, it);
            continue;
        }
        close_pod(summary, it, &measures.items[from], i - from);
        from = i + 1;
    }
    VECTOR_DEINIT(&measures);
    return r;
}

/* --- the machine --- */

/* The value in kB after a name in /proc/meminfo. */
static uint64_t meminfo(struct slice text, const char *name) {
    while (text.len) {
        struct slice line = slice_cut(&text, '\n'), key = slice_cut(&line, ':');
        line = slice_trim(line);
        uint64_t value;
        if (slice_is(key, name) && slice_parse_u64(slice_cut(&line, ' '), UINT64_MAX / KIB, &value) == 0)
            return value * KIB;
    }
    return 0;
}

/* All but idle and waiting, of the first line of /proc/stat; guests are counted within user and nice. */
static uint64_t machine_cpu_ns(struct slice text) {
    struct slice line = slice_cut(&text, '\n');
    uint64_t ticks = 0;
    slice_cut(&line, ' ');
    line = slice_trim(line);
    for (size_t column = 0; column < 8 && line.len; column++) {
        uint64_t value;
        if (slice_parse_u64(slice_cut(&line, ' '), UINT64_MAX, &value) == 0 && column != 3 && column != 4)
            ticks += value;
    }
    return ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

int stats_memory(uint64_t *ret_total, uint64_t *ret_available) {
    CLEANUP(buffer_deinit) struct buffer memory = BUFFER_INIT(PROC_BYTES_MAX);
    int r = sys_read_file(AT_FDCWD, "/proc/meminfo", PROC_BYTES_MAX - 1, &memory);
    if (r < 0)
        return r;
    *ret_total = meminfo(buffer_slice(&memory), "MemTotal");
    *ret_available = meminfo(buffer_slice(&memory), "MemAvailable");
    return 0;
}

uint64_t stats_machine_cpu_ns(void) {
    CLEANUP(buffer_deinit) struct buffer stat = BUFFER_INIT(PROC_BYTES_MAX);
    return sys_read_file(AT_FDCWD, "/proc/stat", PROC_BYTES_MAX - 1, &stat) == 0 ? machine_cpu_ns(buffer_slice(&stat)) : 0;
}

static int put_machine(const struct summary *summary) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(PROC_BYTES_MAX);
    struct node *node = summary->node;
    struct buffer *out = summary->out;
    struct reading reading = {.cpu_ns = stats_machine_cpu_ns()};
    int r = sys_read_file(AT_FDCWD, "/proc/meminfo", PROC_BYTES_MAX - 1, &text);
    if (r < 0)
        return r;
    struct slice info = buffer_slice(&text);
    uint64_t total = meminfo(info, "MemTotal"), free = meminfo(info, "MemFree");
    int64_t born_ns = summary->now_ns - sys_monotonic_ns(); /* the boot: the counters began there */
    reading.available = meminfo(info, "MemAvailable");
    reading.memory.memory_bytes = total > reading.available ? total - reading.available : 0;
    reading.memory.memory_usage = MAX(total > free ? total - free : 0, reading.memory.memory_bytes); /* what is kept in reserve is not available */
    reading.memory.memory_rss = meminfo(info, "AnonPages");
    reading.nano_cores = rate_of(&node->stats, reading.cpu_ns, summary->now_ns, born_ns, &reading.window_ns);
    buffer_append_text(out, "{\"node\":{\"nodeName\":");
    json_format_string(out, slice_of(node->options->node_name));
    buffer_append_byte(out, ',');
    put_start(out, born_ns);
    put_reading(out, &reading, summary->time);
    if (!summary->brief) {
        uint64_t used = (uint64_t)(summary->disk.f_blocks - summary->disk.f_bfree) * summary->disk.f_frsize;
        buffer_append_byte(out, ',');
        put_disk(summary, "fs", used, (uint64_t)(summary->disk.f_files - summary->disk.f_ffree));
        buffer_append_text(out, ",\"runtime\":{");
        put_disk(summary, "imageFs", used, (uint64_t)(summary->disk.f_files - summary->disk.f_ffree));
        buffer_append_byte(out, '}');
    }
    return buffer_append_text(out, "},\"pods\":[");
}

int stats_format(struct node *node, bool brief, struct buffer *out) {
    struct summary summary = {.node = node, .out = out, .brief = brief, .now_ns = loop_wall_ns(node->loop)};
    timestamp_format(summary.now_ns, summary.time);
    statvfs(node->state_dir, &summary.disk);
    int r = put_machine(&summary);
    if (r == 0)
        r = put_pods(&summary);
    buffer_append_text(out, "]}\n");
    return r < 0 ? r : buffer_error(out);
}
