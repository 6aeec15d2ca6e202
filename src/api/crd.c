/* Custom resource definitions: from a stored object to kinds that are served.
 *
 *   committed ──► names (crd_names.c judged them when it was written) ──► compiled ──► in the table of kinds
 *   deleted   ──► marked, with a finalizer ──► every instance deleted ──► finalizer gone ──► out of the table
 *
 * 1. Whether names are accepted, and with them whether the definition is established, is decided in the write itself: the answer to the write already
 *    shows it. Upstream's controllers do the same a moment later.
 * 2. A definition takes effect in the turn that commits it, before its writer is answered: who reads the answer finds the routes.
 * 3. At start all definitions are installed before anything else is read, so that objects of their kinds can be decoded.
 * 4. A definition that cannot be installed leaves its objects in the store as they are, and stays as long as they do. For want of memory it is tried
 *    again in the next turn, and then every second until it can be; for another reason when it, or one beside it, changes.
 * 5. Instances are deleted in batches, the next when the one before is durable; those that finalizers keep are waited for, without polling. */
#include "api/crd_priv.h"

#include <stdio.h>

#define DELETES_MAX 200 /* instances of one definition on their way at a time */
#define RETRY_AFTER_MS 1000

static void on_step(void *userdata);

/* --- what is known of each definition --- */

struct crd *api_crd_find(const struct api *api, struct slice name) {
    LIST_FOREACH(node, &api->crds) {
        struct crd *crd = CONTAINER_OF(node, struct crd, node);
        if (slice_is(name, crd->name))
            return crd;
    }
    return NULL;
}

static void crd_free(struct crd *crd) {
    list_remove(&crd->node);
    arena_free(crd->arena);
    free(crd);
}

static int copy_names(struct crd *crd, const struct kube_custom_resource_definition *definition) {
    struct arena *arena = arena_new(64 * KIB);
    char *name = arena ? arena_strdup(arena, definition->metadata.name) : NULL;
    char *group = name ? arena_strdup(arena, definition->spec.group) : NULL,
         *plural = group ? arena_strdup(arena, definition->spec.names.plural) : NULL;
    if (!plural || kube_copy(&kube_custom_resource_definition_names_type, arena, &definition->status.accepted_names, &crd->accepted)) {
        arena_free(arena);
        return -ENOMEM;
    }
    arena_free(crd->arena);
    crd->arena = arena;
    crd->name = name;
    crd->group = group;
    crd->plural = plural;
    return 0;
}

static struct crd *crd_of(struct api *api, const struct kube_custom_resource_definition *definition, uint64_t created) {
    struct crd *crd = api_crd_find(api, slice_of(definition->metadata.name));
    bool is_new = !crd;
    if (is_new && !(crd = calloc(1, sizeof *crd)))
        return NULL;
    if (is_new) {
        list_init(&crd->node);
        crd->api = api;
        crd->created = created;
    }
    if (copy_names(crd, definition)) {
        if (is_new)
            crd_free(crd);
        return NULL;
    }
    if (is_new)
        list_push(&api->crds, &crd->node);
    return crd;
}

/* Something was not done for want of memory: all definitions are looked at again. */
static void try_again(struct api *api) {
    bool first = !api->crd_reload;
    api->crd_reload = true;
    if (first || loop_timer_set(&api->crd_timer, RETRY_AFTER_MS) < 0)
        loop_defer_schedule(&api->crd_step);
}

/* --- into and out of the table of kinds --- */

/* 0, or why it cannot take effect. */
static int compile(struct crd *crd, const struct kube_object *object) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(2 * TREE_BYTES_MAX);
    struct tree *tree = arena ? kube_encode_tree(object, arena) : NULL;
    struct kube_custom_set *set = NULL;
    struct diag diag = DIAG_INIT;
    int error = tree ? kube_custom_compile(tree, &set, &diag) : -ENOMEM;
    if (!error && (error = kube_custom_install(set)))
        kube_custom_set_free(set);
    if (error)
        log_error("a custom resource definition cannot take effect; its objects stay as they are name=%s: %s", crd->name,
                  *diag.message ? diag.message : strerror(-error));
    return error;
}

static void forget_kinds(struct api *api, const struct crd *crd) {
    kube_custom_remove(slice_of(crd->group), slice_of(crd->plural));
    api_watches_end_kind(api, crd->name);
}

static void take_effect(struct crd *crd, const struct kube_object *object) {
    const struct kube_custom_resource_definition *definition = object->custom_resource_definition;
    int64_t generation = definition->metadata.generation;
    bool established = api_crd_condition_is(definition, "Established", "True");
    crd->accepted_all = api_crd_condition_is(definition, "NamesAccepted", "True");
    crd->terminating = definition->metadata.deletion_timestamp.set;
    if (established == crd->installed && (!established || generation == crd->generation))
        return;
    if (!established && crd->installed)
        forget_kinds(crd->api, crd);
    int error = established ? compile(crd, object) : 0;
    crd->installed = established && !error;
    crd->refused = error && error != -ENOMEM;
    if (error == -ENOMEM)
        try_again(crd->api);
    crd->generation = crd->installed ? generation : 0;
    api_cache_drop(crd->api); /* what was decoded by the old schema */
}

/* --- committed changes --- */

/* Others of the group may now have what they were refused; and those for which the table of kinds had no room may find some. */
static void reconsider(struct api *api, const char *group, bool removed) {
    LIST_FOREACH(node, &api->crds) {
        struct crd *crd = CONTAINER_OF(node, struct crd, node);
        if (!strcmp(crd->group, group) && !crd->accepted_all)
            crd->reconsider = true;
        if (removed && crd->refused)
            try_again(api);
    }
    loop_defer_schedule(&api->crd_step);
}

void api_crd_note(struct api *api, const struct kube_object *object, const struct store_object *stored, bool removed) {
    const struct kube_custom_resource_definition *definition = object->custom_resource_definition;
    struct crd *crd = api_crd_find(api, slice_of(definition->metadata.name));
    if (removed && crd) {
        if (crd->installed)
            forget_kinds(api, crd);
        reconsider(api, crd->group, true);
        crd_free(crd);
    } else if (!removed && !(crd = crd_of(api, definition, stored->created_revision))) {
        try_again(api);
    } else if (!removed) {
        take_effect(crd, object);
        if (crd->terminating)
            loop_defer_schedule(&api->crd_step);
        reconsider(api, crd->group, false);
    }
}

void api_crd_note_instance_removed(struct api *api) {
    LIST_FOREACH(node, &api->crds)
    if (CONTAINER_OF(node, struct crd, node)->terminating) {
        loop_defer_schedule(&api->crd_step);
        return;
    }
}

static bool load(void *userdata, struct store_object *stored) {
    struct api *api = userdata;
    uint64_t blind = api_decode_failures(api);
    const struct kube_object *object = api_decode(api, stored);
    if (object)
        api_crd_note(api, object, stored, false);
    else if (api_decode_failures(api) != blind)
        try_again(api);
    else
        log_error("a custom resource definition cannot be read; its objects stay as they are name=%.*s", SLICE_ARG(stored->name));
    api_decode_trim(api);
    return true;
}

void api_crd_start(struct api *api) {
    struct slice none = {NULL, 0};
    list_init(&api->crds);
    loop_defer_init(&api->crd_step, api->loop, on_step, api);
    loop_timer_init(&api->crd_timer, api->loop, on_step, api);
    store_list(api->store, api_kind_slice(&kube_kind_custom_resource_definition), none, none, none, load, api);
}

static void load_again(struct api *api) {
    struct slice none = {NULL, 0};
    store_list(api->store, api_kind_slice(&kube_kind_custom_resource_definition), none, none, none, load, api);
    bool complete = !loop_timer_is_set(&api->crd_timer);
    if (complete)
        api->crd_reload = false;
}

void api_crd_end(struct api *api) {
    loop_defer_cancel(&api->crd_step);
    loop_timer_cancel(&api->crd_timer);
    while (!list_empty(&api->crds)) {
        struct crd *crd = CONTAINER_OF(api->crds.next, struct crd, node);
        kube_custom_remove(slice_of(crd->group), slice_of(crd->plural));
        crd_free(crd);
    }
}

/* --- the end of a definition --- */

static void on_one_deleted(void *userdata, const struct api_failure *failure, struct kube_object *object) {
    struct api *api = userdata;
    (void)failure; /* what could not be deleted is found again by the next step */
    (void)object;
    ASSERT(api->crd_deletes > 0);
    if (--api->crd_deletes == 0)
        loop_defer_schedule(&api->crd_step);
}

struct batch {
    struct api *api;
    struct arena *arena;
    struct {
        const char *namespace, *name;
    } items[DELETES_MAX];
    size_t count;
    bool failed;
};

static bool collect(void *userdata, struct store_object *stored) {
    struct batch *batch = userdata;
    const struct kube_object *object = api_decode(batch->api, stored);
    if (object && object->metadata->deletion_timestamp.set)
        return true; /* a finalizer keeps it: its removal is noted */
    batch->items[batch->count].namespace = arena_dup(batch->arena, stored->namespace);
    batch->items[batch->count].name = arena_dup(batch->arena, stored->name);
    batch->failed = !batch->items[batch->count].namespace || !batch->items[batch->count].name;
    if (batch->failed)
        return false;
    return ++batch->count < DELETES_MAX;
}

static void delete_instances(struct api *api, const struct kube_kind *kind) {
    struct batch *batch = calloc(1, sizeof *batch);
    struct slice none = {NULL, 0};
    static const struct api_delete_options options = {.grace_seconds = -1,
                                                      .unasked = true}; /* as upstream: the definition's deletion was asked about */
    struct arena *arena = batch ? arena_new(MIB) : NULL;
    if (arena) {
        batch->api = api;
        batch->arena = arena;
        store_list(api->store, api_kind_slice(kind), none, none, none, collect, batch);
        for (size_t i = 0; i < batch->count; i++) {
            int code = api_delete(api, kind, batch->items[i].namespace, batch->items[i].name, &options, on_one_deleted, api, NULL);
            api->crd_deletes += !code;
            batch->failed = batch->failed || (code && code != 404);
        }
    }
    if ((!arena || batch->failed) && !api->crd_deletes)
        try_again(api);
    arena_free(arena);
    free(batch);
    api_decode_trim(api);
}

static void on_finished(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    (void)object;
    (void)json;
    struct api *api = userdata;
    if (!failure || failure->code == 404 || api->closed)
        return;
    try_again(api);
    log_warning("a custom resource definition without instances could not be removed: %s", failure->message);
}

/* Nothing is left: the finalizer goes, and with it the definition. */
static void finish(struct api *api, const struct crd *crd) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = api_stored_get(api, &kube_kind_custom_resource_definition, "", crd->name);
    struct kube_object *copy = object ? kube_object_copy(object) : NULL;
    if (!copy) {
        try_again(api);
        return;
    }
    static const struct write_options options = {.unasked = true};
    struct kube_string_list *list = &copy->metadata->finalizers;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], API_CRD_FINALIZER))
            list->items[kept++] = list->items[i];
    bool dropped = kept < list->count;
    list->count = kept;
    copy->metadata->resource_version = NULL;
    if (!dropped)
        kube_object_unref(copy);
    else if (api_write_update(api, copy, &options, on_finished, api, NULL))
        try_again(api);
}

static void clean(struct api *api, struct crd *crd) {
    struct slice none = {NULL, 0};
    const struct kube_kind *kind = kube_custom_version(slice_of(crd->group), none, slice_of(crd->plural));
    bool comes_back = !kind && api->crd_reload && store_count(api->store, slice_of(crd->name)); /* nobody else would delete them */
    if (api->crd_deletes || comes_back)
        return;
    if (!kind || !store_count(api->store, slice_of(crd->name)))
        finish(api, crd);
    else
        delete_instances(api, kind);
}

/* --- the step: what follows from changes --- */

static void judge_again(struct api *api, struct crd *crd) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = api_stored_get(api, &kube_kind_custom_resource_definition, "", crd->name);
    struct kube_object *copy = object ? kube_object_copy(object) : NULL;
    crd->reconsider = false;
    bool judged = copy && !api_crd_judge(api, copy, crd->created);
    if (judged && kube_object_equal(copy, object)) {
        kube_object_unref(copy);
        return;
    }
    if (judged)
        copy->metadata->resource_version = NULL;
    else
        kube_object_unref(copy);
    if (!judged || api_update_status(api, copy, NULL, NULL, NULL))
        try_again(api);
}

static void on_step(void *userdata) {
    struct api *api = userdata;
    loop_timer_cancel(&api->crd_timer);
    if (api->crd_reload)
        load_again(api);
    LIST_FOREACH(node, &api->crds) {
        struct crd *crd = CONTAINER_OF(node, struct crd, node);
        if (crd->reconsider)
            judge_again(api, crd);
        if (crd->terminating)
            clean(api, crd);
    }
}
