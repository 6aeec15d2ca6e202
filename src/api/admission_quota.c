/* ResourceQuota: a write that would take a namespace beyond one of its quotas is refused, in one turn with the writing of what is used: the status of
 * each quota is written right behind the object. Both look at the newest accepted versions, committed or not, so creates that arrive together cannot
 * exceed a quota; and a recount of the controller that has not seen them yet is refused, since the quota's version is another by then.
 *
 * The object goes before the quota: should only the first become durable (the machine dies between two commits), then the recount at the next start
 * finds more used than was written, never less. */
#include "api/admission_priv.h"

#define QUOTAS_MAX 64 /* of one namespace that are looked at */
#define TEXT_BYTES_MAX 1024

struct quotas {
    struct api *api;
    const char *names[QUOTAS_MAX];
    size_t count;
    struct arena *arena;
    bool failed;
};

static bool keep_name(void *userdata, struct store_object *stored) {
    struct quotas *quotas = userdata;
    if (quotas->count == QUOTAS_MAX)
        return false;
    const char *name = arena_dup(quotas->arena, stored->name);
    quotas->failed = !name;
    if (name)
        quotas->names[quotas->count++] = name;
    return name != NULL;
}

static void list_quotas(struct admission *admission, struct quotas *ret) {
    struct slice none = {NULL, 0};
    store_list(admission->api->store, api_kind_slice(&kube_kind_resource_quota), slice_of(admission->object->metadata->namespace), none, none,
               keep_name, ret);
}

static bool concerns(const struct admission *admission) {
    if (!admission->object->kind->namespaced || admission->object->metadata->deletion_timestamp.set)
        return false;
    if (admission->operation == ADMIT_CREATE)
        return true;
    if (admission->object->kind == &kube_kind_pod)
        return !strcmp(admission->subresource, "resize");
    return admission->object->kind == &kube_kind_service || admission->object->kind == &kube_kind_persistent_volume_claim;
}

/* What the write adds: of an update the growth, never a loss (that is for the recount). */
static int usage_of(const struct admission *admission, struct arena *arena, struct kube_quantity_map *ret) {
    struct kube_quantity_map all, before = {NULL, 0};
    int error = kube_quota_usage(admission->object, arena, &all);
    if (!error && admission->old)
        error = kube_quota_usage(admission->old, arena, &before);
    *ret = (struct kube_quantity_map){NULL, 0};
    for (size_t i = 0; i < all.count && !error; i++) {
        const struct kube_quantity_pair *pair = &all.items[i];
        int64_t was = kube_quantity_milli(&before, pair->key, 0);
        if (pair->value.milli <= was)
            continue;
        error = kube_quantities_set(ret, arena, pair->key, pair->value);
        error = error || !was ? error : kube_quantities_add(ret, arena, pair->key, (struct kube_quantity){pair->value.text, was}, -1);
    }
    return error;
}

/* --- refusals --- */

static void put(struct buffer *out, const char *key, const char *value) {
    buffer_printf(out, "%s%s=%s", out->len ? "," : "", key, value);
}

static int check_bounds(struct admission *admission, struct arena *arena, const struct kube_object *quota, const struct kube_quantity_map *usage) {
    const struct kube_resource_quota_status *status = &quota->resource_quota->status;
    CLEANUP(buffer_deinit)
    struct buffer requested = BUFFER_INIT(TEXT_BYTES_MAX), used = BUFFER_INIT(TEXT_BYTES_MAX), limited = BUFFER_INIT(TEXT_BYTES_MAX);
    for (size_t i = 0; i < status->hard.count; i++) {
        const struct kube_quantity_pair *hard = &status->hard.items[i];
        int64_t more = kube_quantity_milli(usage, hard->key, 0), now = kube_quantity_milli(&status->used, hard->key, 0), sum;
        if (!more || (!__builtin_add_overflow(more, now, &sum) && sum <= hard->value.milli))
            continue;
        struct kube_quantity_map texts = {NULL, 0};
        for (size_t k = 0; k < usage->count; k++)
            if (!strcmp(usage->items[k].key, hard->key))
                put(&requested, hard->key, usage->items[k].value.text);
        if (kube_quantities_add(&texts, arena, hard->key, (struct kube_quantity){hard->value.text, now}, 1))
            return admission_no_memory(admission);
        put(&used, hard->key, texts.items[0].value.text);
        put(&limited, hard->key, hard->value.text);
    }
    return requested.len ? admission_forbid(admission, "exceeded quota: %s, requested: %s, used: %s, limited: %s", quota->metadata->name,
                                            requested.data, used.data, limited.data)
                         : 0;
}

/* A quota of cpu or memory makes every container say how much it takes. */
static bool is_demanded(const char *resource) {
    static const char *const names[] = {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i], resource))
            return true;
    return false;
}

static int list_silent(const struct kube_container_array *containers, const char *resource, struct arena *arena, struct buffer *out, size_t *count) {
    for (size_t i = 0; i < containers->count; i++) {
        struct kube_quantity_map said;
        if (kube_quota_container_usage(&containers->items[i].resources, arena, &said))
            return -ENOMEM;
        if (kube_quantity_milli(&said, resource, -1) < 0)
            buffer_printf(out, "%s%s", (*count)++ ? "," : "", containers->items[i].name);
    }
    return 0;
}

static bool says_as_a_whole(const struct kube_pod_spec *spec, const char *resource, struct arena *arena) {
    const struct kube_resource_requirements *level = kube_pod_level(spec);
    struct kube_quantity_map said;
    return level && kube_quota_container_usage(level, arena, &said) == 0 && kube_quantity_milli(&said, resource, -1) >= 0;
}

static int check_demands(struct admission *admission, struct arena *arena, const struct kube_object *quota) {
    const struct kube_quantity_map *hard = &quota->resource_quota->status.hard;
    const struct kube_pod_spec *spec = &admission->object->pod->spec;
    CLEANUP(buffer_deinit) struct buffer all = BUFFER_INIT(TEXT_BYTES_MAX);
    for (size_t i = 0; i < hard->count; i++) {
        CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(TEXT_BYTES_MAX);
        size_t count = 0;
        if (!is_demanded(hard->items[i].key) || says_as_a_whole(spec, hard->items[i].key, arena))
            continue;
        if (list_silent(&spec->containers, hard->items[i].key, arena, &names, &count) ||
            list_silent(&spec->init_containers, hard->items[i].key, arena, &names, &count))
            return admission_no_memory(admission);
        if (count)
            buffer_printf(&all, "%s%s for: %s", all.len ? "; " : "", hard->items[i].key, names.data);
    }
    return all.len ? admission_forbid(admission, "failed quota: %s: must specify %s", quota->metadata->name, all.data) : 0;
}

static int check_known(struct admission *admission, const struct kube_object *quota) {
    const struct kube_resource_quota_status *status = &quota->resource_quota->status;
    CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(TEXT_BYTES_MAX);
    for (size_t i = 0; i < status->hard.count; i++)
        if (kube_quota_concerns(admission->object->kind, status->hard.items[i].key) &&
            kube_quantity_milli(&status->used, status->hard.items[i].key, -1) < 0)
            buffer_printf(&names, "%s%s", names.len ? "," : "", status->hard.items[i].key);
    return names.len ? admission_forbid(admission, "status unknown for quota: %s, resources: %s", quota->metadata->name, names.data) : 0;
}

static int check_quota(struct admission *admission, struct arena *arena, const char *name, const struct kube_quantity_map *usage) {
    CLEANUP(kube_object_unrefp) struct kube_object *quota = NULL;
    int code = api_stored_find(admission->api, &kube_kind_resource_quota, admission->object->metadata->namespace, name, &quota, admission->failure);
    if (code)
        return code == 404 ? 0 : code; /* gone meanwhile, or not to be read */
    if (!kube_quota_covers(quota->resource_quota, admission->object))
        return 0;
    code = admission->object->kind == &kube_kind_pod ? check_demands(admission, arena, quota) : 0;
    if (!code)
        code = check_known(admission, quota);
    return code ? code : check_bounds(admission, arena, quota, usage);
}

int admit_quota(struct admission *admission) {
    struct quotas quotas = {.api = admission->api};
    struct kube_quantity_map usage;
    if (!concerns(admission) || !store_count(admission->api->store, api_kind_slice(&kube_kind_resource_quota)))
        return 0;
    CLEANUP(arena_freep) struct arena *arena = quotas.arena = arena_new(4 * MIB);
    if (!arena)
        return admission_no_memory(admission);
    list_quotas(admission, &quotas);
    int code = quotas.failed || (quotas.count && usage_of(admission, arena, &usage)) ? admission_no_memory(admission) : 0;
    for (size_t i = 0; i < quotas.count && !code; i++)
        code = check_quota(admission, arena, quotas.names[i], &usage);
    return code;
}

/* --- what is used --- */

static void charge_one(struct admission *admission, const char *name, const struct kube_quantity_map *usage) {
    CLEANUP(kube_object_unrefp)
    struct kube_object *quota = api_stored_get(admission->api, &kube_kind_resource_quota, admission->object->metadata->namespace, name);
    if (!quota || !kube_quota_covers(quota->resource_quota, admission->object))
        return;
    CLEANUP(kube_object_unrefp) struct kube_object *copy = kube_object_copy(quota);
    struct kube_resource_quota_status *status = copy ? &copy->resource_quota->status : NULL;
    bool changed = false;
    for (size_t i = 0; copy && i < status->hard.count; i++)
        for (size_t k = 0; k < usage->count; k++)
            if (!strcmp(usage->items[k].key, status->hard.items[i].key))
                changed = !kube_quantities_add(&status->used, copy->arena, usage->items[k].key, usage->items[k].value, 1) || changed;
    if (changed)
        api_update_status(admission->api, TAKE(copy), NULL, NULL, NULL); /* what is lost here the recount finds */
}

void charge_quota(struct admission *admission) {
    struct quotas quotas = {.api = admission->api};
    struct kube_quantity_map usage;
    if (!concerns(admission) || !store_count(admission->api->store, api_kind_slice(&kube_kind_resource_quota)))
        return;
    CLEANUP(arena_freep) struct arena *arena = quotas.arena = arena_new(4 * MIB);
    if (!arena)
        return;
    list_quotas(admission, &quotas);
    if (quotas.count && usage_of(admission, arena, &usage))
        return;
    for (size_t i = 0; i < quotas.count; i++)
        charge_one(admission, quotas.names[i], &usage);
}
