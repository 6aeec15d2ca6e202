/* Configuration maps, secrets, claims (with their volumes) and the runtime class that a pod names. Each is watched (watched.c) as long as the pod
 * lives. A pod waits for its class and for what its volumes need; what only a container's environment needs keeps that container alone from starting.
 */
#include "node/node_priv.h"

#define REFERENCES_MAX 256
#define PAUSE_FIRST_MS 500 /* between two words about something that is missing: upstream's */
#define PAUSE_MAX_MS 122000

static int add(struct pod *pod, const struct kube_kind *kind, const char *name, const bool *optional, bool for_volume) {
    if (!name || !*name)
        return 0;
    for (size_t i = 0; i < pod->references.count; i++) {
        struct reference *known = &pod->references.items[i];
        if (known->kind == kind && strcmp(known->name, name) == 0) {
            known->optional = known->optional && optional && *optional;
            known->for_volume = known->for_volume || for_volume;
            return 0;
        }
    }
    if (pod->references.count == REFERENCES_MAX)
        return -E2BIG;
    struct reference reference = {.kind = kind, .name = strdup(name), .optional = optional && *optional, .for_volume = for_volume};
    if (!reference.name || VECTOR_PUSH(&pod->references, reference) < 0) {
        free(reference.name);
        return -ENOMEM;
    }
    return 0;
}

int references_collect_container(struct pod *pod, const struct kube_container *container) {
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
    for (size_t i = 0; r == 0 && i < pod->units_count; i++)
        r = references_collect_container(pod, pod->units[i]->spec);
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
    return r == 0 ? add(pod, &kube_kind_runtime_class, spec->runtime_class_name, NULL, true) : r;
}

static bool is_named(const char *a, const char *b) {
    return a && strcmp(a, b) == 0;
}

static bool names(const struct pod *pod, const struct kube_volume *volume, const struct reference *reference) {
    const char *name = reference->name;
    if (reference->kind == &kube_kind_persistent_volume_claim)
        return is_named(persistent_claim_name(pod, volume), name);
    bool is_map = reference->kind == &kube_kind_config_map;
    if (is_map ? volume->config_map && is_named(volume->config_map->name, name) : volume->secret && is_named(volume->secret->secret_name, name))
        return true;
    for (size_t i = 0; volume->projected && i < volume->projected->sources.count; i++) {
        const struct kube_volume_projection *source = &volume->projected->sources.items[i];
        if (is_map ? source->config_map && is_named(source->config_map->name, name) : source->secret && is_named(source->secret->name, name))
            return true;
    }
    return false;
}

/* What keeps the pod or a volume from being set up, told again and again as long as it is so: events live for an hour. */
static bool missing(struct pod *pod, struct reference *reference) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    bool is_unbound = reference->kind == &kube_kind_persistent_volume_claim && watched_object(reference->watched);
    int64_t now_ms = loop_now_ns(pod->node->loop) / 1000000;
    bool is_due = now_ms >= reference->tell_ms;
    if (is_due) {
        reference->pause_ms = reference->pause_ms ? MIN(2 * reference->pause_ms, PAUSE_MAX_MS) : PAUSE_FIRST_MS;
        reference->tell_ms = now_ms + reference->pause_ms;
    }
    if (is_due && reference->kind == &kube_kind_runtime_class)
        event_pod(pod, NULL, "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: runtimeclass.node.k8s.io \"%s\" not found",
                  reference->name);
    for (size_t i = 0; is_due && i < volumes->count; i++)
        if (names(pod, &volumes->items[i], reference))
            event_pod(pod, NULL, "Warning", "FailedMount", "MountVolume.SetUp failed for volume \"%s\" : %s \"%s\" %s", volumes->items[i].name,
                      reference->kind->singular, reference->name, is_unbound ? "is not bound" : "not found");
    return false;
}

/* A claim leads to its volume. False: it is not bound yet. */
static bool follow_claim(struct pod *pod, struct reference *reference) {
    const struct kube_persistent_volume_claim *claim = watched_object(reference->watched)->persistent_volume_claim;
    if (!claim->spec.volume_name || !claim->status.phase || strcmp(claim->status.phase, "Bound") != 0)
        return missing(pod, reference);
    if (add(pod, &kube_kind_persistent_volume, claim->spec.volume_name, NULL, true) < 0) {
        pod_retry(pod);
        return false;
    }
    return true;
}

static bool is_ready(struct pod *pod, size_t index) {
    struct reference *reference = &pod->references.items[index];
    bool is_claim = reference->kind == &kube_kind_persistent_volume_claim;
    if (!reference->watched)
        reference->watched = watched_get(pod->node, reference->kind, pod->namespace, reference->name);
    if (!reference->watched) {
        pod_retry(pod);
        return false;
    }
    if (!watched_is_known(reference->watched))
        return false;
    if (!watched_object(reference->watched))
        return reference->optional || !reference->for_volume || missing(pod, reference);
    if (is_claim && !follow_claim(pod, reference)) /* may move the list */
        return false;
    reference = &pod->references.items[index];
    reference->tell_ms = reference->pause_ms = 0;
    if (is_claim || reference->kind == &kube_kind_persistent_volume)
        watched_freeze(reference->watched);
    return true;
}

bool references_ready(struct pod *pod) {
    bool ready = true;
    for (size_t i = 0; i < pod->references.count; i++) /* all are asked for at once */
        ready = is_ready(pod, i) && ready;
    return ready;
}

int64_t references_pause_ms(const struct pod *pod) {
    int64_t next_ms = INT64_MAX;
    for (size_t i = 0; i < pod->references.count; i++)
        if (pod->references.items[i].tell_ms)
            next_ms = MIN(next_ms, pod->references.items[i].tell_ms);
    return next_ms == INT64_MAX ? 0 : MAX(1, next_ms - loop_now_ns(pod->node->loop) / 1000000);
}

bool references_has(const struct pod *pod, const struct watched *watched) {
    for (size_t i = 0; i < pod->references.count; i++)
        if (pod->references.items[i].watched == watched)
            return true;
    return false;
}

const struct kube_object *references_find(const struct pod *pod, const struct kube_kind *kind, const char *name) {
    for (size_t i = 0; name && i < pod->references.count; i++) {
        const struct reference *reference = &pod->references.items[i];
        if (reference->kind == kind && strcmp(reference->name, name) == 0)
            return reference->watched ? watched_object(reference->watched) : NULL;
    }
    return NULL;
}

void references_free(struct pod *pod) {
    for (size_t i = 0; i < pod->references.count; i++) {
        watched_unref(pod->references.items[i].watched);
        free(pod->references.items[i].name);
    }
    VECTOR_DEINIT(&pod->references);
}
