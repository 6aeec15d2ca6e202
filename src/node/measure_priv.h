/* What pods and containers use (measure.c), for those who format it. */
#ifndef TIDEMILL_NODE_MEASURE_PRIV_H
#define TIDEMILL_NODE_MEASURE_PRIV_H

#include "node/node_priv.h"

struct measure {
    struct pod *pod;
    struct unit *unit; /* NULL: the pod as a whole; comes after its units */
    struct cgroup_usage usage;
    struct podnet_traffic traffic; /* of the pod */
    bool has_traffic;
};
struct measures {
    struct measure *items;
    size_t count, capacity;
};
/* Of all that runs; VECTOR_DEINIT frees it. detail: what costs more (throttling, peaks, traffic). */
int measure_all(struct node *node, bool detail, struct measures *ret);

struct disk_waiter {
    struct list node;
    void (*on_counted)(struct disk_waiter *waiter);
};
/* Files are counted when that was longer ago: true, and the waiter (NULL: nobody) is told; false: what is known is new enough, or cannot be had. A
 * waiter that is not interested any more takes itself off its list. */
bool measure_files(struct node *node, int64_t age_max_ms, struct disk_waiter *waiter);
void measure_stop(struct node *node);

/* cadvisor.c: /metrics/cadvisor; resource_metrics.c: /metrics/resource, /metrics/probes. Appended. */
/* only: with `name[]=FAMILY` pairs those families alone, as several libraries for metrics have it; without any all. */
int cadvisor_format(struct node *node, const struct query *only, struct buffer *out);
int resource_metrics_format(struct node *node, struct buffer *out);
int probe_metrics_format(struct node *node, struct buffer *out);
/* The machine's processors since its start. */
uint64_t stats_machine_cpu_ns(void);

#endif
