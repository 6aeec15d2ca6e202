/* pods/eviction: a delete that asks the pod's disruption budget first (policy/v1; upstream: pkg/registry/core/pod/storage/eviction.go).
 *
 * Budget, mark and delete are three writes of one turn, each from the newest accepted version, so evictions that arrive together take from the budget
 * one after the other. status.disruptionsAllowed is lowered and the pod noted in status.disruptedPods; the controller brings both in line again. A
 * pod that does not run yet or any more, or that a budget does not count, goes without asking. */
#include "api/webhook_priv.h"

#include <stdio.h>

#define DISRUPTED_PODS_MAX 2000
#define BUDGETS_MAX 2 /* more than one is refused */

/* Webhooks are asked about the eviction, not about what it consists of: the three writes stay together. */
static const struct write_options quiet_status = {.status = true, .subresource = "status", .unasked = true};

struct budgets {
    struct api *api;
    const struct kube_object *pod;
    struct kube_object *found[BUDGETS_MAX]; /* references */
    size_t count;
};

static bool keep_if_it_selects(void *userdata, struct store_object *stored) {
    struct budgets *budgets = userdata;
    struct kube_object *object = api_decode(budgets->api, stored);
    if (!object || !kube_selector_matches(object->pod_disruption_budget->spec.selector, &budgets->pod->metadata->labels))
        return true;
    const struct kube_object_meta *metadata = object->metadata;
    struct kube_object *newest = api_stored_get(budgets->api, &kube_kind_pod_disruption_budget, metadata->namespace, metadata->name);
    if (newest)
        budgets->found[budgets->count++] = newest;
    return budgets->count < BUDGETS_MAX;
}

static void budgets_deinit(struct budgets *budgets) {
    for (size_t i = 0; i < budgets->count; i++)
        kube_object_unref(budgets->found[i]);
}

/* Nobody waits for it: it does not serve. */
static bool needs_no_budget(const struct kube_object *pod) {
    const char *phase = pod->pod->status.phase ? pod->pod->status.phase : "";
    return pod->metadata->deletion_timestamp.set || !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed") || !strcmp(phase, "Pending");
}

static bool text_is(const char *text, const char *expected) {
    return text && !strcmp(text, expected);
}

/* A pod that is not ready takes nothing from a budget that has enough without it. */
static bool is_not_counted(const struct kube_object *pod, const struct kube_pod_disruption_budget *budget) {
    if (kube_pod_is_ready(pod->pod))
        return false;
    if (text_is(budget->spec.unhealthy_pod_eviction_policy, "AlwaysAllow"))
        return true;
    return budget->status.current_healthy >= budget->status.desired_healthy && budget->status.desired_healthy > 0;
}

static int refuse(struct api_failure *failure, int retry_after_s, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int refuse(struct api_failure *failure, int retry_after_s, const char *format, ...) {
    char why[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    api_fail(failure, 429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.");
    failure->retry_after_s = retry_after_s;
    diag_cause(&failure->diag, "DisruptionBudget", "", "%s", why);
    return 429;
}

static int check_budget(const struct kube_object *object, struct api_failure *failure) {
    const struct kube_pod_disruption_budget *budget = object->pod_disruption_budget;
    const char *name = object->metadata->name;
    if (budget->status.observed_generation < object->metadata->generation)
        return refuse(failure, 10, "The disruption budget %s is still being processed by the server.", name);
    if (budget->status.disruptions_allowed < 0)
        return api_fail_forbidden(failure, object->kind, name, "pdb disruptions allowed is negative");
    if (budget->status.disrupted_pods.count > DISRUPTED_PODS_MAX)
        return api_fail_forbidden(failure, object->kind, name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    if (budget->status.disruptions_allowed > 0)
        return 0;
    for (size_t i = 0; i < budget->status.conditions.count; i++)
        if (text_is(budget->status.conditions.items[i].reason, "SyncFailed"))
            return refuse(failure, 0, "%s", budget->status.conditions.items[i].message);
    return refuse(failure, 0, "The disruption budget %s needs %d healthy pods and has %d currently", name, budget->status.desired_healthy,
                  budget->status.current_healthy);
}

/* Into the map, which is kept in order. */
static int note_pod(struct kube_object *budget, const char *pod, int64_t now_ns) {
    struct kube_time_map *map = &budget->pod_disruption_budget->status.disrupted_pods;
    struct kube_time_pair *items = ARENA_ARRAY(budget->arena, struct kube_time_pair, map->count + 1);
    size_t at = 0;
    if (!items)
        return -ENOMEM;
    while (at < map->count && strcmp(map->items[at].key, pod) < 0)
        at++;
    bool there = at < map->count && !strcmp(map->items[at].key, pod);
    if (map->count) {
        memcpy(items, map->items, at * sizeof *items);
        memcpy(items + at + 1, map->items + at + there, (map->count - at - there) * sizeof *items);
    }
    items[at] = (struct kube_time_pair){arena_strdup(budget->arena, pod), {.ns = now_ns / 1000000000 * 1000000000, .set = true}};
    *map = (struct kube_time_map){items, map->count + !there};
    return items[at].key ? 0 : -ENOMEM;
}

static int take_from(struct api *api, const struct kube_object *budget, const struct kube_object *pod, bool dry_run, struct api_failure *failure) {
    int code = check_budget(budget, failure);
    if (code || dry_run)
        return code;
    CLEANUP(kube_object_unrefp) struct kube_object *copy = kube_object_copy(budget);
    if (!copy || note_pod(copy, pod->metadata->name, loop_wall_ns(api->loop)))
        return api_fail_no_memory(failure);
    copy->pod_disruption_budget->status.disruptions_allowed--;
    return api_write_update(api, TAKE(copy), &quiet_status, NULL, NULL, failure);
}

/* Says in the pod's status why it goes. */
static int mark_pod(struct api *api, const struct kube_object *pod, struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *copy = kube_object_copy(pod);
    struct kube_pod_condition_array *list = copy ? &copy->pod->status.conditions : NULL;
    struct kube_pod_condition *items = copy ? ARENA_ARRAY(copy->arena, struct kube_pod_condition, list->count + 1) : NULL;
    size_t at = 0;
    if (!items)
        return api_fail_no_memory(failure);
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    while (at < list->count && !text_is(items[at].type, "DisruptionTarget"))
        at++;
    items[at] = (struct kube_pod_condition){
        .type = "DisruptionTarget",
        .observed_generation = copy->metadata->generation,
        .status = "True",
        .reason = "EvictionByEvictionAPI",
        .message = "Eviction API: evicting",
        .last_transition_time = {.ns = loop_wall_ns(api->loop) / 1000000000 * 1000000000, .set = true},
    };
    *list = (struct kube_pod_condition_array){items, MAX(list->count, at + 1)};
    copy->metadata->resource_version = NULL;
    return api_write_update(api, TAKE(copy), &quiet_status, NULL, NULL, failure);
}

static int ask_budgets(struct api *api, const struct kube_object *pod, bool dry_run, struct api_failure *failure) {
    struct budgets budgets = {.api = api, .pod = pod};
    struct slice none = {NULL, 0};
    if (needs_no_budget(pod))
        return 0;
    store_list(api->store, api_kind_slice(&kube_kind_pod_disruption_budget), slice_of(pod->metadata->namespace), none, none, keep_if_it_selects,
               &budgets);
    int code = 0;
    if (budgets.count > 1)
        code = api_fail(failure, 500, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.");
    else if (budgets.count == 1 && !is_not_counted(pod, budgets.found[0]->pod_disruption_budget))
        code = take_from(api, budgets.found[0], pod, dry_run, failure);
    budgets_deinit(&budgets);
    return code || dry_run ? code : mark_pod(api, pod, failure);
}

static int evict(struct request *request, const struct tree *eviction, struct api_failure *failure) {
    const struct api_route *route = &request->route;
    const struct tree *given = tree_find(eviction, "deleteOptions");
    const char *name = tree_text_or(tree_path(eviction, "metadata.name"), route->name);
    const struct api_delete_options options = {
        .grace_seconds = tree_int_or(tree_find(given, "gracePeriodSeconds"), -1),
        .propagation = tree_text_or(tree_find(given, "propagationPolicy"), NULL),
        .uid = tree_text_or(tree_path(given, "preconditions.uid"), NULL),
        .resource_version = tree_text_or(tree_path(given, "preconditions.resourceVersion"), NULL),
        .dry_run = api_request_dry_run(request) || tree_count(tree_find(given, "dryRun")),
        .user = &request->user,
        .unasked = true,
    };
    if (strcmp(name, route->name))
        return api_fail_bad_request(failure, "name in URL does not match name in Eviction object: %.253s", name);
    CLEANUP(kube_object_unrefp) struct kube_object *pod = NULL;
    int code = api_stored_find(request->api, &kube_kind_pod, route->namespace, route->name, &pod, failure);
    if (!code && options.uid && !text_is(pod->metadata->uid, options.uid)) /* before the budget pays for it */
        code = api_write_delete(request->api, &kube_kind_pod, route->namespace, route->name, &options, NULL, NULL, failure);
    if (!code)
        code = ask_budgets(request->api, pod, options.dry_run, failure);
    return code ? code : api_write_delete(request->api, &kube_kind_pod, route->namespace, route->name, &options, api_answer_status, request, failure);
}

/* --- what webhooks say comes first --- */

static void answer(struct request *request, int code, const struct api_failure *failure) {
    if (!code)
        return; /* the write will */
    api_respond_failure(request, failure);
    api_request_release(request);
}

static void on_asked(void *userdata, const struct api_failure *refused, struct kube_object *object) {
    struct request *request = userdata;
    struct api_failure failure;
    (void)object;
    if (refused)
        answer(request, refused->code, refused);
    else
        answer(request, evict(request, request->extra, &failure), &failure);
}

static int ask_webhooks(struct request *request, struct tree *eviction, struct api_failure *failure) {
    const struct api_route *route = &request->route;
    const struct webhook_matter matter = {
        .operation = ADMIT_CREATE,
        .kind = request->kind,
        .subresource = route->subresource,
        .namespace = route->namespace,
        .name = route->name,
        .user = &request->user,
        .reader = request,
        .dry_run = api_request_dry_run(request) || tree_count(tree_path(eviction, "deleteOptions.dryRun")),
        .document_version = "policy/v1",
        .document_kind = "Eviction",
        .document = eviction,
        .done = on_asked,
        .userdata = request,
    };
    request->extra = eviction;
    return webhooks_ask(request->api, &matter, failure);
}

void api_on_eviction_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct tree *eviction = NULL;
    api_request_hold(request);
    int code = api_body_parse(request, body, &eviction, &failure);
    if (!code)
        code = ask_webhooks(request, eviction, &failure);
    if (code == WEBHOOKS_ASKED)
        return;
    if (!code)
        code = evict(request, eviction, &failure);
    answer(request, code, &failure);
}
