/* The status of a custom resource definition: which of its names it may have, and what follows (upstream: the naming and establishing controllers).
 *
 * Within a group each of plural, singular and short names belongs to one definition, and so does each of kind and listKind. What a definition has
 * been given it keeps; of two that were given the same in one commit, the older keeps it. A definition is established when all its names were
 * accepted once, and stays so. */
#include "api/crd_priv.h"

#include <stdio.h>

bool api_crd_condition_is(const struct kube_custom_resource_definition *definition, const char *type, const char *status) {
    for (size_t i = 0; i < definition->status.conditions.count; i++) {
        const struct kube_custom_resource_definition_condition *condition = &definition->status.conditions.items[i];
        if (condition->type && !strcmp(condition->type, type))
            return condition->status && !strcmp(condition->status, status);
    }
    return false;
}

static struct kube_custom_resource_definition_condition *find_condition(struct kube_object *object, const char *type) {
    struct kube_custom_resource_definition_condition_array *list = &object->custom_resource_definition->status.conditions;
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].type && !strcmp(list->items[i].type, type))
            return &list->items[i];
    struct kube_custom_resource_definition_condition *items = arena_array(object->arena, list->count + 1, sizeof *items);
    if (!items)
        return NULL;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    list->items = items;
    return &items[list->count++];
}

int api_crd_set_condition(struct api *api, struct kube_object *object, const char *type, const char *status, const char *reason,
                          const char *message) {
    struct kube_custom_resource_definition_condition *condition = find_condition(object, type);
    char *text = condition ? arena_strdup(object->arena, message) : NULL;
    if (!text)
        return -ENOMEM;
    if (!condition->status || strcmp(condition->status, status))
        condition->last_transition_time = (struct kube_time){.ns = loop_wall_ns(api->loop) / 1000000000 * 1000000000, .set = true};
    condition->type = type; /* these three are static */
    condition->status = status;
    condition->reason = reason;
    condition->message = text;
    return 0;
}

/* --- names --- */

static bool text_is(const char *a, const char *b) {
    return a && b && !strcmp(a, b);
}

struct claim {
    struct api *api;
    struct kube_object *object;
    const char *group, *name; /* of the definition */
    uint64_t created;
    struct {
        const char *reason;
        char message[300];
    } conflict;
};

/* Built-in kinds have their names for ever. */
static bool is_builtin(const char *group, const char *name, bool kinds) {
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        const struct kube_kind *kind = kube_kind_at(i);
        if (!kind->custom && !strcmp(kind->group, group) &&
            (kinds ? text_is(kind->kind, name) : text_is(kind->plural, name) || text_is(kind->singular, name)))
            return true;
    }
    return false;
}

/* mine: the name has been accepted for this definition before. */
static bool is_taken(const struct claim *claim, const char *name, bool kinds, bool mine) {
    if (is_builtin(claim->group, name, kinds))
        return true;
    LIST_FOREACH(node, &claim->api->crds) {
        const struct crd *crd = CONTAINER_OF(node, struct crd, node);
        const struct kube_custom_resource_definition_names *names = &crd->accepted;
        if (strcmp(crd->group, claim->group) || !strcmp(crd->name, claim->name) || (mine && crd->created > claim->created))
            continue;
        if (kinds ? text_is(names->kind, name) || text_is(names->list_kind, name)
                  : text_is(names->plural, name) || text_is(names->singular, name) || kube_strings_has(&names->short_names, name))
            return true;
    }
    return false;
}

static void note_conflict(struct claim *claim, const char *reason, const char *name) {
    claim->conflict.reason = reason;
    snprintf(claim->conflict.message, sizeof claim->conflict.message, "\"%.250s\" is already in use", name);
}

static void claim_name(struct claim *claim, const char *wanted, const char **accepted, bool kinds, const char *reason) {
    if (is_taken(claim, wanted, kinds, text_is(wanted, *accepted)))
        note_conflict(claim, reason, wanted);
    else
        *accepted = wanted;
}

static void claim_short_names(struct claim *claim, const struct kube_string_list *wanted, struct kube_string_list *accepted) {
    bool conflict = false;
    for (size_t i = 0; i < wanted->count; i++) {
        if (!is_taken(claim, wanted->items[i], false, kube_strings_has(accepted, wanted->items[i])))
            continue;
        note_conflict(claim, "ShortNamesConflict", wanted->items[i]);
        conflict = true;
    }
    if (!conflict)
        *accepted = *wanted;
}

/* --- the whole status --- */

static int note_stored_version(struct kube_object *object) {
    struct kube_custom_resource_definition *definition = object->custom_resource_definition;
    const char *storage = NULL;
    for (size_t i = 0; i < definition->spec.versions.count; i++)
        if (definition->spec.versions.items[i].storage)
            storage = definition->spec.versions.items[i].name;
    return storage ? kube_strings_add(&definition->status.stored_versions, object->arena, storage) : 0;
}

static int set_conditions(struct claim *claim) {
    struct api *api = claim->api;
    struct kube_object *object = claim->object;
    bool accepted = !claim->conflict.reason;
    int error = api_crd_set_condition(api, object, "NamesAccepted", accepted ? "True" : "False", accepted ? "NoConflicts" : claim->conflict.reason,
                                      accepted ? "no conflicts found" : claim->conflict.message);
    if (error || api_crd_condition_is(object->custom_resource_definition, "Established", "True"))
        return error;
    return accepted ? api_crd_set_condition(api, object, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
                    : api_crd_set_condition(api, object, "Established", "False", "NotAccepted", "not all names are accepted");
}

int api_crd_judge(struct api *api, struct kube_object *object, uint64_t created) {
    struct kube_custom_resource_definition *definition = object->custom_resource_definition;
    const struct kube_custom_resource_definition_names *wanted = &definition->spec.names;
    struct kube_custom_resource_definition_names *accepted = &definition->status.accepted_names;
    struct claim claim = {.api = api, .object = object, .group = definition->spec.group, .name = definition->metadata.name, .created = created};
    if (!claim.group || !claim.name || !wanted->plural || !wanted->kind)
        return 0; /* validation will refuse it */
    claim_name(&claim, wanted->plural, &accepted->plural, false, "PluralConflict");
    claim_name(&claim, wanted->singular, &accepted->singular, false, "SingularConflict");
    claim_short_names(&claim, &wanted->short_names, &accepted->short_names);
    claim_name(&claim, wanted->kind, &accepted->kind, true, "KindConflict");
    claim_name(&claim, wanted->list_kind, &accepted->list_kind, true, "ListKindConflict");
    accepted->categories = wanted->categories;
    int error = set_conditions(&claim);
    return error ? error : note_stored_version(object);
}

int api_crd_mark_deleted(struct api *api, struct kube_object *object) {
    int error = kube_strings_add(&object->metadata->finalizers, object->arena, API_CRD_FINALIZER);
    return error ? error
                 : api_crd_set_condition(api, object, "Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
}
