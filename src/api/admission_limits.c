/* LimitRanger: what a namespace's LimitRanges put in where a container says nothing, and the bounds that containers, pods and claims must keep. */
#include "api/admission_priv.h"

#define ANNOTATION "kubernetes.io/limit-ranger"
#define TEXT_BYTES_MAX (16 * KIB)

static bool is_type(const struct kube_limit_range_item *item, const char *type) {
    return item->type && !strcmp(item->type, type);
}

static const struct kube_quantity_pair *find(const struct kube_quantity_map *map, const char *key) {
    for (size_t i = 0; i < map->count; i++)
        if (!strcmp(map->items[i].key, key))
            return &map->items[i];
    return NULL;
}

/* --- what is put in --- */

struct filling {
    struct admission *admission;
    struct buffer text; /* of the annotation that tells */
    int error;
};

/* Copies what the container lacks; tells of it as "cpu, memory request for container c". */
static void fill(struct filling *filling, struct kube_quantity_map *map, const struct kube_quantity_map *defaults, const char *what,
                 const char *container) {
    struct arena *arena = filling->admission->object->arena;
    size_t added = 0;
    for (size_t i = 0; i < defaults->count; i++) {
        const struct kube_quantity_pair *pair = &defaults->items[i];
        if (find(map, pair->key))
            continue;
        struct kube_quantity value = {arena_strdup(arena, pair->value.text), pair->value.milli};
        if (!value.text || kube_quantities_set(map, arena, pair->key, value))
            filling->error = -ENOMEM;
        buffer_printf(&filling->text, "%s%s", added++ ? ", " : filling->text.len ? "; " : "LimitRanger plugin set: ", pair->key);
    }
    if (added)
        buffer_printf(&filling->text, " %s for container %s", what, container);
}

static bool fill_from_range(void *userdata, const struct kube_object *range) {
    struct filling *filling = userdata;
    struct kube_pod_spec *spec = &filling->admission->object->pod->spec;
    struct kube_container_array *const lists[] = {&spec->containers, &spec->init_containers};
    const struct kube_limit_range_item_array *items = &range->limit_range->spec.limits;
    for (size_t i = 0; i < items->count; i++) {
        const struct kube_limit_range_item *item = &items->items[i];
        for (size_t l = 0; l < ARRAY_LEN(lists) && is_type(item, "Container"); l++)
            for (size_t c = 0; c < lists[l]->count; c++) {
                struct kube_container *container = &lists[l]->items[c];
                fill(filling, &container->resources.requests, &item->default_request, "request", container->name);
                fill(filling, &container->resources.limits, &item->default_, "limit", container->name);
            }
    }
    return true;
}

int admit_limit_ranges(struct admission *admission) {
    struct kube_object *object = admission->object;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(TEXT_BYTES_MAX);
    struct filling filling = {.admission = admission, .text = text};
    admission_list(admission, &kube_kind_limit_range, object->metadata->namespace, fill_from_range, &filling);
    text = filling.text;
    if (!filling.error && text.len)
        filling.error = kube_map_set(&object->metadata->annotations, object->arena, ANNOTATION, text.data);
    return filling.error ? admission_no_memory(admission) : 0;
}

/* --- what must be kept --- */

struct checking {
    struct arena *arena;
    const struct kube_object *object;
    struct buffer errors;
    size_t count;
    int error;
};

static void fail(struct checking *checking, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct checking *checking, const char *format, ...) {
    va_list args;
    va_start(args, format);
    buffer_append_text(&checking->errors, checking->count++ ? ", " : "");
    buffer_vprintf(&checking->errors, format, args);
    va_end(args);
}

struct usage {
    const char *type; /* "Container", "Pod", "PersistentVolumeClaim" */
    const struct kube_quantity_map *requests, *limits;
};

static void check_min(struct checking *checking, const struct usage *usage, const struct kube_quantity_pair *bound) {
    const struct kube_quantity_pair *request = find(usage->requests, bound->key), *limit = find(usage->limits, bound->key);
    const char *name = bound->key, *least = bound->value.text;
    if (!request)
        fail(checking, "minimum %s usage per %s is %s.  No request is specified", name, usage->type, least);
    else if (request->value.milli < bound->value.milli)
        fail(checking, "minimum %s usage per %s is %s, but request is %s", name, usage->type, least, request->value.text);
    else if (limit && limit->value.milli < bound->value.milli)
        fail(checking, "minimum %s usage per %s is %s, but limit is %s", name, usage->type, least, limit->value.text);
}

static void check_max(struct checking *checking, const struct usage *usage, const struct kube_quantity_pair *bound) {
    const struct kube_quantity_pair *request = find(usage->requests, bound->key), *limit = find(usage->limits, bound->key);
    const char *name = bound->key, *most = bound->value.text;
    bool claim = !strcmp(usage->type, "PersistentVolumeClaim");
    if (claim && !request)
        fail(checking, "maximum %s usage per %s is %s.  No request is specified", name, usage->type, most);
    else if (!claim && !limit)
        fail(checking, "maximum %s usage per %s is %s.  No limit is specified", name, usage->type, most);
    else if (limit && limit->value.milli > bound->value.milli)
        fail(checking, "maximum %s usage per %s is %s, but limit is %s", name, usage->type, most, limit->value.text);
    else if (request && request->value.milli > bound->value.milli)
        fail(checking, "maximum %s usage per %s is %s, but request is %s", name, usage->type, most, request->value.text);
}

static void check_ratio(struct checking *checking, const struct usage *usage, const struct kube_quantity_pair *bound) {
    const struct kube_quantity_pair *request = find(usage->requests, bound->key), *limit = find(usage->limits, bound->key);
    const char *name = bound->key, *most = bound->value.text;
    if (!request || request->value.milli == 0) {
        fail(checking, "%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, usage->type, most);
    } else if (!limit || limit->value.milli == 0) {
        fail(checking, "%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, usage->type, most);
    } else {
        double ratio = (double)limit->value.milli / (double)request->value.milli;
        if (ratio * 1000 > (double)bound->value.milli)
            fail(checking, "%s max limit to request ratio per %s is %s, but provided ratio is %f", name, usage->type, most, ratio);
    }
}

static void check_item(struct checking *checking, const struct kube_limit_range_item *item, const struct usage *usage) {
    for (size_t i = 0; i < item->min.count; i++)
        check_min(checking, usage, &item->min.items[i]);
    for (size_t i = 0; i < item->max.count; i++)
        check_max(checking, usage, &item->max.items[i]);
    for (size_t i = 0; i < item->max_limit_request_ratio.count; i++)
        check_ratio(checking, usage, &item->max_limit_request_ratio.items[i]);
}

static void check_pod(struct checking *checking, const struct kube_limit_range_item *item) {
    const struct kube_pod_spec *spec = &checking->object->pod->spec;
    const struct kube_container_array *const lists[] = {&spec->containers, &spec->init_containers};
    for (size_t l = 0; l < ARRAY_LEN(lists) && is_type(item, "Container"); l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            const struct kube_resource_requirements *resources = &lists[l]->items[i].resources;
            check_item(checking, item, &(struct usage){"Container", &resources->requests, &resources->limits});
        }
    if (!is_type(item, "Pod"))
        return;
    struct kube_quantity_map requests, limits;
    checking->error = kube_pod_resources(spec, checking->arena, &requests, &limits);
    if (!checking->error)
        check_item(checking, item, &(struct usage){"Pod", &requests, &limits});
}

static bool check_range(void *userdata, const struct kube_object *range) {
    static const struct kube_quantity_map none = {NULL, 0};
    struct checking *checking = userdata;
    const struct kube_limit_range_item_array *items = &range->limit_range->spec.limits;
    for (size_t i = 0; i < items->count && !checking->error; i++) {
        if (checking->object->kind == &kube_kind_pod)
            check_pod(checking, &items->items[i]);
        else if (is_type(&items->items[i], "PersistentVolumeClaim"))
            check_item(checking, &items->items[i],
                       &(struct usage){"PersistentVolumeClaim", &checking->object->persistent_volume_claim->spec.resources.requests, &none});
    }
    return !checking->error;
}

int admit_limits(struct admission *admission) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct checking checking = {.arena = arena, .object = admission->object, .errors = BUFFER_INIT(TEXT_BYTES_MAX)};
    if (!arena)
        return admission_no_memory(admission);
    admission_list(admission, &kube_kind_limit_range, admission->object->metadata->namespace, check_range, &checking);
    int code = checking.error    ? admission_no_memory(admission)
               : !checking.count ? 0
                                 : admission_forbid(admission, "%s%s%s", checking.count > 1 ? "[" : "",
                                                    checking.errors.data ? checking.errors.data : "", checking.count > 1 ? "]" : "");
    buffer_deinit(&checking.errors);
    return code;
}
