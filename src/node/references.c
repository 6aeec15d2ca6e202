/* Configuration maps, secrets and claims (with their volumes) that a pod names: fetched one after the other when the pod is taken on, kept as they
 * were then. A missing one that is not optional is asked for again with growing pauses; the pod waits meanwhile, as under kubelet. */
#include "node/node_priv.h"

#define REFERENCES_MAX 256

static int add(struct pod *pod, const struct kube_kind *kind, const char *name, const bool *optional, bool for_volume) {
    if (!name || !*name)
        return 0;
    for (size_t i = 0; i < pod->references_count; i++) {
        struct reference *known = &pod->references[i];
        if (known->kind == kind && strcmp(known->name, name) == 0) {
            known->optional = known->optional && optional && *optional;
            known->for_volume = known->for_volume || for_volume;
            return 0;
        }
    }
    if (pod->references_count == REFERENCES_MAX)
        return -E2BIG;
    pod->references[pod->references_count++] =
        (struct reference){.kind = kind, .name = name, .optional = optional && *optional, .for_volume = for_volume};
    return 0;
}

static int collect_container(struct pod *pod, const struct kube_container *container) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < container->env_from.count; i++) {
        const struct kube_env_from_source *from = &container->env_from.items[i];
        if (from->config_map_ref)
            r = add(pod, &kube_kind_config_map, from->config_map_ref->name, from->config_map_ref->optional, false);
        if (r == 0 && from->secret_ref)
            r = add(pod, &kube_kind_secret, from->secret_ref->name, from->secret_ref->optional, false);
    }
    for (size_t i = 0; r == 0 && i < container->env.count; i++) {
        const struct kube_env_var_source *from = container->env.items[i].value_from;
        if (from && from->config_map_key_ref)
            r = add(pod, &kube_kind_config_map, from->config_map_key_ref->name, from->config_map_key_ref->optional, false);
        if (r == 0 && from && from->secret_key_ref)
            r = add(pod, &kube_kind_secret, from->secret_key_ref->name, from->secret_key_ref->optional, false);
    }
    return r;
}

static int collect_projected(struct pod *pod, const struct kube_projected_volume_source *projected) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < projected->sources.count; i++) {
        const struct kube_volume_projection *source = &projected->sources.items[i];
        if (source->config_map)
            r = add(pod, &kube_kind_config_map, source->config_map->name, source->config_map->optional, true);
        if (r == 0 && source->secret)
            r = add(pod, &kube_kind_secret, source->secret->name, source->secret->optional, true);
    }
    return r;
}

int references_collect(struct pod *pod) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    int r = 0;
    pod->references = calloc(REFERENCES_MAX, sizeof *pod->references);
    if (!pod->references)
        return -ENOMEM;
    for (size_t i = 0; r == 0 && i < pod->units_count; i++)
        r = collect_container(pod, pod->units[i].spec);
    for (size_t i = 0; r == 0 && i < spec->volumes.count; i++) {
        const struct kube_volume *volume = &spec->volumes.items[i];
        if (volume->config_map)
            r = add(pod, &kube_kind_config_map, volume->config_map->name, volume->config_map->optional, true);
        if (r == 0 && volume->secret)
            r = add(pod, &kube_kind_secret, volume->secret->secret_name, volume->secret->optional, true);
        if (r == 0 && volume->projected)
            r = collect_projected(pod, volume->projected);
        if (r == 0)
            r = add(pod, &kube_kind_persistent_volume_claim, persistent_claim_name(pod, volume), NULL, true);
    }
    return r;
}

static struct reference *next_unanswered(const struct pod *pod) {
    for (size_t i = 0; i < pod->references_count; i++)
        if (!pod->references[i].answered)
            return &pod->references[i];
    return NULL;
}

/* A claim leads to its volume. -EAGAIN: not yet. */
static int follow_claim(struct pod *pod, struct reference *reference) {
    const struct kube_persistent_volume_claim *claim = reference->object->persistent_volume_claim;
    if (claim->spec.volume_name && claim->status.phase && strcmp(claim->status.phase, "Bound") == 0)
        return add(pod, &kube_kind_persistent_volume, claim->spec.volume_name, NULL, true);
    kube_object_unref(TAKE(reference->object));
    return -EAGAIN;
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct pod *pod = userdata;
    struct reference *reference = next_unanswered(pod);
    struct diag diag = DIAG_INIT;
    pod->fetch = NULL;
    if (!reference)
        return;
    int r = client_check(answer, &diag);
    if (r == 0)
        r = kube_decode_json(reference->kind, answer->body, KUBE_LENIENT, &reference->object, &diag);
    if (r == 0 && reference->kind == &kube_kind_persistent_volume_claim)
        r = follow_claim(pod, reference);
    if (r == 0 || (r == -ENOENT && reference->optional)) {
        reference->answered = true;
        pod->retry_ms = 0;
        pod_sync_later(pod);
        return;
    }
    if (r == -EAGAIN)
        event_pod(pod, NULL, "Warning", "FailedMount", "MountVolume.SetUp failed: persistentvolumeclaim \"%s\" is not bound", reference->name);
    if (r == -ENOENT && reference->for_volume)
        event_pod(pod, NULL, "Warning", "FailedMount", "MountVolume.SetUp failed: %s \"%s\" not found", reference->kind->singular, reference->name);
    else if (r == -ENOENT)
        event_pod(pod, NULL, "Warning", "Failed", "Error: %s \"%s\" not found", reference->kind->singular, reference->name);
    if (r == -ENOENT && !reference->for_volume && pod->units_count)
        snprintf(pod->waiting_reason, sizeof pod->waiting_reason, "CreateContainerConfigError");
    status_update(pod);
    pod->retry_ms = pod->retry_ms ? MIN(pod->retry_ms * 2, 30000) : 500;
    loop_timer_set(&pod->retry, pod->retry_ms);
}

bool references_ready(struct pod *pod) {
    struct reference *reference = next_unanswered(pod);
    if (!reference)
        return true;
    if (pod->fetch || loop_timer_is_set(&pod->retry))
        return false;
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    const char *path = arena ? client_path(arena, reference->kind, reference->kind->namespaced ? pod->namespace : NULL, reference->name, NULL) : NULL;
    const struct http_request_options options = {.method = "GET", .target = path};
    int r = path ? http_client_send(client_http(pod->node->client), &options, on_answer, pod, &pod->fetch) : -ENOMEM;
    if (r < 0)
        loop_timer_set(&pod->retry, 1000);
    return false;
}

const struct kube_object *references_find(const struct pod *pod, const struct kube_kind *kind, const char *name) {
    for (size_t i = 0; name && i < pod->references_count; i++)
        if (pod->references[i].kind == kind && strcmp(pod->references[i].name, name) == 0)
            return pod->references[i].object;
    return NULL;
}

void references_free(struct pod *pod) {
    http_request_cancel(pod->fetch);
    pod->fetch = NULL;
    for (size_t i = 0; i < pod->references_count; i++)
        kube_object_unref(pod->references[i].object);
    free(pod->references);
    pod->references = NULL;
    pod->references_count = 0;
}
