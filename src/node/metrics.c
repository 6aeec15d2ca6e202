/* /metrics: how often containers were restarted, and the few of kubelet's own that dashboards ask for. What is used is told by cadvisor.c. */
#include <sys/statvfs.h>

#include "node/node_priv.h"

static void put_restarts(const struct node *node, struct buffer *out) {
    void *value;
    buffer_append_text(out, "# HELP container_restarts_total How often the container was started again.\n# TYPE container_restarts_total counter\n");
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *pod = value;
        for (size_t i = 0; i < pod->units_count; i++)
            if (pod->units[i]->stage == UNIT_RUNNING)
                buffer_printf(out, "container_restarts_total{namespace=\"%s\",pod=\"%s\",container=\"%s\"} %d\n", pod->namespace, pod->name,
                              pod->units[i]->spec->name, pod->units[i]->restart_count);
    }
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

/* --- claims: the room of the file system that each one's volume is on --- */

static const char *claim_of(const struct kube_volume *volume) {
    return volume->persistent_volume_claim ? volume->persistent_volume_claim->claim_name : NULL;
}

/* An earlier pod told of it, or an earlier volume of this one. */
static bool is_told(const struct node *node, const struct pod *pod, size_t index, const char *claim) {
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);) {
        const struct pod *other = value;
        const struct kube_volume_array *volumes = &other->spec_object->pod->spec.volumes;
        bool same_namespace = other->stage == POD_ACTIVE && strcmp(other->namespace, pod->namespace) == 0;
        for (size_t i = 0; same_namespace && i < (other == pod ? index : volumes->count); i++)
            if (claim_of(&volumes->items[i]) && strcmp(claim_of(&volumes->items[i]), claim) == 0)
                return true;
        if (other == pod)
            break;
    }
    return false;
}

struct volume_family {
    const char *name, *help;
    uint64_t (*value)(const struct statvfs *disk);
};
static uint64_t available_bytes(const struct statvfs *disk) {
    return (uint64_t)disk->f_bavail * disk->f_frsize;
}
static uint64_t capacity_bytes(const struct statvfs *disk) {
    return (uint64_t)disk->f_blocks * disk->f_frsize;
}
static uint64_t used_bytes(const struct statvfs *disk) {
    return (uint64_t)(disk->f_blocks - disk->f_bfree) * disk->f_frsize;
}
static uint64_t inodes(const struct statvfs *disk) {
    return disk->f_files;
}
static uint64_t inodes_free(const struct statvfs *disk) {
    return disk->f_ffree;
}
static uint64_t inodes_used(const struct statvfs *disk) {
    return disk->f_files - disk->f_ffree;
}
static const struct volume_family volume_families[] = {
    {"kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", available_bytes},
    {"kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", capacity_bytes},
    {"kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", used_bytes},
    {"kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", inodes},
    {"kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", inodes_free},
    {"kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", inodes_used},
};

static void put_pods_claims(const struct node *node, const struct pod *pod, const struct volume_family *family, struct buffer *out) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    for (size_t i = 0; pod->stage == POD_ACTIVE && i < volumes->count; i++) {
        const char *claim = claim_of(&volumes->items[i]);
        struct statvfs disk;
        char path[PATH_MAX];
        if (claim && !is_told(node, pod, i, claim) && persistent_path(pod, &volumes->items[i], path) && statvfs(path, &disk) == 0)
            buffer_printf(out, "%s{namespace=\"%s\",persistentvolumeclaim=\"%s\"} %" PRIu64 "\n", family->name, pod->namespace, claim,
                          family->value(&disk));
    }
}

static void put_claims(const struct node *node, struct buffer *out) {
    void *value;
    for (size_t f = 0; f < ARRAY_LEN(volume_families); f++) {
        const struct volume_family *family = &volume_families[f];
        buffer_printf(out, "# HELP %s [ALPHA] %s\n# TYPE %s gauge\n", family->name, family->help, family->name);
        for (size_t at = 0; map_next(node->pods, &at, NULL, &value);)
            put_pods_claims(node, value, family, out);
    }
}

int metrics_format(struct node *node, struct buffer *out) {
    put_restarts(node, out);
    put_kubelet(node, out);
    put_claims(node, out);
    buffer_printf(out, "# HELP tidemill_node_pods Pods on this node.\n# TYPE tidemill_node_pods gauge\ntidemill_node_pods %zu\n",
                  map_count(node->pods));
    return buffer_error(out);
}
