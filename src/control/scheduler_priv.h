/* The scheduler within its files. One run takes a snapshot of nodes and pods, then places one pending pod after the other in it.
 *
 *   scheduler.c            what wakes it, the order of pods, binding or saying why not
 *   scheduler_snapshot.c   nodes and what is taken of them
 *   scheduler_filter.c     which nodes a pod fits
 *   scheduler_affinity.c   pods near to and far from each other: affinity, anti-affinity, spreading
 *   scheduler_volume.c     claims
 *   scheduler_score.c      which of the nodes that fit
 *   scheduler_preempt.c    which pods of less priority have to go */
#ifndef TIDEMILL_CONTROL_SCHEDULER_PRIV_H
#define TIDEMILL_CONTROL_SCHEDULER_PRIV_H

#include "control/volume_priv.h"

#define SCHEDULER_RESOURCES_MAX 32 /* kinds of resource in the cluster */
#define SCHEDULER_REASON_BYTES 192

enum { RESOURCE_CPU, RESOURCE_MEMORY, RESOURCE_STORAGE, RESOURCES_BASIC };

/* A pod that holds room: it is bound to the node, was placed on it in this run, or is waiting there for its victims to go. */
struct occupant {
    const struct kube_object *object;
    int64_t requests_milli[SCHEDULER_RESOURCES_MAX];
    bool waits; /* for victims: it is not there yet */
};
struct host {
    const struct kube_object *object;
    int64_t allocatable_milli[SCHEDULER_RESOURCES_MAX], used_milli[SCHEDULER_RESOURCES_MAX];
    int64_t pods_max;
    VECTOR(struct occupant *) pods;
};
struct snapshot {
    struct context *context;
    const char *resources[SCHEDULER_RESOURCES_MAX]; /* their names; the basic ones first */
    size_t resources_count;
    struct host *hosts;
    size_t hosts_count;
    size_t with_affinity;   /* occupants that have pod affinity or anti-affinity */
    struct objects volumes; /* listed when first needed */
    bool has_volumes;
    struct objects taken; /* volumes that were reserved in this run */
};

/* Nodes whose label `key` has this value, with how many pods count there. */
struct domain {
    const char *key, *value;
    int64_t count;
};
struct domains {
    struct domain *items; /* in the arena */
    size_t count, capacity;
};

/* A pod that wants a place, and what was found out about it. */
struct wish {
    struct occupant *occupant;
    const struct kube_object *object;
    const struct kube_pod_spec *spec;
    const char *refusal; /* no node will do, and why; NULL */
    struct claim_wish {
        const struct kube_object *claim, *volume; /* volume NULL: to be bound */
    } * claims;
    size_t claims_count;
    bool claims_once;          /* one of its claims is for one pod alone */
    struct affinity *affinity; /* NULL: nothing to look at */
};

/* Why nodes were refused: upstream's words, with how often. */
struct verdict {
    struct reason {
        char text[SCHEDULER_REASON_BYTES];
        size_t count;
    } reasons[32];
    size_t count;
};
enum fit {
    FITS,
    FITS_NOT,   /* it would if pods went */
    FITS_NEVER, /* as the node is */
};

static inline int32_t pod_priority(const struct kube_object *pod) {
    return int32_or(pod->pod->spec.priority, 0);
}

/* ---- snapshot ---- */
void snapshot_init(struct snapshot *snapshot, struct context *context, const struct objects *pods, const struct objects *nodes);
void snapshot_deinit(struct snapshot *snapshot);
/* NULL with context->error. */
struct occupant *occupant_new(struct snapshot *snapshot, const struct kube_object *pod);
void host_add(struct snapshot *snapshot, struct host *host, struct occupant *occupant);
void host_remove(struct snapshot *snapshot, struct host *host, struct occupant *occupant);
struct host *host_find(const struct snapshot *snapshot, const char *name); /* NULL: no such node */
const char *host_label(const struct host *host, const char *key);

/* ---- filters ---- */
void verdict_add(struct verdict *verdict, const char *reason);
/* Adds to the verdict why not. */
enum fit fits(struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict);

/* ---- affinity ---- */
/* Counts pods by domain, for the filter below; again after pods were added or removed. */
void affinity_prepare(struct snapshot *snapshot, struct wish *wish);
enum fit affinity_check(const struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict);
enum fit spread_check(const struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict);
/* Larger is better. */
int64_t affinity_score(const struct snapshot *snapshot, const struct wish *wish, const struct host *host);
int64_t spread_score(const struct snapshot *snapshot, const struct wish *wish, const struct host *host);

/* ---- volumes ---- */
void claims_prepare(struct snapshot *snapshot, struct wish *wish);
enum fit claims_check(struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict);
/* Reserves volumes for, or lets them be made on, the node. True when all are bound: the pod can be. */
bool claims_bind(struct snapshot *snapshot, const struct wish *wish, const struct host *host);

/* ---- the choice ---- */
struct host *choose(const struct snapshot *snapshot, const struct wish *wish, struct host *const *fitting, size_t count);

/* ---- preemption ---- */
/* Lets pods go so that the wish fits a node, which is returned; NULL: none, and *ret_why says it as upstream ("preemption: …"). The verdict is not
 * changed. */
struct host *preempt(struct snapshot *snapshot, struct wish *wish, const enum fit *fits_now, const char **ret_why);
/* "0/1 nodes are available: 1 Insufficient cpu." in the arena. */
const char *verdict_format(struct context *context, const struct verdict *verdict, size_t hosts);

#endif
