/* Prometheus text: what each container and pod uses, read from its cgroup when asked. */
#include "node/node_priv.h"

#define METRICS_BYTES_MAX (16 * MIB)

struct family {
    const char *name, *type, *help;
};
static const struct family families[] = {
    {"container_cpu_usage_seconds_total", "counter", "CPU time used by the container."},
    {"container_memory_working_set_bytes", "gauge", "Memory in use by the container, without inactive file cache."},
    {"container_processes", "gauge", "Processes and threads of the container."},
    {"container_start_time_seconds", "gauge", "When the container started, since 1970."},
    {"container_restarts_total", "counter", "How often the container was started again."},
};

static void add_sample(const struct unit *unit, size_t family, struct buffer *out) {
    char path[QOS_PATH_BYTES];
    struct cgroup_usage usage = {0};
    double value = 0;
    qos_container_path(unit, path);
    if (family <= 2)
        cgroup_usage(&unit->pod->node->cgroups, path, &usage);
    switch (family) {
    case 0: value = (double)usage.cpu_ns / 1e9; break;
    case 1: value = (double)usage.memory_bytes; break;
    case 2: value = (double)usage.pids; break;
    case 3: value = (double)unit->started_ns / 1e9; break;
    default: value = unit->restart_count;
    }
    buffer_printf(out, "%s{namespace=\"%s\",pod=\"%s\",container=\"%s\"} %.17g\n", families[family].name, unit->pod->namespace, unit->pod->name,
                  unit->spec->name, value);
}

/* The few of kubelet's own that dashboards ask for. */
static void put_kubelet(const struct node *node, struct buffer *out) {
    size_t pods = 0, containers = 0;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *pod = value;
        pods += pod->stage == POD_ACTIVE;
        for (size_t i = 0; i < pod->units_count; i++)
            containers += pod->units[i]->stage == UNIT_RUNNING;
    }
    buffer_printf(out,
                  "# HELP kubelet_running_pods [STABLE] Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge\n"
                  "kubelet_running_pods %zu\n"
                  "# HELP kubelet_running_containers [STABLE] Number of containers currently running\n# TYPE kubelet_running_containers gauge\n"
                  "kubelet_running_containers{container_state=\"running\"} %zu\n"
                  "# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.\n# TYPE kubelet_node_name gauge\n"
                  "kubelet_node_name{node=\"%s\"} 1\n",
                  pods, containers, node->options->node_name);
}

int metrics_format(struct node *node, struct buffer *out) {
    struct slice key;
    void *value;
    for (size_t family = 0; family < ARRAY_LEN(families); family++) {
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", families[family].name, families[family].help, families[family].name,
                      families[family].type);
        for (size_t at = 0; map_next(node->pods, &at, &key, &value);) {
            const struct pod *pod = value;
            for (size_t i = 0; i < pod->units_count; i++)
                if (pod->units[i]->stage == UNIT_RUNNING)
                    add_sample(pod->units[i], family, out);
        }
    }
    put_kubelet(node, out);
    buffer_printf(out, "# HELP tidemill_node_pods Pods on this node.\n# TYPE tidemill_node_pods gauge\ntidemill_node_pods %zu\n",
                  map_count(node->pods));
    return buffer_error(out);
}
