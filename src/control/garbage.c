/* Garbage collection by ownerReferences (upstream: pkg/controller/garbagecollector).
 *
 * A key is one object in both its parts. As a dependent: when none of its owners is left it is deleted; when some are left, the references to the
 * others go. As an owner that is being deleted: with the finalizer "orphan" its dependents lose their reference to it first; with
 * "foregroundDeletion" those that block go first. The view is the committed truth, so an owner that is not there is gone: upstream's doubts about a
 * stale cache do not arise. An owner of a kind unknown here is taken to be there: it may be a custom resource whose definition is yet to come. */
#include "control/control_priv.h"

#define FINALIZER_ORPHAN "orphan"
#define FINALIZER_FOREGROUND "foregroundDeletion"
#define YOUNG_NS (60 * NS_PER_S) /* only a reference that is new is searched for in other namespaces: it takes a look at all objects of the kind */

static bool has_collector_finalizer(const struct kube_object *object) {
    return kube_strings_has(&object->metadata->finalizers, FINALIZER_ORPHAN) || kube_strings_has(&object->metadata->finalizers, FINALIZER_FOREGROUND);
}

static const struct kube_kind *owner_kind(const struct kube_owner_reference *reference) {
    struct slice version = slice_of(reference->api_version), group = SLICE("");
    if (slice_index(version, '/') >= 0)
        group = slice_cut(&version, '/');
    for (size_t i = 0; i < kube_kinds_count(); i++)
        if (text_is(reference->kind, kube_kind_at(i)->kind) && slice_is(group, kube_kind_at(i)->group))
            return kube_kind_stored(kube_kind_at(i));
    return NULL;
}

static const struct kube_object *find_owner(struct context *context, const struct kube_object *object, const struct kube_owner_reference *reference,
                                            bool *ret_known) {
    const struct kube_kind *kind = owner_kind(reference);
    *ret_known = kind && !(kind->namespaced && !object->kind->namespaced); /* an owner in no namespace that could be said */
    const struct kube_object *owner =
        *ret_known ? context_get(context, kind, kind->namespaced ? object->metadata->namespace : NULL, reference->name) : NULL;
    return owner && same_text(owner->metadata->uid, reference->uid) ? owner : NULL;
}

static int enqueue_dependents(struct control *control, const char *uid) {
    const struct dependents *dependents = owners_find(control->owners, uid);
    int r = 0;
    for (size_t i = 0; dependents && i < dependents->items.count && r == 0; i++) {
        const struct dependent *dependent = dependents->items.items[i];
        r = control_enqueue(control, CONTROLLER_GARBAGE, dependent->kind, dependent->namespace, dependent->name);
    }
    return r;
}

/* A dependent went or changed: an owner that waits for it looks again. */
static int enqueue_waiting_owners(struct control *control, const struct kube_object *dependent) {
    struct context context = {.view = &control->view};
    int r = 0;
    for (size_t i = 0; i < dependent->metadata->owner_references.count && r == 0; i++) {
        bool known;
        const struct kube_object *owner = find_owner(&context, dependent, &dependent->metadata->owner_references.items[i], &known);
        if (owner && is_deleting(owner) && has_collector_finalizer(owner))
            r = control_enqueue_object(control, CONTROLLER_GARBAGE, owner);
    }
    return r;
}

int garbage_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    int r = 0;
    if (!object)
        r = enqueue_dependents(control, old->metadata->uid);
    if (r == 0 && old && old->metadata->owner_references.count)
        r = enqueue_waiting_owners(control, old);
    if (r < 0 || !object)
        return r;
    bool first_seen = !old && object->metadata->owner_references.count > 0;
    bool owners_changed = old && !kube_equal(&kube_object_meta_type, &(struct kube_object_meta){.owner_references = old->metadata->owner_references},
                                             &(struct kube_object_meta){.owner_references = object->metadata->owner_references});
    bool waits = is_deleting(object) && has_collector_finalizer(object);
    return first_seen || owners_changed || waits ? control_enqueue_object(control, CONTROLLER_GARBAGE, object) : 0;
}

/* ---- as a dependent ---- */

static bool blocks(const struct kube_object *dependent, const char *uid) {
    for (size_t i = 0; i < dependent->metadata->owner_references.count; i++) {
        const struct kube_owner_reference *reference = &dependent->metadata->owner_references.items[i];
        if (same_text(reference->uid, uid))
            return reference->block_owner_deletion && *reference->block_owner_deletion;
    }
    return false;
}

static const struct kube_object *get_dependent(struct context *context, const struct dependent *dependent) {
    return context_get(context, dependent->kind, dependent->namespace, dependent->name);
}

static bool has_blocking_dependents(struct context *context, const struct kube_object *object) {
    const struct dependents *dependents = owners_find(context->control->owners, object->metadata->uid);
    for (size_t i = 0; dependents && i < dependents->items.count; i++) {
        const struct kube_object *dependent = get_dependent(context, dependents->items.items[i]);
        if (dependent && blocks(dependent, object->metadata->uid))
            return true;
    }
    return false;
}

static void drop_owner(struct context *context, const struct kube_object *object,
                       bool (*is_dropped)(void *userdata, const struct kube_owner_reference *reference), void *userdata) {
    struct kube_object *copy = context_copy(context, object);
    if (!copy)
        return;
    struct kube_owner_reference_array *list = &copy->metadata->owner_references;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!is_dropped(userdata, &list->items[i]))
            list->items[kept++] = list->items[i];
    list->count = kept;
    context_update(context, copy);
}

/* What an owner reference says about its dependent. */
enum standing {
    OWNER_THERE,
    OWNER_GONE,
    OWNER_WAITING, /* it is being deleted and waits for this dependent to go */
};

static enum standing judge_reference(struct context *context, const struct kube_object *object, const struct kube_owner_reference *reference) {
    bool known;
    const struct kube_object *owner = find_owner(context, object, reference, &known);
    if (!owner)
        return known ? OWNER_GONE : OWNER_THERE;
    bool waits = is_deleting(owner) && kube_strings_has(&owner->metadata->finalizers, FINALIZER_FOREGROUND) && blocks(object, owner->metadata->uid);
    return waits ? OWNER_WAITING : OWNER_THERE;
}

/* ---- owners that cannot be: in another namespace, or in one for an object that is in none ---- */

struct search {
    const char *uid;
    bool found;
};

static bool find_uid(void *userdata, const struct kube_object *object) {
    struct search *search = userdata;
    search->found |= same_text(object->metadata->uid, search->uid);
    return !search->found;
}

static bool is_elsewhere(struct context *context, const struct kube_object *object, const struct kube_owner_reference *reference) {
    const struct kube_kind *kind = owner_kind(reference);
    if (!kind || !kind->namespaced)
        return false;
    if (!object->kind->namespaced)
        return true;
    if (context->wall_ns - object->metadata->creation_timestamp.ns > YOUNG_NS)
        return false;
    struct search search = {.uid = reference->uid};
    context->view->list(context->view->userdata, kind, NULL, find_uid, &search);
    return search.found;
}

/* Who made such a reference is told, since the object goes, or, of no namespace itself, never goes. */
static void warn(struct context *context, const struct kube_object *object) {
    const char *namespace = object->metadata->namespace ? object->metadata->namespace : "";
    for (size_t i = 0; i < object->metadata->owner_references.count; i++) {
        const struct kube_owner_reference *reference = &object->metadata->owner_references.items[i];
        bool known;
        if (!find_owner(context, object, reference, &known) && is_elsewhere(context, object, reference))
            context_event(context, object, "Warning", "OwnerRefInvalidNamespace",
                          "ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace \"%s\"", reference->api_version,
                          reference->kind, namespace, reference->name, reference->uid, namespace);
    }
}

/* An owner of ours waits for us, and who we own waits for its own dependents: by and by that may be the same. Our references hold nobody up any more.
 */
static bool closes_circle(struct context *context, const struct kube_object *object) {
    const struct dependents *dependents = owners_find(context->control->owners, object->metadata->uid);
    for (size_t i = 0; dependents && i < dependents->items.count; i++) {
        const struct kube_object *dependent = get_dependent(context, dependents->items.items[i]);
        if (dependent && is_deleting(dependent) && kube_strings_has(&dependent->metadata->finalizers, FINALIZER_FOREGROUND))
            return true;
    }
    return false;
}

static void unblock_owners(struct context *context, const struct kube_object *object) {
    struct kube_object *copy = context_copy(context, object);
    static const bool no = false;
    if (!copy)
        return;
    for (size_t i = 0; i < copy->metadata->owner_references.count; i++)
        copy->metadata->owner_references.items[i].block_owner_deletion = (bool *)&no;
    context_update(context, copy);
}

struct judgement {
    struct context *context;
    const struct kube_object *object;
};

static bool is_not_there(void *userdata, const struct kube_owner_reference *reference) {
    struct judgement *judgement = userdata;
    return judge_reference(judgement->context, judgement->object, reference) != OWNER_THERE;
}

static void judge(struct context *context, const struct kube_object *object) {
    size_t counts[3] = {0}, total = object->metadata->owner_references.count;
    struct judgement judgement = {context, object};
    for (size_t i = 0; i < total; i++)
        counts[judge_reference(context, object, &object->metadata->owner_references.items[i])]++;
    warn(context, object);
    if (counts[OWNER_THERE] == total)
        return;
    if (counts[OWNER_THERE]) {
        drop_owner(context, object, is_not_there, &judgement);
        return;
    }
    bool holds_up = counts[OWNER_WAITING] && has_blocking_dependents(context, object);
    if (holds_up && closes_circle(context, object))
        unblock_owners(context, object);
    context_delete(context, object, holds_up ? "Foreground" : "Background", -1);
}

/* ---- as an owner ---- */

static bool is_uid(void *userdata, const struct kube_owner_reference *reference) {
    return same_text(reference->uid, userdata);
}

static void drop_finalizer(struct context *context, const struct kube_object *object, const char *finalizer) {
    struct kube_object *copy = context_copy(context, object);
    if (!copy)
        return;
    kube_strings_drop(&copy->metadata->finalizers, finalizer);
    context_update(context, copy);
}

/* Both finalizers: work on the dependents until none is left that matters. */
static void finalize(struct context *context, const struct kube_object *object, const char *finalizer) {
    bool orphan = strcmp(finalizer, FINALIZER_ORPHAN) == 0, left = false;
    char *uid = arena_strdup(context->arena, object->metadata->uid);
    if (!uid) {
        context_fail(context);
        return;
    }
    const struct dependents *dependents = owners_find(context->control->owners, uid);
    for (size_t i = 0; dependents && i < dependents->items.count; i++) {
        const struct kube_object *dependent = get_dependent(context, dependents->items.items[i]);
        if (!dependent)
            continue;
        if (orphan) {
            drop_owner(context, dependent, is_uid, uid);
            left = true;
        } else if (blocks(dependent, uid)) {
            left = true;
            if (!is_deleting(dependent))
                judge(context, dependent);
        }
    }
    if (!left)
        drop_finalizer(context, object, finalizer);
}

void garbage_reconcile(struct context *context) {
    const struct kube_object *object = context_get(context, context->kind, context->namespace, context->name);
    if (!object)
        return;
    if (!is_deleting(object))
        judge(context, object);
    else if (kube_strings_has(&object->metadata->finalizers, FINALIZER_ORPHAN))
        finalize(context, object, FINALIZER_ORPHAN);
    else if (kube_strings_has(&object->metadata->finalizers, FINALIZER_FOREGROUND))
        finalize(context, object, FINALIZER_FOREGROUND);
}
