/* Small things everybody needs: maps, owners, readiness, percentages, the hash of a template. */
#include "kube/helpers_priv.h"

#include <stdio.h>

/* The index of the key, or where it would stand. */
static size_t find_place(const struct kube_array *map, size_t pair_size, const char *key, bool *ret_found) {
    size_t low = 0, high = map->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(*(const char *const *)(const void *)((const char *)map->items + middle * pair_size), key);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *kube_pair_find(const void *map, size_t pair_size, const char *key) {
    const struct kube_array *array = map;
    bool found = false;
    size_t at = find_place(array, pair_size, key, &found);
    return found ? (char *)array->items + at * pair_size : NULL;
}

void *kube_pair_add(void *map, struct arena *arena, size_t pair_size, const char *key) {
    struct kube_array *array = map;
    bool found = false;
    size_t at = find_place(array, pair_size, key, &found);
    if (found)
        return (char *)array->items + at * pair_size;
    char *items = arena_array(arena, array->count + 1, pair_size);
    const char *copy = arena_strdup(arena, key);
    if (!items || !copy)
        return NULL;
    if (array->count > 0) {
        memcpy(items, array->items, at * pair_size);
        memcpy(items + (at + 1) * pair_size, (char *)array->items + at * pair_size, (array->count - at) * pair_size);
    }
    *(const char **)(void *)(items + at * pair_size) = copy;
    array->items = items;
    array->count++;
    return items + at * pair_size;
}

const char *kube_volume_kind(const struct kube_volume *volume) {
    for (size_t i = 0; i < kube_volume_type.fields_count; i++) {
        const struct kube_field *field = &kube_volume_type.fields[i];
        if (field->inline_number && !kube_field_is_empty(field, kube_at(field, volume)))
            return field->name;
    }
    return "";
}

const char *kube_map_find(const struct kube_string_map *map, const char *key) {
    const struct kube_string_pair *pair = kube_pair_find(map, sizeof *pair, key);
    return pair ? pair->value : NULL;
}

int kube_map_set(struct kube_string_map *map, struct arena *arena, const char *key, const char *value) {
    const char *copy = arena_strdup(arena, value);
    struct kube_string_pair *pair = copy ? kube_pair_add(map, arena, sizeof *pair, key) : NULL;
    if (!pair)
        return -ENOMEM;
    pair->value = copy;
    return 0;
}

void kube_map_unset(struct kube_string_map *map, const char *key) {
    struct kube_string_pair *pair = kube_pair_find(map, sizeof *pair, key);
    if (!pair)
        return;
    size_t at = (size_t)(pair - map->items);
    memmove(pair, pair + 1, (map->count - at - 1) * sizeof *pair);
    map->count--;
}

int64_t kube_quantity_milli(const struct kube_quantity_map *map, const char *key, int64_t fallback) {
    const struct kube_quantity_pair *pair = kube_pair_find(map, sizeof *pair, key);
    return pair ? pair->value.milli : fallback;
}

const struct kube_owner_reference *kube_controller_of(const struct kube_object_meta *metadata) {
    for (size_t i = 0; i < metadata->owner_references.count; i++) {
        const struct kube_owner_reference *owner = &metadata->owner_references.items[i];
        if (owner->controller && *owner->controller)
            return owner;
    }
    return NULL;
}

bool kube_is_controlled_by(const struct kube_object_meta *metadata, const char *uid) {
    const struct kube_owner_reference *owner = kube_controller_of(metadata);
    return owner && owner->uid && uid && strcmp(owner->uid, uid) == 0;
}

bool kube_text_is(const char *text, const char *expected) {
    return text && strcmp(text, expected) == 0;
}

bool kube_strings_has(const struct kube_string_list *list, const char *text) {
    for (size_t i = 0; text && i < list->count; i++)
        if (kube_text_is(list->items[i], text))
            return true;
    return false;
}

int kube_strings_add(struct kube_string_list *list, struct arena *arena, const char *text) {
    if (kube_strings_has(list, text))
        return 0;
    const char **items = ARENA_ARRAY(arena, const char *, list->count + 1);
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = text;
    *list = (struct kube_string_list){items, list->count + 1};
    return 0;
}

bool kube_strings_drop(struct kube_string_list *list, const char *text) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!kube_text_is(list->items[i], text))
            list->items[kept++] = list->items[i];
    bool dropped = kept < list->count;
    list->count = kept;
    return dropped;
}

bool kube_pod_is_ready(const struct kube_pod *pod) {
    for (size_t i = 0; i < pod->status.conditions.count; i++) {
        const struct kube_pod_condition *condition = &pod->status.conditions.items[i];
        if (kube_text_is(condition->type, "Ready"))
            return kube_text_is(condition->status, "True");
    }
    return false;
}

int kube_int_or_percent(const struct kube_int_or_string *value, int total, bool round_up, int *ret) {
    if (!value->is_string) {
        *ret = value->number;
        return 0;
    }
    uint64_t percent = 0;
    struct slice text = slice_of(value->text);
    if (text.len < 2 || text.data[text.len - 1] != '%' || slice_parse_u64(slice_head(text, text.len - 1), 100000, &percent) != 0)
        return -EINVAL;
    int64_t scaled = (int64_t)percent * total;
    *ret = (int)((scaled + (round_up ? 99 : 0)) / 100);
    return 0;
}

void kube_template_hash(const struct kube_pod_template_spec *template_, int collision, char ret[12]) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789"; /* no vowels, nothing that looks alike: upstream's "safe encoding" */
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    kube_encode_part(&kube_pod_template_spec_type, template_, &text);
    if (collision > 0)
        buffer_printf(&text, "%d", collision);
    uint64_t wide = slice_hash(buffer_slice(&text));
    uint32_t hash = (uint32_t)(wide ^ wide >> 32);
    char decimal[12];
    size_t len = (size_t)snprintf(decimal, sizeof decimal, "%" PRIu32, hash);
    for (size_t i = 0; i < len; i++)
        ret[i] = alphabet[(unsigned char)decimal[i] % (sizeof alphabet - 1)];
    ret[len] = 0;
}

const struct kube_pod_spec *kube_pod_spec_of(const struct kube_object *object) {
    const struct kube_kind *kind = object->kind;
    if (kind == &kube_kind_pod)
        return &object->pod->spec;
    if (kind == &kube_kind_pod_template)
        return &object->pod_template->template.spec;
    if (kind == &kube_kind_replication_controller)
        return object->replication_controller->spec.template ? &object->replication_controller->spec.template->spec : NULL;
    if (kind == &kube_kind_deployment)
        return &object->deployment->spec.template.spec;
    if (kind == &kube_kind_replica_set)
        return &object->replica_set->spec.template.spec;
    if (kind == &kube_kind_stateful_set)
        return &object->stateful_set->spec.template.spec;
    if (kind == &kube_kind_daemon_set)
        return &object->daemon_set->spec.template.spec;
    if (kind == &kube_kind_job)
        return &object->job->spec.template.spec;
    if (kind == &kube_kind_cron_job)
        return &object->cron_job->spec.job_template.spec.template.spec;
    return NULL;
}
