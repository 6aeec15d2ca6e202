/* DaemonSet: a pod on every node that it fits (upstream: pkg/controller/daemon, 1.32).
 *
 * A pod is bound to its node by required node affinity to the node's name; the scheduler places it. It tolerates what befalls nodes (not-ready,
 * pressure, unschedulable), so it is there when others are sent away.
 *
 * One run: each node's pods are put right (missing made, failed ones deleted with a growing delay, superfluous ones deleted). When nothing was to be
 * put right, the rollout goes on: without surge, old pods are deleted as far as maxUnavailable allows, those that serve nobody first and for free;
 * with surge, a new pod is made beside the old one, which goes when the new one is available. Revisions: history.c. */
#include "control/history_priv.h"

static const struct history_options history_options = {.hash_label = LABEL_REVISION, .pods_bear_hash = true};

static bool selects(const struct kube_object *set, const struct kube_string_map *labels) {
    return kube_selector_matches(set->daemon_set->spec.selector, labels);
}

/* Heartbeats move nobody. */
static bool node_matters(const struct kube_object *node, const struct kube_object *old) {
    return !node || !old || !kube_equal(&kube_node_spec_type, &node->node->spec, &old->node->spec) ||
           !kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.labels = node->metadata->labels},
                       &(struct kube_object_meta){.labels = old->metadata->labels});
}

int daemon_set_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_daemon_set)
        return control_enqueue_object(control, CONTROLLER_DAEMON_SET, some);
    if (some->kind == &kube_kind_controller_revision)
        return control_enqueue_controller_of(control, CONTROLLER_DAEMON_SET, &kube_kind_daemon_set, some);
    if (some->kind == &kube_kind_pod)
        return control_enqueue_for_pod(control, CONTROLLER_DAEMON_SET, &kube_kind_daemon_set, object, old, selects);
    return some->kind == &kube_kind_node && node_matters(object, old)
               ? control_enqueue_all(control, CONTROLLER_DAEMON_SET, &kube_kind_daemon_set, NULL, NULL, NULL)
               : 0;
}

/* ---- one run ---- */

/* A node and the set's pods there, the oldest first. */
struct post {
    const struct kube_object *node;
    const struct kube_object **pods;
    size_t count;
    bool should_run, may_stay; /* a new pod; one that is there */
};
struct garrison {
    struct context *context;
    const struct kube_object *object;
    const struct kube_daemon_set *set;
    const char *hash; /* of the present template: what its pods bear */
    struct history history;
    struct managed_list pods;
    struct post *posts;
    size_t count;
    struct kube_pod_template_spec template; /* with what is added to each pod */
    int32_t max_surge, max_unavailable;
    size_t created, deleted;
};

static bool is_updated(const struct garrison *garrison, const struct kube_object *pod) {
    return same_text(kube_map_find(&pod->metadata->labels, LABEL_REVISION), garrison->hash);
}

static bool is_available(const struct garrison *garrison, const struct kube_object *pod) {
    int64_t wait_ms = 0;
    bool available = pod_is_available(pod->pod, garrison->set->spec.min_ready_seconds, garrison->context->wall_ns, &wait_ms);
    if (wait_ms)
        context_requeue(garrison->context, wait_ms);
    return available;
}

/* ---- the template of its pods ---- */

static const struct {
    const char *key, *effect;
    bool host_network_only;
} tolerated[] = {
    {"node.kubernetes.io/not-ready", "NoExecute", false},           {"node.kubernetes.io/unreachable", "NoExecute", false},
    {"node.kubernetes.io/disk-pressure", "NoSchedule", false},      {"node.kubernetes.io/memory-pressure", "NoSchedule", false},
    {"node.kubernetes.io/pid-pressure", "NoSchedule", false},       {"node.kubernetes.io/unschedulable", "NoSchedule", false},
    {"node.kubernetes.io/network-unavailable", "NoSchedule", true},
};

static bool has_toleration(const struct kube_toleration_array *list, const struct kube_toleration *wanted) {
    for (size_t i = 0; i < list->count; i++)
        if (kube_equal(&kube_toleration_type, &list->items[i], wanted))
            return true;
    return false;
}

static int prepare_template(struct garrison *garrison) {
    garrison->template = garrison->set->spec.template; /* shared; what follows replaces, and changes nothing in place */
    struct kube_pod_spec *spec = &garrison->template.spec;
    struct kube_toleration_array *list = &spec->tolerations;
    struct kube_toleration *items = ARENA_ARRAY(garrison->context->arena, struct kube_toleration, list->count + ARRAY_LEN(tolerated));
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    list->items = items;
    for (size_t i = 0; i < ARRAY_LEN(tolerated); i++) {
        struct kube_toleration toleration = {.key = tolerated[i].key, .operator= "Exists", .effect = tolerated[i].effect};
        if ((!tolerated[i].host_network_only || spec->host_network) && !has_toleration(list, &toleration))
            items[list->count++] = toleration;
    }
    return 0;
}

/* Each of the required terms holds for this node alone; without any, one term says so. */
static int bind_to_node(struct kube_object *pod, const char *node) {
    struct kube_pod_spec *spec = &pod->pod->spec;
    struct kube_affinity *affinity = spec->affinity ? spec->affinity : ARENA_NEW(pod->arena, struct kube_affinity);
    struct kube_node_affinity *on_nodes =
        affinity && affinity->node_affinity ? affinity->node_affinity : ARENA_NEW(pod->arena, struct kube_node_affinity);
    struct kube_node_selector_requirement *requirement = ARENA_NEW(pod->arena, struct kube_node_selector_requirement);
    const char **values = ARENA_NEW(pod->arena, const char *);
    struct kube_node_selector *selector = ARENA_NEW(pod->arena, struct kube_node_selector);
    struct kube_node_selector_term *term = ARENA_NEW(pod->arena, struct kube_node_selector_term);
    if (!affinity || !on_nodes || !requirement || !values || !selector || !term || !(values[0] = arena_strdup(pod->arena, node)))
        return -ENOMEM;
    *requirement = (struct kube_node_selector_requirement){.key = "metadata.name", .operator= "In", .values = {.items = values, .count = 1}};
    if (on_nodes->required_during_scheduling_ignored_during_execution)
        selector = on_nodes->required_during_scheduling_ignored_during_execution;
    if (selector->node_selector_terms.count == 0)
        selector->node_selector_terms = (struct kube_node_selector_term_array){.items = term, .count = 1};
    for (size_t i = 0; i < selector->node_selector_terms.count; i++)
        selector->node_selector_terms.items[i].match_fields = (struct kube_node_selector_requirement_array){.items = requirement, .count = 1};
    on_nodes->required_during_scheduling_ignored_during_execution = selector;
    affinity->node_affinity = on_nodes;
    spec->affinity = affinity;
    return 0;
}

/* ---- which nodes, which pods ---- */

static bool has_taint(const struct kube_object *node, const struct kube_pod_spec *pod, bool no_execute_only) {
    for (size_t i = 0; i < node->node->spec.taints.count; i++) {
        const struct kube_taint *taint = &node->node->spec.taints.items[i];
        bool counts = text_is(taint->effect, "NoExecute") || (!no_execute_only && text_is(taint->effect, "NoSchedule"));
        if (counts && !pod_tolerates(pod, taint))
            return true;
    }
    return false;
}

static void judge_node(const struct garrison *garrison, struct post *post) {
    const struct kube_pod_spec *pod = &garrison->template.spec;
    bool fits = (!pod->node_name || same_text(pod->node_name, post->node->metadata->name)) && pod_selects_node(pod, post->node);
    post->should_run = fits && !has_taint(post->node, pod, false);
    post->may_stay = fits && !has_taint(post->node, pod, true);
}

/* Where it is, or is to be. */
static const char *node_of(const struct kube_pod *pod) {
    if (pod->spec.node_name)
        return pod->spec.node_name;
    const struct kube_node_affinity *affinity = pod->spec.affinity ? pod->spec.affinity->node_affinity : NULL;
    const struct kube_node_selector *required = affinity ? affinity->required_during_scheduling_ignored_during_execution : NULL;
    for (size_t i = 0; required && i < required->node_selector_terms.count; i++) {
        const struct kube_node_selector_requirement_array *fields = &required->node_selector_terms.items[i].match_fields;
        for (size_t j = 0; j < fields->count; j++)
            if (text_is(fields->items[j].key, "metadata.name") && text_is(fields->items[j].operator, "In") && fields->items[j].values.count == 1)
                return fields->items[j].values.items[0];
    }
    return NULL;
}

static int compare_pods(const void *left, const void *right) {
    const struct kube_object *a = *(const struct kube_object *const *)left, *b = *(const struct kube_object *const *)right;
    if (!a->pod->spec.node_name != !b->pod->spec.node_name)
        return a->pod->spec.node_name ? -1 : 1;
    int64_t difference = a->metadata->creation_timestamp.ns - b->metadata->creation_timestamp.ns;
    return difference ? (difference > 0) - (difference < 0) : strcmp(a->metadata->name, b->metadata->name);
}

static void collect(struct garrison *garrison) {
    struct context *context = garrison->context;
    struct objects nodes = {.list = {.items = NULL}};
    context_list(context, &kube_kind_node, NULL, &nodes);
    garrison->posts = ARENA_ARRAY(context->arena, struct post, nodes.list.count);
    for (size_t i = 0; garrison->posts && i < nodes.list.count; i++) {
        struct post *post = &garrison->posts[garrison->count++];
        post->node = nodes.list.items[i];
        post->pods = ARENA_ARRAY(context->arena, const struct kube_object *, garrison->pods.list.count);
        for (size_t j = 0; post->pods && j < garrison->pods.list.count; j++)
            if (same_text(node_of(garrison->pods.list.items[j].object->pod), post->node->metadata->name))
                post->pods[post->count++] = garrison->pods.list.items[j].object;
        if (!post->pods)
            context_fail(context);
        if (post->count)
            qsort(post->pods, post->count, sizeof *post->pods, compare_pods);
        judge_node(garrison, post);
    }
    if (!garrison->posts)
        context_fail(context);
    objects_deinit(&nodes);
}

/* maxUnavailable and maxSurge round up, of the nodes that are to have a pod; both zero would never move. */
static void resolve_bounds(struct garrison *garrison) {
    const struct kube_rolling_update_daemon_set *rolling = garrison->set->spec.update_strategy.rolling_update;
    int desired = 0, surge = 0, unavailable = 1;
    for (size_t i = 0; i < garrison->count; i++)
        desired += garrison->posts[i].should_run;
    if (rolling && rolling->max_surge)
        kube_int_or_percent(rolling->max_surge, desired, true, &surge);
    if (rolling && rolling->max_unavailable)
        kube_int_or_percent(rolling->max_unavailable, desired, true, &unavailable);
    garrison->max_surge = surge;
    garrison->max_unavailable = surge == 0 && unavailable == 0 ? 1 : unavailable;
}

static bool is_rolling(const struct garrison *garrison) {
    return !text_is(garrison->set->spec.update_strategy.type, "OnDelete");
}

static bool allows_surge(const struct garrison *garrison) {
    return is_rolling(garrison) && garrison->max_surge > 0;
}

/* ---- acts ---- */

static void create_pod(struct garrison *garrison, const struct post *post) {
    struct context *context = garrison->context;
    if (garrison->created >= CREATES_PER_RECONCILE_MAX)
        return;
    struct kube_object *pod = pod_from_template(context, &garrison->template, garrison->object);
    if (!pod)
        return;
    if (kube_map_set(&pod->metadata->labels, pod->arena, LABEL_REVISION, garrison->hash) < 0 || bind_to_node(pod, post->node->metadata->name) < 0) {
        kube_object_unref(pod);
        context_fail(context);
        return;
    }
    const char *failure = garrison->created == 0 ? context_failure(context) : NULL, *name = arena_strdup(context->arena, pod->metadata->name);
    if (failure)
        context_event(context, garrison->object, "Warning", "FailedCreate", "Error creating: %s", failure);
    context_create(context, pod);
    context_event(context, garrison->object, "Normal", "SuccessfulCreate", "Created pod: %s", name);
    garrison->created++;
}

static void delete_pod(struct garrison *garrison, const struct kube_object *pod) {
    context_delete(garrison->context, pod, NULL, -1);
    context_event(garrison->context, garrison->object, "Normal", "SuccessfulDelete", "Deleted pod: %s", pod->metadata->name);
    garrison->deleted++;
}

/* A node may refuse the pod each time: not at once again. */
static void delete_failed(struct garrison *garrison, const struct post *post, const struct kube_object *pod) {
    struct context *context = garrison->context;
    struct backoffs *backoffs = &context->control->failed_daemons;
    const char *key = arena_printf(context->arena, "%s/%s", garrison->object->metadata->uid, post->node->metadata->name);
    int64_t left_ns = key ? backoffs_left_ns(backoffs, key, context->wall_ns) : 0;
    if (left_ns > 0) {
        context_requeue(context, left_ns / NS_PER_MS + 1);
        return;
    }
    if (!key || backoffs_add(backoffs, key, context->wall_ns) < 0) {
        context_fail(context);
        return;
    }
    context_event(context, garrison->object, "Warning", "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it",
                  pod->metadata->namespace, pod->metadata->name, post->node->metadata->name);
    delete_pod(garrison, pod);
}

static void delete_succeeded(struct garrison *garrison, const struct post *post, const struct kube_object *pod) {
    context_event(garrison->context, garrison->object, "Normal", "SucceededDaemonPod",
                  "Found succeeded daemon pod %s/%s on node %s, will try to delete it", pod->metadata->namespace, pod->metadata->name,
                  post->node->metadata->name);
    delete_pod(garrison, pod);
}

/* ---- each node's pods ---- */

/* Two may be there while a new one takes over; all others go: of each sort the oldest stays, but rather one that serves. */
static void prune_surge(struct garrison *garrison, const struct kube_object *const *running, size_t count) {
    const struct kube_object *newer = NULL, *older = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct kube_object **place = is_updated(garrison, running[i]) ? &newer : &older;
        if (!*place || (!kube_pod_is_ready((*place)->pod) && kube_pod_is_ready(running[i]->pod)))
            *place = running[i];
    }
    for (size_t i = 0; i < count; i++)
        if (running[i] != newer && running[i] != older)
            delete_pod(garrison, running[i]);
    if (newer && older && (!kube_pod_is_ready(older->pod) || is_available(garrison, newer)))
        delete_pod(garrison, older);
}

static void keep_post(struct garrison *garrison, const struct post *post) {
    const struct kube_object **running = ARENA_ARRAY(garrison->context->arena, const struct kube_object *, post->count);
    size_t count = 0;
    if (!running) {
        context_fail(garrison->context);
        return;
    }
    for (size_t i = 0; i < post->count; i++) {
        const struct kube_object *pod = post->pods[i];
        if (is_deleting(pod))
            continue;
        if (text_is(pod->pod->status.phase, "Failed"))
            delete_failed(garrison, post, pod);
        else if (text_is(pod->pod->status.phase, "Succeeded"))
            delete_succeeded(garrison, post, pod);
        else
            running[count++] = pod;
    }
    if (!allows_surge(garrison))
        for (size_t i = 1; i < count; i++)
            delete_pod(garrison, running[i]);
    else if (count == 0 && post->should_run)
        create_pod(garrison, post);
    else
        prune_surge(garrison, running, count);
}

static void manage(struct garrison *garrison) {
    for (size_t i = 0; i < garrison->count && !garrison->context->error; i++) {
        const struct post *post = &garrison->posts[i];
        if (post->should_run && post->count == 0)
            create_pod(garrison, post);
        else if (post->may_stay)
            keep_post(garrison, post);
        else
            for (size_t j = 0; j < post->count; j++)
                if (!is_deleting(post->pods[j]))
                    delete_pod(garrison, post->pods[j]);
    }
}

/* Bound to a node that is no more, and never placed: nobody else removes it. */
static void delete_lost(struct garrison *garrison) {
    for (size_t i = 0; i < garrison->pods.list.count; i++) {
        const struct kube_object *pod = garrison->pods.list.items[i].object;
        const char *node = node_of(pod->pod);
        if (!pod->pod->spec.node_name && node && !is_deleting(pod) && !context_get(garrison->context, &kube_kind_node, NULL, node))
            delete_pod(garrison, pod);
    }
}

/* ---- another template ---- */

/* The new and the old pod of a node; false: there are more than one of a sort, which is for `manage` to put right. */
static bool find_pair(const struct garrison *garrison, const struct post *post, const struct kube_object **ret_new,
                      const struct kube_object **ret_old) {
    *ret_new = *ret_old = NULL;
    for (size_t i = 0; i < post->count; i++) {
        if (is_deleting(post->pods[i]))
            continue;
        const struct kube_object **place = is_updated(garrison, post->pods[i]) ? ret_new : ret_old;
        if (*place)
            return false;
        *place = post->pods[i];
    }
    return true;
}

static void roll_without_surge(struct garrison *garrison) {
    int32_t unavailable = 0;
    for (size_t i = 0; i < garrison->count; i++) {
        const struct kube_object *newer, *older;
        const struct post *post = &garrison->posts[i];
        if (!post->should_run && post->count == 0)
            continue;
        if (!find_pair(garrison, post, &newer, &older) || !newer == !older)
            unavailable++;
        else if (newer)
            unavailable += !is_available(garrison, newer);
        else if (!is_available(garrison, older)) {
            delete_pod(garrison, older); /* costs nothing more */
            unavailable++;               /* upstream does not count it, and so may go below the bound */
        }
    }
    for (size_t i = 0; i < garrison->count && unavailable < garrison->max_unavailable; i++) {
        const struct kube_object *newer, *older;
        if (!find_pair(garrison, &garrison->posts[i], &newer, &older) || newer || !older || !is_available(garrison, older))
            continue;
        delete_pod(garrison, older);
        unavailable++;
    }
}

static void roll_with_surge(struct garrison *garrison) {
    int32_t surge = 0;
    for (size_t i = 0; i < garrison->count; i++) {
        const struct kube_object *newer, *older;
        if (!find_pair(garrison, &garrison->posts[i], &newer, &older)) {
            surge++;
        } else if (older && newer) {
            if (!is_available(garrison, older) || is_available(garrison, newer))
                delete_pod(garrison, older);
            else
                surge++;
        } else if (older && !is_available(garrison, older) && garrison->posts[i].should_run) {
            create_pod(garrison, &garrison->posts[i]);
        }
    }
    for (size_t i = 0; i < garrison->count && surge < garrison->max_surge; i++) {
        const struct kube_object *newer, *older;
        if (!find_pair(garrison, &garrison->posts[i], &newer, &older) || newer || !older || !is_available(garrison, older) ||
            !garrison->posts[i].should_run)
            continue;
        create_pod(garrison, &garrison->posts[i]);
        surge++;
    }
}

/* ---- status ---- */

static void count_post(const struct garrison *garrison, const struct post *post, struct kube_daemon_set_status *status) {
    if (!post->should_run) {
        status->number_misscheduled += post->count > 0;
        return;
    }
    status->desired_number_scheduled++;
    if (post->count == 0)
        return;
    const struct kube_object *pod = post->pods[0];
    status->current_number_scheduled++;
    status->number_ready += kube_pod_is_ready(pod->pod);
    status->number_available += is_available(garrison, pod);
    status->updated_number_scheduled += is_updated(garrison, pod);
}

static void write_status(const struct garrison *garrison) {
    struct kube_object *copy = context_copy(garrison->context, garrison->object);
    if (!copy)
        return;
    struct kube_daemon_set_status *status = &copy->daemon_set->status, before = garrison->set->status;
    *status = (struct kube_daemon_set_status){
        .observed_generation = garrison->object->metadata->generation, .conditions = status->conditions, .collision_count = status->collision_count};
    if (garrison->history.collision_count != int32_or(status->collision_count, 0))
        status->collision_count = int32_new(copy->arena, garrison->history.collision_count);
    for (size_t i = 0; i < garrison->count; i++)
        count_post(garrison, &garrison->posts[i], status);
    status->number_unavailable = status->desired_number_scheduled - status->number_available;
    if (!kube_equal(&kube_daemon_set_status_type, status, &before))
        context_update_status(garrison->context, TAKE(copy));
    kube_object_unref(copy);
}

/* ---- one run ---- */

static void step(struct garrison *garrison) {
    bool going = is_deleting(garrison->object);
    garrison->hash = history_pod_label(&garrison->history, garrison->history.update);
    if (prepare_template(garrison) < 0)
        context_fail(garrison->context);
    if (garrison->context->error)
        return;
    collect(garrison);
    resolve_bounds(garrison);
    if (garrison->context->error)
        return;
    if (!going)
        history_write(&garrison->history);
    write_status(garrison);
    if (going)
        return;
    manage(garrison);
    delete_lost(garrison);
    if (is_rolling(garrison) && garrison->created + garrison->deleted == 0 && !garrison->context->error) {
        if (garrison->max_surge > 0)
            roll_with_surge(garrison);
        else
            roll_without_surge(garrison);
    }
    history_truncate(&garrison->history, int32_or(garrison->set->spec.revision_history_limit, 10), NULL, &garrison->pods);
}

void daemon_set_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    const struct kube_daemon_set_spec *spec = &object->daemon_set->spec;
    if (spec->selector && spec->selector->match_labels.count + spec->selector->match_expressions.count == 0) {
        context_event(context, object, "Warning", "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.");
        return;
    }
    struct garrison garrison = {.context = context, .object = object, .set = object->daemon_set};
    context_claim(context, &kube_kind_pod, object, spec->selector, NULL, &garrison.pods);
    history_collect(context, object, spec->selector, &spec->template, int32_or(object->daemon_set->status.collision_count, 0), &history_options,
                    &garrison.history);
    if (!context->error)
        step(&garrison);
    managed_flush(context, &garrison.pods);
    history_deinit(&garrison.history);
}
