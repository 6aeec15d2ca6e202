/* What pods and the machine use, in the form of kubelet's /stats/summary; core makes metrics.k8s.io (kubectl top) of it.
 *
 * Nothing is measured while nobody asks. A rate needs two samples: each container keeps the last two that were at least WINDOW_NS apart, and the
 * first answer about it covers its whole life so far. So a rate is always of a window between WINDOW_NS and the time since one last asked, and the
 * window is told ("time" and "windowSeconds" beside kubelet's fields). */
#include <unistd.h>

#include "node/node_priv.h"
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
    uint64_t cpu_ns, nano_cores, memory_bytes;
    int64_t window_ns;
};

static void put_reading(struct buffer *out, const struct reading *reading, const char *time) {
    buffer_printf(out,
                  "\"cpu\":{\"time\":\"%s\",\"usageNanoCores\":%" PRIu64 ",\"usageCoreNanoSeconds\":%" PRIu64
                  ",\"windowSeconds\":%.3f},\"memory\":{\"time\":\"%s\",\"workingSetBytes\":%" PRIu64 "}",
                  time, reading->nano_cores, reading->cpu_ns, (double)reading->window_ns / 1e9, time, reading->memory_bytes);
}

static void put_start(struct buffer *out, int64_t started_ns) {
    char text[TIMESTAMP_BYTES];
    timestamp_format(started_ns, text);
    buffer_printf(out, "\"startTime\":\"%s\",", text);
}

/* --- pods --- */

static void put_unit(struct unit *unit, int64_t now_ns, const char *time, struct reading *sum, struct buffer *out) {
    struct node *node = unit->pod->node;
    struct cgroup_usage usage = {0};
    char path[QOS_PATH_BYTES];
    qos_container_path(unit, path);
    cgroup_usage(&node->cgroups, path, &usage);
    if (strcmp(unit->stats_id, unit->id) != 0) { /* another run: its counters began at zero */
        memcpy(unit->stats_id, unit->id, sizeof unit->stats_id);
        unit->stats = (struct stats_window){.newer = {0}};
    }
    struct reading reading = {.cpu_ns = usage.cpu_ns, .memory_bytes = usage.memory_bytes};
    reading.nano_cores = rate_of(&unit->stats, usage.cpu_ns, now_ns, unit->started_ns, &reading.window_ns);
    sum->cpu_ns += reading.cpu_ns;
    sum->nano_cores += reading.nano_cores;
    sum->memory_bytes += reading.memory_bytes;
    sum->window_ns = MAX(sum->window_ns, reading.window_ns);
    buffer_append_text(out, "{\"name\":");
    json_format_string(out, slice_of(unit->spec->name));
    buffer_append_byte(out, ',');
    put_start(out, unit->started_ns);
    put_reading(out, &reading, time);
    buffer_append_byte(out, '}');
}

static bool is_measured(const struct unit *unit) {
    return unit->stage == UNIT_RUNNING && unit->started_ns;
}

static bool runs(const struct pod *pod) {
    for (size_t i = 0; i < pod->units_count; i++)
        if (is_measured(pod->units[i]))
            return true;
    return false;
}

static void put_pod(struct pod *pod, int64_t now_ns, const char *time, struct buffer *out) {
    struct reading sum = {0};
    buffer_append_text(out, "{\"podRef\":{\"name\":");
    json_format_string(out, slice_of(pod->name));
    buffer_append_text(out, ",\"namespace\":");
    json_format_string(out, slice_of(pod->namespace));
    buffer_printf(out, ",\"uid\":\"%s\"},\"containers\":[", pod->uid);
    bool first = true;
    for (size_t i = 0; i < pod->units_count; i++) {
        if (!is_measured(pod->units[i]))
            continue;
        buffer_append_text(out, first ? "" : ",");
        put_unit(pod->units[i], now_ns, time, &sum, out);
        first = false;
    }
    buffer_append_text(out, "],");
    put_reading(out, &sum, time);
    buffer_append_byte(out, '}');
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

static int put_machine(struct node *node, int64_t now_ns, const char *time, struct buffer *out) {
    CLEANUP(buffer_deinit) struct buffer stat = BUFFER_INIT(PROC_BYTES_MAX), memory = BUFFER_INIT(PROC_BYTES_MAX);
    int r = sys_read_file(AT_FDCWD, "/proc/stat", PROC_BYTES_MAX - 1, &stat);
    if (r == 0)
        r = sys_read_file(AT_FDCWD, "/proc/meminfo", PROC_BYTES_MAX - 1, &memory);
    if (r < 0)
        return r;
    struct reading reading = {.cpu_ns = machine_cpu_ns(buffer_slice(&stat))};
    uint64_t available = meminfo(buffer_slice(&memory), "MemAvailable"), total = meminfo(buffer_slice(&memory), "MemTotal");
    int64_t born_ns = now_ns - sys_monotonic_ns(); /* the boot: the counters began there */
    reading.memory_bytes = total > available ? total - available : 0;
    reading.nano_cores = rate_of(&node->stats, reading.cpu_ns, now_ns, born_ns, &reading.window_ns);
    buffer_append_text(out, "{\"node\":{\"nodeName\":");
    json_format_string(out, slice_of(node->options->node_name));
    buffer_append_byte(out, ',');
    put_reading(out, &reading, time);
    return buffer_append_text(out, "},\"pods\":[");
}

int stats_format(struct node *node, struct buffer *out) {
    int64_t now_ns = loop_wall_ns(node->loop);
    char time[TIMESTAMP_BYTES];
    void *value;
    bool first = true;
    timestamp_format(now_ns, time);
    int r = put_machine(node, now_ns, time, out);
    for (size_t at = 0; r == 0 && map_next(node->pods, &at, NULL, &value);) {
        if (!runs(value))
            continue;
        buffer_append_text(out, first ? "" : ",");
        put_pod(value, now_ns, time, out);
        first = false;
    }
    buffer_append_text(out, "]}\n");
    return r < 0 ? r : buffer_error(out);
}
