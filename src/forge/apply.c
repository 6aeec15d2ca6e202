/* Applying manifests from a pipeline, and waiting until what was applied runs.
 *
 *   read all (substitute variables, parse, check) ─► for each: GET, then POST or PATCH ─► wait for the Deployments' rollouts ─► done
 *
 * Invariants
 * 1. Nothing is changed before every manifest was read and understood: an unknown field in the last file stops the first.
 * 2. Only namespaced kinds, only in the application's own namespace.
 * 3. Changing follows `kubectl apply`: what the manifest says is set, what the last applied one said and this one does not is removed, everything
 * else is left alone. The last applied manifest is kept in kubectl's own annotation, so that both can be used on the same objects. Lists are replaced
 * as a whole.
 * 4. The waiting ends: by success, by a pod that cannot start, by the Deployment's progress deadline, or after ROLLOUT_TIMEOUT_MS. */
#include "forge/forge_priv.h"

#include <stdio.h>

#include "forge/manifest_priv.h"

#define APPLY_ARENA_BYTES_MAX (64 * MIB)
#define ROLLOUT_TIMEOUT_MS (10 * 60 * 1000)
#define CRASHES_MAX 3
#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

struct apply {
    struct operation base;
    struct arena *arena;
    char app[APP_NAME_MAX + 1];
    struct work_handlers handlers;
    void *userdata;
    struct manifests manifests;
    size_t at;
    struct tree *live; /* the object before the change; NULL: absent */
    struct informer *deployments, *pods;
    struct loop_timer timeout;
    struct loop_defer ending;
    int exit_code;
    int64_t started_ms;
    bool ended;
};

static void destroy(struct operation *base) {
    struct apply *apply = CONTAINER_OF(base, struct apply, base);
    loop_timer_cancel(&apply->timeout);
    loop_defer_cancel(&apply->ending);
    informer_free(apply->deployments);
    informer_free(apply->pods);
    arena_free(apply->arena);
    free(apply);
}

void apply_cancel(struct apply *apply) {
    if (apply)
        operation_end(&apply->base);
}

static void say(struct apply *apply, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct apply *apply, const char *format, ...) {
    char line[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    apply->handlers.on_output(apply->userdata, slice_make(line, (size_t)MIN(MAX(len, 0), (int)sizeof line - 1)));
}

static void on_ending(void *userdata) {
    struct apply *apply = userdata;
    struct work_handlers handlers = apply->handlers;
    void *owner = apply->userdata;
    int exit_code = apply->exit_code;
    operation_end(&apply->base);
    handlers.on_done(owner, exit_code);
}

/* Always later, so that no caller is surprised within its own call. */
static void end(struct apply *apply, int exit_code) {
    apply->ended = true;
    apply->exit_code = exit_code;
    loop_defer_schedule(&apply->ending);
}

/* --- what was applied before, and what to change --- */

/* Keys of `last` that `now` does not have any more become null, which a merge patch takes for "remove". */
static int add_removals(struct arena *arena, struct tree *now, const struct tree *last) {
    int error = 0;
    for (size_t i = 0; !error && i < tree_count(last); i++) {
        const struct tree_entry *entry = &last->children->items[i];
        struct tree_entry *kept = tree_find_entry(now, entry->key);
        if (!kept)
            error = tree_set(arena, now, entry->key, tree_null(arena));
        else if (kept->value->type == TREE_MAP && entry->value->type == TREE_MAP)
            error = add_removals(arena, kept->value, entry->value);
    }
    return error;
}

static struct tree *annotations_of(struct arena *arena, struct tree *object) {
    struct tree *metadata = tree_find(object, "metadata"), *annotations = tree_find(metadata, "annotations");
    if (annotations && annotations->type == TREE_MAP)
        return annotations;
    annotations = tree_map(arena);
    return annotations && tree_set(arena, metadata, SLICE("annotations"), annotations) == 0 ? annotations : NULL;
}

/* The manifest with itself as annotation; against a live object also with the removals. */
static int request_body(struct apply *apply, const struct manifest *manifest, struct buffer *out) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MANIFESTS_BYTES_MAX);
    struct tree *body = tree_copy(apply->arena, manifest->object), *last = NULL;
    int error = body ? json_format(&text, manifest->object) : -ENOMEM;
    if (error)
        return error;
    const char *annotation = tree_text_or(tree_find(tree_path(apply->live, "metadata.annotations"), LAST_APPLIED), NULL);
    if (annotation && json_parse(apply->arena, slice_of(annotation), NULL, &last, NULL) == 0 && last->type == TREE_MAP)
        error = add_removals(apply->arena, body, last);
    struct tree *annotations = error ? NULL : annotations_of(apply->arena, body);
    if (!annotations || tree_set(apply->arena, annotations, SLICE(LAST_APPLIED), tree_string(apply->arena, buffer_slice(&text))))
        return -ENOMEM;
    return json_format(out, body);
}

/* --- one object after the other --- */

static void next(struct apply *apply);
static void wait_for_rollouts(struct apply *apply);

static void fail(struct apply *apply, const struct diag *diag) {
    const struct manifest *manifest = &apply->manifests.items[apply->at];
    say(apply, "%s:%u: %s \"%s\" was refused: %s\n", manifest->file, manifest->object->line, manifest->kind->kind, manifest->name, diag->message);
    for (int i = 0; i < MIN(diag->causes_count, DIAG_CAUSES_MAX); i++)
        say(apply, "  %s: %s\n", diag->causes[i].field, diag->causes[i].message);
    end(apply, 1);
}

static void on_changed(void *userdata, const struct http_answer *answer) {
    struct apply *apply = userdata;
    struct manifest *manifest = &apply->manifests.items[apply->at];
    struct diag diag = DIAG_INIT;
    struct tree *object = NULL;
    apply->base.request = NULL;
    if (client_check(answer, &diag)) {
        fail(apply, &diag);
        return;
    }
    if (json_parse(apply->arena, answer->body, NULL, &object, NULL) == 0)
        manifest->generation = tree_int_or(tree_path(object, "metadata.generation"), 0);
    const char *before = tree_text_or(tree_path(apply->live, "metadata.resourceVersion"), ""),
               *after = tree_text_or(tree_path(object, "metadata.resourceVersion"), "");
    say(apply, "%s/%s %s\n", kube_kind_key(manifest->kind), manifest->name,
        !apply->live                 ? "created"
        : strcmp(before, after) == 0 ? "unchanged"
                                     : "configured");
    apply->at++;
    next(apply);
}

static void on_live(void *userdata, const struct http_answer *answer) {
    struct apply *apply = userdata;
    const struct manifest *manifest = &apply->manifests.items[apply->at];
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(MANIFESTS_BYTES_MAX);
    struct diag diag = DIAG_INIT;
    apply->base.request = NULL;
    int error = client_check(answer, &diag);
    apply->live = NULL;
    if (!error)
        error = json_parse(apply->arena, answer->body, NULL, &apply->live, &diag);
    else if (error == -ENOENT)
        error = 0;
    if (!error && request_body(apply, manifest, &body))
        error = diag_set(&diag, -ENOMEM, "the manifest is too large");
    if (!error) {
        const char *target = client_path(apply->arena, manifest->kind, apply->app, apply->live ? manifest->name : NULL, NULL);
        target = target ? arena_printf(apply->arena, "%s?fieldManager=tidemill&fieldValidation=Strict", target) : NULL;
        error = target ? operation_request(&apply->base, apply->live ? "PATCH" : "POST", target,
                                           apply->live ? "application/merge-patch+json" : "application/json", buffer_slice(&body), on_changed)
                       : -ENOMEM;
        if (error)
            diag_set(&diag, error, "%s", strerror(-error));
    }
    if (error)
        fail(apply, &diag);
}

static void next(struct apply *apply) {
    if (apply->at >= apply->manifests.count) {
        wait_for_rollouts(apply);
        return;
    }
    const struct manifest *manifest = &apply->manifests.items[apply->at];
    const char *target = client_path(apply->arena, manifest->kind, apply->app, manifest->name, NULL);
    struct diag diag = DIAG_INIT;
    int error = target ? operation_request(&apply->base, "GET", target, NULL, (struct slice){0}, on_live) : -ENOMEM;
    if (error) {
        diag_set(&diag, error, "%s", strerror(-error));
        fail(apply, &diag);
    }
}

/* --- rollouts --- */

static void say_addresses(struct apply *apply) {
    const struct forge_options *options = &apply->base.forge->options;
    for (size_t i = 0; i < apply->manifests.count; i++) {
        const struct manifest *manifest = &apply->manifests.items[i];
        const struct tree *rules = manifest->kind == &kube_kind_ingress ? tree_path(manifest->object, "spec.rules") : NULL;
        for (size_t k = 0; k < tree_count(rules); k++) {
            const char *host = tree_text_or(tree_find(tree_at(rules, k), "host"), NULL);
            const char *port =
                options->gateway_port == 80 || options->gateway_port == 0 ? "" : arena_printf(apply->arena, ":%d", options->gateway_port);
            const char *url = host && port ? arena_printf(apply->arena, "http://%s%s/", host, port) : NULL;
            if (!url)
                continue;
            say(apply, "%s\n", url);
            if (apply->handlers.on_address)
                apply->handlers.on_address(apply->userdata, url);
        }
    }
}

/* Where the rollout stands, in kubectl's terms; NULL: done. *ret_failed: it will not get any further. */
static const char *rollout_state(const struct kube_deployment *deployment, int64_t generation, char *text, size_t size, bool *ret_failed) {
    const struct kube_deployment_status *status = &deployment->status;
    int replicas = deployment->spec.replicas ? *deployment->spec.replicas : 1;
    *ret_failed = false;
    if (deployment->metadata.generation < generation || status->observed_generation < deployment->metadata.generation) {
        snprintf(text, size, "waiting to be observed");
        return text;
    }
    for (size_t i = 0; i < status->conditions.count; i++) {
        const struct kube_deployment_condition *condition = &status->conditions.items[i];
        *ret_failed |= strcmp(condition->type, "Progressing") == 0 && condition->reason && strcmp(condition->reason, "ProgressDeadlineExceeded") == 0;
    }
    if (*ret_failed)
        snprintf(text, size, "exceeded its progress deadline");
    else if (status->updated_replicas < replicas)
        snprintf(text, size, "%d of %d new replicas exist", status->updated_replicas, replicas);
    else if (status->available_replicas < status->updated_replicas)
        snprintf(text, size, "%d of %d new replicas are available", status->available_replicas, status->updated_replicas);
    else if (status->replicas > status->updated_replicas)
        snprintf(text, size, "%d old replicas are ending", status->replicas - status->updated_replicas);
    else
        return NULL;
    return text;
}

static void look_at_rollouts(struct apply *apply) {
    bool all = true;
    for (size_t i = 0; !apply->ended && i < apply->manifests.count; i++) {
        struct manifest *manifest = &apply->manifests.items[i];
        char text[sizeof manifest->progress];
        bool failed = false;
        if (manifest->kind != &kube_kind_deployment || manifest->rolled_out)
            continue;
        struct kube_object *object = informer_find(apply->deployments, apply->app, manifest->name);
        const char *state = object ? rollout_state(object->deployment, manifest->generation, text, sizeof text, &failed) : "waiting to be observed";
        manifest->rolled_out = state == NULL;
        all &= manifest->rolled_out;
        if (strcmp(manifest->progress, state ? state : "is rolled out") == 0)
            continue;
        snprintf(manifest->progress, sizeof manifest->progress, "%s", state ? state : "is rolled out");
        say(apply, "deployment %s: %s\n", manifest->name, manifest->progress);
        if (failed)
            end(apply, 1);
    }
    if (!all || apply->ended)
        return;
    say_addresses(apply);
    end(apply, 0);
}

/* Of a container that does not get going: why, or NULL. */
static const struct kube_container_state_waiting *stuck(const struct kube_pod *pod) {
    static const char *const reasons[] = {"ErrImagePull",      "ImagePullBackOff",           "InvalidImageName",
                                          "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError",
                                          "RunContainerError"};
    for (size_t i = 0; i < pod->status.container_statuses.count; i++) {
        const struct kube_container_status *status = &pod->status.container_statuses.items[i];
        const struct kube_container_state_waiting *waiting = status->state.waiting;
        if (!waiting || !waiting->reason)
            continue;
        if (strcmp(waiting->reason, "CrashLoopBackOff") == 0 && status->restart_count >= CRASHES_MAX)
            return waiting;
        for (size_t k = 0; k < ARRAY_LEN(reasons); k++)
            if (strcmp(waiting->reason, reasons[k]) == 0)
                return waiting;
    }
    return NULL;
}

static bool is_ours(struct apply *apply, const struct kube_pod *pod) {
    if (pod->metadata.creation_timestamp.ns / 1000000 < apply->started_ms - 1000)
        return false; /* of the version before */
    for (size_t i = 0; i < apply->manifests.count; i++) {
        const struct manifest *manifest = &apply->manifests.items[i];
        struct kube_object *object =
            manifest->kind == &kube_kind_deployment && !manifest->rolled_out ? informer_find(apply->deployments, apply->app, manifest->name) : NULL;
        if (object && kube_selector_matches(object->deployment->spec.selector, &pod->metadata.labels))
            return true;
    }
    return false;
}

static void on_pod(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    (void)old;
    struct apply *apply = userdata;
    const struct kube_container_state_waiting *waiting = event == INFORMER_DELETED ? NULL : stuck(object->pod);
    if (apply->ended || !waiting || !is_ours(apply, object->pod))
        return;
    say(apply, "pod %s does not start: %s: %s\n", object->metadata->name, waiting->reason, waiting->message ? waiting->message : "");
    say(apply, "the pods that ran before keep serving; see `kubectl -n %s logs %s`\n", apply->app, object->metadata->name);
    end(apply, 1);
}

static void on_deployment(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    (void)event;
    (void)object;
    (void)old;
    struct apply *apply = userdata;
    if (!apply->ended && informer_synced(apply->deployments))
        look_at_rollouts(apply);
}

static void on_synced(void *userdata) {
    struct apply *apply = userdata;
    if (!apply->ended)
        look_at_rollouts(apply);
}

static void on_timeout(void *userdata) {
    struct apply *apply = userdata;
    say(apply, "the rollout took longer than %d minutes\n", ROLLOUT_TIMEOUT_MS / 60000);
    end(apply, 1);
}

static void wait_for_rollouts(struct apply *apply) {
    bool any = false;
    for (size_t i = 0; i < apply->manifests.count; i++)
        any |= apply->manifests.items[i].kind == &kube_kind_deployment;
    if (!any) {
        say_addresses(apply);
        end(apply, 0);
        return;
    }
    struct client *client = apply->base.forge->options.client;
    const struct informer_options deployments = {.namespace = apply->app, .on_event = on_deployment, .on_synced = on_synced, .userdata = apply};
    const struct informer_options pods = {.namespace = apply->app, .on_event = on_pod, .userdata = apply};
    int error = loop_timer_set(&apply->timeout, ROLLOUT_TIMEOUT_MS);
    if (!error)
        error = informer_new(client, &kube_kind_deployment, &deployments, &apply->deployments);
    if (!error)
        error = informer_new(client, &kube_kind_pod, &pods, &apply->pods);
    if (error) {
        say(apply, "the rollout cannot be watched: %s\n", strerror(-error));
        end(apply, 1);
    }
}

/* --- start --- */

int apply_start(struct forge *forge, const struct apply_request *request, const struct work_handlers *handlers, void *userdata, struct apply **ret) {
    struct apply *apply = calloc(1, sizeof *apply);
    if (!apply || !(apply->arena = arena_new(APPLY_ARENA_BYTES_MAX))) {
        free(apply);
        return -ENOMEM;
    }
    struct diag diag = DIAG_INIT;
    char text[2048];
    apply->handlers = *handlers;
    apply->userdata = userdata;
    apply->started_ms = forge_now_ms(forge);
    snprintf(apply->app, sizeof apply->app, "%s", request->app);
    loop_timer_init(&apply->timeout, forge->loop, on_timeout, apply);
    loop_defer_init(&apply->ending, forge->loop, on_ending, apply);
    operation_init(&apply->base, forge, NULL, destroy);
    *ret = apply;
    const struct manifest_source source = {.namespace = apply->app, .variables = request->variables};
    int error = request->tar.data ? manifests_read_tar(apply->arena, &source, request->tar, &apply->manifests, &diag)
                                  : manifests_read_text(apply->arena, &source, request->manifest_name, request->manifest, &apply->manifests, &diag);
    if (!error && apply->manifests.count == 0)
        error = diag_set(&diag, -ENOENT, "there is no manifest: files that end in .yaml, .yml or .json were expected");
    if (!error) {
        next(apply);
        return 0;
    }
    say(apply, "%s\n", diag_format(&diag, text, sizeof text));
    for (int i = 0; i < MIN(diag.causes_count, DIAG_CAUSES_MAX); i++)
        say(apply, "  %s: %s\n", diag.causes[i].field, diag.causes[i].message);
    say(apply, "nothing was changed\n");
    end(apply, 1);
    return 0;
}
