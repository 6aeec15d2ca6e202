/* The engine: takes in changes, hands out keys, runs reconcilers. All policy is in the controllers; all waiting is in the queue.
 *
 * Invariants
 *  1. A reconcile sees committed state only, and its key does not run again before its actions have ended: so what it created is in the view the next
 * time, and no "expectations" are needed to keep it from creating twice.
 *  2. Updates carry the resourceVersion they were made from: whoever loses a race is told, and tries again from the new state.
 *  3. A reconcile that finds everything as it should be makes no action: a cluster at rest writes nothing. */
#include "control/control_priv.h"

const struct controller controllers[CONTROLLERS] = {
    [CONTROLLER_DEPLOYMENT] = {"deployment", "deployment-controller", deployment_on_change, deployment_reconcile},
    [CONTROLLER_REPLICA_SET] = {"replicaset", "replicaset-controller", replica_set_on_change, replica_set_reconcile},
    [CONTROLLER_REPLICATION] = {"replication", "replication-controller", replication_on_change, replica_set_reconcile},
    [CONTROLLER_STATEFUL_SET] = {"statefulset", "statefulset-controller", stateful_set_on_change, stateful_set_reconcile},
    [CONTROLLER_DAEMON_SET] = {"daemonset", "daemonset-controller", daemon_set_on_change, daemon_set_reconcile},
    [CONTROLLER_DISRUPTION] = {"disruption", "controllermanager", disruption_on_change, disruption_reconcile},
    [CONTROLLER_JOB] = {"job", "job-controller", job_on_change, job_reconcile},
    [CONTROLLER_CRON_JOB] = {"cronjob", "cronjob-controller", cron_job_on_change, cron_job_reconcile},
    [CONTROLLER_CLAIM] = {"claim", "persistentvolume-controller", claim_on_change, claim_reconcile},
    [CONTROLLER_EPHEMERAL] = {"ephemeral-volume", "ephemeral-volume-controller", ephemeral_on_change, ephemeral_reconcile},
    [CONTROLLER_VOLUME] = {"volume", "persistentvolume-controller", volume_on_change, volume_reconcile},
    [CONTROLLER_ENDPOINT_SLICE] = {"endpointslice", "endpoint-slice-controller", endpoint_slice_on_change, endpoint_slice_reconcile},
    [CONTROLLER_ENDPOINTS] = {"endpoints", "endpoint-controller", endpoints_on_change, endpoints_reconcile},
    [CONTROLLER_ENDPOINT_MIRROR] = {"endpointmirror", "endpoint-slice-mirroring-controller", endpoint_mirror_on_change, endpoint_mirror_reconcile},
    [CONTROLLER_NAMESPACE] = {"namespace", "namespace-controller", namespace_on_change, namespace_reconcile},
    [CONTROLLER_GARBAGE] = {"garbage", "garbage-collector", garbage_on_change, garbage_reconcile},
    [CONTROLLER_POD_GARBAGE] = {"pod-garbage", "pod-garbage-collector", pod_garbage_on_change, pod_garbage_reconcile},
    [CONTROLLER_NODE_TAINT] = {"node-taint", "taint-eviction-controller", node_taint_on_change, node_taint_reconcile},
    [CONTROLLER_SCHEDULER] = {"scheduler", "default-scheduler", scheduler_on_change, scheduler_reconcile},
    [CONTROLLER_RESOURCE_QUOTA] = {"resourcequota", "resourcequota-controller", resource_quota_on_change, resource_quota_reconcile},
    [CONTROLLER_CLAIM_PROTECTION] = {"claim-protection", "pvc-protection-controller", claim_protection_on_change, claim_protection_reconcile},
    [CONTROLLER_VOLUME_PROTECTION] = {"volume-protection", "pv-protection-controller", volume_protection_on_change, volume_protection_reconcile},
    [CONTROLLER_SERVICE_LOAD_BALANCER] = {"load-balancer", "service-controller", service_load_balancer_on_change, service_load_balancer_reconcile},
    [CONTROLLER_ROOT_CA] = {"root-ca", "root-ca-cert-publisher", root_ca_on_change, root_ca_reconcile},
    [CONTROLLER_CLUSTER_ROLE] = {"cluster-role", "clusterrole-aggregation-controller", cluster_role_on_change, cluster_role_reconcile},
    [CONTROLLER_CERTIFICATE] = {"certificate", "certificate-controller", certificate_on_change, certificate_reconcile},
    [CONTROLLER_TOKEN_SECRET] = {"token-secret", "serviceaccount-token-controller", token_secret_on_change, token_secret_reconcile},
};

const char *control_controller_name(unsigned controller) {
    return controller < CONTROLLERS ? controllers[controller].name : NULL;
}

struct control *control_new(const struct control_options *options) {
    struct control *control = calloc(1, sizeof *control);
    if (!control)
        return NULL;
    control->view = options->view;
    control->random = options->seed;
    control->component = options->component;
    control->root_ca = options->root_ca;
    control->finished_pods_max = options->finished_pods_max ? options->finished_pods_max : 100;
    control->volumes_folder = slice_dup(slice_of(options->volumes_folder ? options->volumes_folder : "/var/lib/tidemill/volumes"));
    control->owners = map_new();
    control->pending = map_new();
    control->arena = arena_new(RECONCILE_ARENA_BYTES_MAX);
    if (queue_init(&control->queue) < 0 || backoffs_init(&control->failed_daemons) < 0 || !control->volumes_folder || !control->pending ||
        !control->owners || !control->arena) {
        control_free(control);
        return NULL;
    }
    return control;
}

void control_free(struct control *control) {
    if (!control)
        return;
    queue_deinit(&control->queue);
    owners_free(control->owners);
    backoffs_deinit(&control->failed_daemons);
    arena_free(control->arena);
    free(control->volumes_folder);
    map_free(control->pending);
    free(control);
}

int control_enqueue(struct control *control, enum controller_id controller, const struct kube_kind *kind, const char *namespace, const char *name) {
    struct control_key key = {.controller = controller, .kind = kind, .namespace = namespace, .name = name};
    return queue_add(&control->queue, &key, control->now_ns);
}

int control_enqueue_object(struct control *control, enum controller_id controller, const struct kube_object *object) {
    return control_enqueue(control, controller, object->kind, object->metadata->namespace, object->metadata->name);
}

int control_enqueue_controller_of(struct control *control, enum controller_id controller, const struct kube_kind *kind,
                                  const struct kube_object *object) {
    const struct kube_owner_reference *owner = object ? kube_controller_of(object->metadata) : NULL;
    if (!owner || !text_is(owner->kind, kind->kind) || !text_is(owner->api_version, kube_kind_api_version(kind)))
        return 0;
    return control_enqueue(control, controller, kind, kind->namespaced ? object->metadata->namespace : NULL, owner->name);
}

int control_enqueue_all(struct control *control, enum controller_id controller, const struct kube_kind *kind, const char *namespace,
                        bool (*wanted)(const void *userdata, const struct kube_object *object), const void *userdata) {
    struct context context = {.view = &control->view};
    struct objects objects = {.list = {.items = NULL}};
    context_list(&context, kind, namespace, &objects);
    int r = context.error;
    for (size_t i = 0; i < objects.list.count && r == 0; i++)
        if (!wanted || wanted(userdata, objects.list.items[i]))
            r = control_enqueue_object(control, controller, objects.list.items[i]);
    objects_deinit(&objects);
    return r;
}

struct adoption {
    const struct kube_object *orphan;
    bool (*selects)(const struct kube_object *owner, const struct kube_string_map *labels);
};

static bool may_adopt(const void *userdata, const struct kube_object *owner) {
    const struct adoption *adoption = userdata;
    return adoption->selects(owner, &adoption->orphan->metadata->labels);
}

int control_enqueue_adopters(struct control *control, enum controller_id controller, const struct kube_kind *kind, const struct kube_object *orphan,
                             bool (*selects)(const struct kube_object *owner, const struct kube_string_map *labels)) {
    const struct adoption adoption = {orphan, selects};
    return control_enqueue_all(control, controller, kind, orphan->metadata->namespace, may_adopt, &adoption);
}

int control_enqueue_for_pod(struct control *control, enum controller_id controller, const struct kube_kind *kind, const struct kube_object *object,
                            const struct kube_object *old, bool (*selects)(const struct kube_object *owner, const struct kube_string_map *labels)) {
    int r = control_enqueue_controller_of(control, controller, kind, object);
    if (r == 0 && (!object || !kube_controller_of(object->metadata)))
        r = control_enqueue_controller_of(control, controller, kind, old);
    if (r < 0 || !object || kube_controller_of(object->metadata) || is_deleting(object))
        return r;
    return control_enqueue_adopters(control, controller, kind, object, selects);
}

int control_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old, int64_t now_ns) {
    ASSERT(object || old);
    control->now_ns = now_ns;
    int r = owners_on_change(control->owners, object, old);
    for (int i = 0; i < CONTROLLERS && r == 0; i++)
        r = controllers[i].on_change(control, object, old);
    return r;
}

bool control_next(struct control *control, int64_t now_ns, struct control_key *ret) {
    struct queue_item *item = queue_next(&control->queue, now_ns);
    if (item)
        *ret = item->key;
    return item != NULL;
}

int64_t control_deadline(const struct control *control) {
    return queue_deadline(&control->queue);
}

int control_reconcile(struct control *control, const struct control_key *key, int64_t wall_ns, struct control_actions *ret) {
    ASSERT(key->controller < CONTROLLERS);
    struct queue_item *item = queue_find(&control->queue, key);
    const struct controller *controller = &controllers[key->controller];
    arena_reset(control->arena);
    struct context context = {
        .control = control,
        .view = &control->view,
        .kind = key->kind,
        .namespace = key->namespace,
        .name = key->name,
        .wall_ns = wall_ns,
        .arena = control->arena,
        .actions = ret,
        .controller = control->component ? control->component : controller->component,
        .failure = item ? item->failure : NULL,
        .after_wait = item && item->waited,
        .requeue_after_ms = -1,
    };
    assert_doing(controller->name);
    controller->reconcile(&context);
    assert_doing(NULL);
    if (item)
        item->requeue_after_ms = context.requeue_after_ms;
    control->statistics.reconciles++;
    control->statistics.actions += ret->count;
    return context.error;
}

void control_done(struct control *control, const struct control_key *key, const char *failure, int64_t now_ns) {
    struct queue_item *item = queue_find(&control->queue, key);
    ASSERT(item);
    if (failure)
        control->statistics.failures++;
    queue_done(&control->queue, item, failure, now_ns);
}

void control_statistics(const struct control *control, struct control_statistics *ret) {
    *ret = control->statistics;
    ret->queued = map_count(control->queue.items);
}

void control_actions_deinit(struct control_actions *actions) {
    for (size_t i = 0; i < actions->count; i++)
        kube_object_unref(actions->items[i].object);
    free(actions->items);
    *actions = (struct control_actions){.items = NULL};
}
