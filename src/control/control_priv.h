/* The insides of the controllers. */
#ifndef TIDEMILL_CONTROL_PRIV_H
#define TIDEMILL_CONTROL_PRIV_H

#include "control/control.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define SECONDS_MAX INT64_C(3153600000) /* a century: what is longer never comes, and must not overflow */
#define RECONCILE_ARENA_BYTES_MAX (64 * MIB)
#define CREATES_PER_RECONCILE_MAX 500 /* upstream's burst */

/* ---- the work queue (queue.c) ---- */

struct queue_item {
    struct heap_node node; /* by due time; in the heap unless running */
    struct control_key key;
    bool running, dirty;
    bool waited; /* due because it asked to be run again, not because something changed */
    unsigned failures;
    int64_t requeue_after_ms; /* -1: not */
    char *failure;            /* why the last run failed; NULL: it did not */
    char *map_key;
    size_t map_key_len;
};
struct queue {
    struct map *items; /* those that are due some time or running */
    struct heap due;
};
int queue_init(struct queue *queue);
void queue_deinit(struct queue *queue);
/* Makes the key due now, or again after its present run. -ENOMEM. */
int queue_add(struct queue *queue, const struct control_key *key, int64_t now_ns);
struct queue_item *queue_next(struct queue *queue, int64_t now_ns);
struct queue_item *queue_find(const struct queue *queue, const struct control_key *key);
int64_t queue_deadline(const struct queue *queue);
/* May free the item. */
void queue_done(struct queue *queue, struct queue_item *item, const char *failure, int64_t now_ns);

/* ---- patience with what fails again and again (backoff.c) ---- */

/* Per key (a text): 1 s after the first failure, doubling up to 15 min; forgotten after 30 min without one. In memory only. */
struct backoffs {
    struct map *entries;
};
int backoffs_init(struct backoffs *backoffs);
void backoffs_deinit(struct backoffs *backoffs);
/* How long the key is to be left alone; 0: not at all. */
int64_t backoffs_left_ns(const struct backoffs *backoffs, const char *key, int64_t wall_ns);
/* Another failure. -ENOMEM. */
int backoffs_add(struct backoffs *backoffs, const char *key, int64_t wall_ns);

/* ---- who depends on whom (owners.c) ---- */

struct dependent {
    const struct kube_kind *kind;
    const char *namespace, *name;
    char text[];
};
struct dependents {
    VECTOR(struct dependent *) items;
};
/* Owner's uid → struct dependents. */
int owners_on_change(struct map *owners, const struct kube_object *object, const struct kube_object *old);
const struct dependents *owners_find(const struct map *owners, const char *uid); /* NULL: none */
void owners_free(struct map *owners);

/* ---- controllers ---- */

struct context {
    struct control *control;
    const struct control_view *view;
    const struct kube_kind *kind;
    const char *namespace, *name;
    int64_t wall_ns;
    struct arena *arena; /* until the next reconcile */
    struct control_actions *actions;
    const char *controller; /* its name: source of events */
    const char *failure;    /* why the last run's actions failed; NULL: they did not */
    int64_t requeue_after_ms;
    bool after_wait; /* this run was asked for by context_requeue, and nothing has changed since */
    unsigned group;  /* of the actions that are added next */
    int error;       /* sticky: -ENOMEM */
};

struct controller {
    const char *name;
    const char *component; /* source of its events */
    /* Which keys a change touches. object or old may be NULL. */
    int (*on_change)(struct control *control, const struct kube_object *object, const struct kube_object *old);
    void (*reconcile)(struct context *context);
};
enum controller_id {
    CONTROLLER_DEPLOYMENT,
    CONTROLLER_REPLICA_SET,
    CONTROLLER_REPLICATION,
    CONTROLLER_STATEFUL_SET,
    CONTROLLER_DAEMON_SET,
    CONTROLLER_DISRUPTION,
    CONTROLLER_JOB,
    CONTROLLER_CRON_JOB,
    CONTROLLER_CLAIM,
    CONTROLLER_VOLUME,
    CONTROLLER_EPHEMERAL,
    CONTROLLER_ENDPOINT_SLICE,
    CONTROLLER_ENDPOINTS,
    CONTROLLER_ENDPOINT_MIRROR,
    CONTROLLER_NAMESPACE,
    CONTROLLER_GARBAGE,
    CONTROLLER_POD_GARBAGE,
    CONTROLLER_NODE_TAINT,
    CONTROLLER_SCHEDULER,
    CONTROLLER_RESOURCE_QUOTA,
    CONTROLLER_CLAIM_PROTECTION,
    CONTROLLER_VOLUME_PROTECTION,
    CONTROLLER_SERVICE_LOAD_BALANCER,
    CONTROLLER_ROOT_CA,
    CONTROLLER_CLUSTER_ROLE,
    CONTROLLER_CERTIFICATE,
    CONTROLLER_TOKEN_SECRET,
    CONTROLLERS,
};
extern const struct controller controllers[CONTROLLERS];

struct control {
    struct control_view view;
    struct queue queue;
    struct map *owners;
    struct backoffs failed_daemons; /* by set's uid and node */
    struct arena *arena;
    uint64_t random;
    const char *component;
    size_t finished_pods_max;
    char *volumes_folder;
    struct map *pending; /* pods that the scheduler has to place, as "namespace/name" → when it last said why they wait, in seconds, or NEVER_SAID */
    int64_t now_ns;      /* of the change being taken in */
    const char *root_ca; /* PEM; NULL: not published */
    struct control_statistics statistics;
};

/* For on_change. */
int control_enqueue(struct control *control, enum controller_id controller, const struct kube_kind *kind, const char *namespace, const char *name);
int control_enqueue_object(struct control *control, enum controller_id controller, const struct kube_object *object);
/* The object whose controller reference (of `kind`) the object bears. NULL object is fine. */
int control_enqueue_controller_of(struct control *control, enum controller_id controller, const struct kube_kind *kind,
                                  const struct kube_object *object);

int deployment_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void deployment_reconcile(struct context *context);
int replica_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void replica_set_reconcile(struct context *context);
int replication_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
int disruption_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void disruption_reconcile(struct context *context);
int stateful_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void stateful_set_reconcile(struct context *context);
int daemon_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void daemon_set_reconcile(struct context *context);
int job_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void job_reconcile(struct context *context);
int cron_job_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void cron_job_reconcile(struct context *context);
int claim_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void claim_reconcile(struct context *context);
int ephemeral_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void ephemeral_reconcile(struct context *context);
int volume_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void volume_reconcile(struct context *context);
int endpoint_slice_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void endpoint_slice_reconcile(struct context *context);
int endpoints_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void endpoints_reconcile(struct context *context);
int endpoint_mirror_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void endpoint_mirror_reconcile(struct context *context);
int namespace_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void namespace_reconcile(struct context *context);
int garbage_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void garbage_reconcile(struct context *context);
int pod_garbage_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void pod_garbage_reconcile(struct context *context);
int node_taint_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void node_taint_reconcile(struct context *context);
int scheduler_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void scheduler_reconcile(struct context *context);
int resource_quota_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void resource_quota_reconcile(struct context *context);
int claim_protection_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void claim_protection_reconcile(struct context *context);
int volume_protection_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void volume_protection_reconcile(struct context *context);
int service_load_balancer_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void service_load_balancer_reconcile(struct context *context);
int root_ca_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void root_ca_reconcile(struct context *context);
int cluster_role_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void cluster_role_reconcile(struct context *context);
int certificate_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void certificate_reconcile(struct context *context);
int token_secret_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old);
void token_secret_reconcile(struct context *context);

/* ---- what controllers share (context.c) ---- */

const struct kube_object *context_get(struct context *context, const struct kube_kind *kind, const char *namespace, const char *name);
/* Objects in the arena's array. */
struct objects {
    VECTOR(const struct kube_object *) list; /* freed by objects_deinit */
};
void objects_deinit(struct objects *objects);
void context_list(struct context *context, const struct kube_kind *kind, const char *namespace, struct objects *ret);
/* Calls look for the object that the key names; when it names none, for all of the kind (namespace NULL: everywhere), each in a group of its own, so
 * that one that lost a race does not hold the others up. */
void context_each(struct context *context, const struct kube_kind *kind, const char *namespace,
                  void (*look)(struct context *context, const struct kube_object *object));

/* Actions. They take over the reference; an object NULL (no memory) sets context->error. */
void context_create(struct context *context, struct kube_object *object);
void context_update(struct context *context, struct kube_object *object);
/* After an update of the same object in this run the status is written unconditionally. */
void context_update_status(struct context *context, struct kube_object *object);
/* Takes over the copy, in which only the status may differ: writes it when it does and nothing has failed. */
void context_update_changed_status(struct context *context, const struct kube_object *object, struct kube_object *copy);
void context_bind(struct context *context, struct kube_object *object);
/* Has it completed by who has the authority's keys, and written. */
void context_sign(struct context *context, struct kube_object *object);
/* propagation NULL: "Background"; grace_seconds -1: the object's own. Preconditions: the uid. */
void context_delete(struct context *context, const struct kube_object *object, const char *propagation, int64_t grace_seconds);
/* Records an Event about the object; one that is there already is counted up. type: "Normal", "Warning". */
void context_event(struct context *context, const struct kube_object *about, const char *type, const char *reason, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Runs the key again after this time, or earlier if that was asked before. */
void context_requeue(struct context *context, int64_t after_ms);
/* A deep copy to change, or NULL with context->error. */
struct kube_object *context_copy(struct context *context, const struct kube_object *object);
/* "prefix" + five random letters as upstream makes them, in the arena. */
const char *context_random_name(struct context *context, const char *prefix);
/* Now, in whole seconds, as metav1.Time keeps it. */
struct kube_time context_now(const struct context *context);
void context_fail(struct context *context);
/* Why the last run's actions failed, without the reason in front; NULL: they did not, or a race was lost, which is no failure. */
const char *context_failure(const struct context *context);

/* An object that a controller manages, and the changed copy when there is one. */
struct managed {
    const struct kube_object *object;
    struct kube_object *changed; /* NULL: unchanged */
};
struct managed_list {
    VECTOR(struct managed) list;
};
/* Objects of the kind that the owner controls and its selector matches. Orphans that match are adopted and owned ones that do not are released (an
 * update is made when the list is flushed; released ones are not returned). A selector NULL: those owned, no more. A deleting owner adopts nothing.
 */
void context_claim(struct context *context, const struct kube_kind *kind, const struct kube_object *owner, const struct kube_label_selector *selector,
                   bool (*wanted)(const struct kube_object *owner, const struct kube_object *object), struct managed_list *ret);
/* For `wanted`: pods that are active. */
bool claim_active(const struct kube_object *owner, const struct kube_object *pod);
/* For on_change: the controller's keys of all of the kind (namespace NULL: everywhere) that are wanted; wanted NULL: all. */
int control_enqueue_all(struct control *control, enum controller_id controller, const struct kube_kind *kind, const char *namespace,
                        bool (*wanted)(const void *userdata, const struct kube_object *object), const void *userdata);
/* For on_change: the controller's keys of `kind` whose selector (found by selector_of) matches the orphan. Rare, so all of the namespace's look. */
int control_enqueue_adopters(struct control *control, enum controller_id controller, const struct kube_kind *kind, const struct kube_object *orphan,
                             bool (*selects)(const struct kube_object *owner, const struct kube_string_map *labels));
/* For on_change: a pod came, went or changed; its owner looks, or all who may adopt it. */
int control_enqueue_for_pod(struct control *control, enum controller_id controller, const struct kube_kind *kind, const struct kube_object *object,
                            const struct kube_object *old, bool (*selects)(const struct kube_object *owner, const struct kube_string_map *labels));
/* The copy to change. */
struct kube_object *managed_change(struct context *context, struct managed *managed);
/* Writes what was changed, and frees the list. */
void managed_flush(struct context *context, struct managed_list *managed);

/* An owner reference with controller and blockOwnerDeletion, appended. */
int add_controller_reference(struct kube_object_meta *metadata, struct arena *arena, const struct kube_object *owner);

/* ---- text, maps, pods (facts.c) ---- */

static inline bool text_is(const char *a, const char *b) {
    return a && strcmp(a, b) == 0;
}
static inline bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}
static inline int32_t int32_or(const int32_t *value, int32_t fallback) {
    return value ? *value : fallback;
}
int32_t *int32_new(struct arena *arena, int32_t value);
int64_t *int64_new(struct arena *arena, int64_t value);
bool *bool_new(struct arena *arena, bool value);
/* FNV-1a in hexadecimal or letters, for stable names. */
uint64_t text_hash(uint64_t hash, const char *text);
#define TEXT_HASH_INIT UINT64_C(14695981039346656037)
/* `len` letters of Kubernetes' safe alphabet, made from the bits. */
void safe_letters(uint64_t bits, char *ret, size_t len);
bool is_deleting(const struct kube_object *object);
/* Succeeded or Failed. */
bool pod_is_finished(const struct kube_pod *pod);
/* Neither finished nor being deleted. */
bool pod_is_active(const struct kube_object *object);
/* Sets or replaces a condition of a pod's copy; -ENOMEM. */
int pod_put_condition(struct context *context, struct kube_object *copy, const char *type, const char *status, const char *reason,
                      const char *message);
const struct kube_pod_condition *pod_condition(const struct kube_pod *pod, const char *type);
/* Ready for at least min_ready_seconds. *ret_wait_ms (may be NULL): when a ready pod is not yet available, how long it takes. */
bool pod_is_available(const struct kube_pod *pod, int32_t min_ready_seconds, int64_t wall_ns, int64_t *ret_wait_ms);
/* A toleration of the taint (node_fit.c). */
bool pod_tolerates(const struct kube_pod_spec *pod, const struct kube_taint *taint);
/* nodeSelector and required node affinity. */
/* Any of its terms. */
bool node_selector_matches(const struct kube_node_selector *selector, const struct kube_object *node);
bool pod_selects_node(const struct kube_pod_spec *pod, const struct kube_object *node);
/* A pod of the template, named, owned by `owner`; NULL with context->error. */
struct kube_object *pod_from_template(struct context *context, const struct kube_pod_template_spec *template, const struct kube_object *owner);

#endif
