/* /metrics/resource and /metrics/probes, in kubelet's names: what metrics-server and autoscalers read, and how probes went. */
#include "node/measure_priv.h"

#define MILLISECOND_NS 1000000

/* --- resources --- */

enum value { CPU_SECONDS, WORKING_SET, SWAP, START_TIME };
static const struct family {
    const char *name, *type, *help;
    enum value value;
    bool of_pod;
} families[] = {
    {"container_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the container in core-seconds", CPU_SECONDS, false},
    {"container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes", WORKING_SET, false},
    {"container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds", START_TIME, false},
    {"container_swap_usage_bytes", "gauge", "[ALPHA] Current amount of the container swap usage in bytes.", SWAP, false},
    {"pod_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", CPU_SECONDS, true},
    {"pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes", WORKING_SET, true},
    {"pod_swap_usage_bytes", "gauge", "[ALPHA] Current amount of the pod swap usage in bytes.", SWAP, true},
};

static double value_of(const struct measure *measure, enum value value) {
    switch (value) {
    case CPU_SECONDS: return (double)measure->usage.cpu_ns / 1e9;
    case WORKING_SET: return (double)measure->usage.memory_bytes;
    case SWAP: return (double)measure->usage.memory_swap;
    case START_TIME: return (double)measure->unit->started_ns / 1e9;
    }
    return 0;
}

static void put_head(struct buffer *out, const char *name, const char *type, const char *help) {
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_measure(struct buffer *out, const struct family *family, const struct measure *measure, int64_t now_ms) {
    buffer_printf(out, "%s{", family->name);
    if (measure->unit)
        buffer_printf(out, "container=\"%s\",", measure->unit->spec->name);
    buffer_printf(out, "namespace=\"%s\",pod=\"%s\"} %.17g", measure->pod->namespace, measure->pod->name, value_of(measure, family->value));
    if (family->value == START_TIME)
        buffer_append_byte(out, '\n');
    else
        buffer_printf(out, " %" PRId64 "\n", now_ms);
}

static int put_node(struct node *node, struct buffer *out, int64_t now_ms) {
    uint64_t total, available;
    int r = stats_memory(&total, &available);
    if (r < 0)
        return r;
    put_head(out, "node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds");
    buffer_printf(out, "node_cpu_usage_seconds_total %.17g %" PRId64 "\n", (double)stats_machine_cpu_ns() / 1e9, now_ms);
    put_head(out, "node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes");
    buffer_printf(out, "node_memory_working_set_bytes %" PRIu64 " %" PRId64 "\n", total > available ? total - available : 0, now_ms);
    (void)node;
    return 0;
}

int resource_metrics_format(struct node *node, struct buffer *out) {
    struct measures measures = {0};
    int64_t now_ms = loop_wall_ns(node->loop) / MILLISECOND_NS;
    int r = measure_all(node, false, &measures);
    for (size_t f = 0; r == 0 && f < ARRAY_LEN(families); f++) {
        put_head(out, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < measures.count; i++)
            if (families[f].of_pod == !measures.items[i].unit)
                put_measure(out, &families[f], &measures.items[i], now_ms);
    }
    VECTOR_DEINIT(&measures);
    if (r == 0)
        r = put_node(node, out, now_ms);
    put_head(out, "resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise");
    buffer_printf(out, "resource_scrape_error %d\n", r < 0);
    return buffer_error(out);
}

/* --- probes --- */

static void put_probe(struct buffer *out, const struct unit *unit, size_t kind) {
    static const char *const kinds[] = {[PROBE_STARTUP] = "Startup", [PROBE_LIVENESS] = "Liveness", [PROBE_READINESS] = "Readiness"};
    static const char *const results[] = {"successful", "failed", "unknown"};
    const uint64_t *outcomes = unit->probe_results[kind];
    const uint64_t counts[] = {outcomes[PROBE_SUCCESS] + outcomes[PROBE_WARNING], outcomes[PROBE_FAILURE], outcomes[PROBE_ERROR]};
    for (size_t i = 0; i < ARRAY_LEN(results); i++)
        if (counts[i])
            buffer_printf(
                out, "prober_probe_total{container=\"%s\",namespace=\"%s\",pod=\"%s\",pod_uid=\"%s\",probe_type=\"%s\",result=\"%s\"} %" PRIu64 "\n",
                unit->spec->name, unit->pod->namespace, unit->pod->name, unit->pod->uid, kinds[kind], results[i], counts[i]);
}

int probe_metrics_format(struct node *node, struct buffer *out) {
    void *value;
    put_head(out, "prober_probe_total", "counter", "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.");
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *pod = value;
        for (size_t i = 0; i < pod->units_count; i++)
            for (size_t kind = 0; kind < ARRAY_LEN(pod->units[i]->probes); kind++)
                put_probe(out, pod->units[i], kind);
    }
    return buffer_error(out);
}
