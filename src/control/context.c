/* What reconcilers are written with: reading the view, making actions, recording events, adopting and releasing. Errors are sticky in context->error,
 * so that a reconciler reads as the policy it is. */
#include "control/control_priv.h"

void context_fail(struct context *context) {
    context->error = -ENOMEM;
}

const struct kube_object *context_get(struct context *context, const struct kube_kind *kind, const char *namespace, const char *name) {
    return name ? context->view->get(context->view->userdata, kind, namespace, name) : NULL;
}

const char *context_failure(const struct context *context) {
    if (!context->failure || strncmp(context->failure, "Conflict", 8) == 0)
        return NULL;
    const char *colon = strstr(context->failure, ": ");
    return colon ? colon + 2 : context->failure;
}

struct collector {
    struct context *context;
    struct objects *objects;
};

static bool collect(void *userdata, const struct kube_object *object) {
    struct collector *collector = userdata;
    if (VECTOR_PUSH(&collector->objects->list, object) < 0) {
        context_fail(collector->context);
        return false;
    }
    return true;
}

void context_list(struct context *context, const struct kube_kind *kind, const char *namespace, struct objects *ret) {
    struct collector collector = {context, ret};
    context->view->list(context->view->userdata, kind, namespace, collect, &collector);
}

void objects_deinit(struct objects *objects) {
    VECTOR_DEINIT(&objects->list);
}

void context_each(struct context *context, const struct kube_kind *kind, const char *namespace,
                  void (*look)(struct context *context, const struct kube_object *object)) {
    if (*context->name) {
        const struct kube_object *object = context_get(context, kind, context->namespace, context->name);
        if (object)
            look(context, object);
        return;
    }
    struct objects objects = {.list = {.items = NULL}};
    context_list(context, kind, namespace, &objects);
    for (size_t i = 0; i < objects.list.count; i++) {
        context->group++;
        look(context, objects.list.items[i]);
    }
    objects_deinit(&objects);
}

/* ---- actions ---- */

/* Copies: whoever submits the action may free the object while the names are still in use. */
static void name_action(struct context *context, struct control_action *action, const struct kube_object *object) {
    const struct kube_object_meta *metadata = object->metadata;
    action->kind = object->kind;
    action->namespace = metadata->namespace ? arena_strdup(context->arena, metadata->namespace) : NULL;
    action->name = arena_strdup(context->arena, metadata->name);
    action->uid = metadata->uid ? arena_strdup(context->arena, metadata->uid) : NULL;
    if (!action->name || (metadata->namespace && !action->namespace) || (metadata->uid && !action->uid))
        context_fail(context);
}

static struct control_action *add_action(struct context *context, enum control_verb verb, struct kube_object *object) {
    struct control_action action = {.verb = verb, .object = object, .grace_seconds = -1, .group = context->group};
    if (object)
        name_action(context, &action, object);
    if ((!object && verb != CONTROL_DELETE) || VECTOR_PUSH(context->actions, action) < 0) {
        kube_object_unref(object);
        context_fail(context);
        return NULL;
    }
    return &context->actions->items[context->actions->count - 1];
}

static bool is_updated(const struct context *context, const struct kube_object *object) {
    for (size_t i = 0; i < context->actions->count; i++) {
        const struct control_action *action = &context->actions->items[i];
        if ((action->verb == CONTROL_UPDATE || action->verb == CONTROL_BIND) && same_text(action->object->metadata->uid, object->metadata->uid))
            return true;
    }
    return false;
}

void context_create(struct context *context, struct kube_object *object) {
    add_action(context, CONTROL_CREATE, object);
}

void context_update(struct context *context, struct kube_object *object) {
    add_action(context, CONTROL_UPDATE, object);
}

void context_update_status(struct context *context, struct kube_object *object) {
    if (object && is_updated(context, object))
        object->metadata->resource_version = NULL;
    add_action(context, CONTROL_UPDATE_STATUS, object);
}

void context_update_changed_status(struct context *context, const struct kube_object *object, struct kube_object *copy) {
    if (context->error || kube_equal(object->kind->type, copy->data, object->data))
        kube_object_unref(copy);
    else
        context_update_status(context, copy);
}

void context_bind(struct context *context, struct kube_object *object) {
    add_action(context, CONTROL_BIND, object);
}

void context_sign(struct context *context, struct kube_object *object) {
    add_action(context, CONTROL_SIGN, object);
}

void context_delete(struct context *context, const struct kube_object *object, const char *propagation, int64_t grace_seconds) {
    struct control_action *action = add_action(context, CONTROL_DELETE, NULL);
    if (!action)
        return;
    name_action(context, action, object);
    action->propagation = propagation ? propagation : "Background";
    action->grace_seconds = grace_seconds;
}

void context_requeue(struct context *context, int64_t after_ms) {
    after_ms = MAX(after_ms, 1);
    if (context->requeue_after_ms < 0 || after_ms < context->requeue_after_ms)
        context->requeue_after_ms = after_ms;
}

struct kube_object *context_copy(struct context *context, const struct kube_object *object) {
    struct kube_object *copy = kube_object_copy(object);
    if (!copy)
        context_fail(context);
    return copy;
}

struct kube_time context_now(const struct context *context) {
    return (struct kube_time){.ns = context->wall_ns - context->wall_ns % NS_PER_S, .set = true};
}

/* splitmix64 */
static uint64_t next_random(struct control *control) {
    uint64_t z = control->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

const char *context_random_name(struct context *context, const char *prefix) {
    char letters[6] = "";
    safe_letters(next_random(context->control), letters, 5);
    /* Upstream's limit: 63 characters, five of them random. */
    const char *name = arena_printf(context->arena, "%.58s%s", prefix, letters);
    if (!name)
        context_fail(context);
    return name;
}

/* ---- events ---- */

static struct kube_object *event_new(struct context *context, const struct kube_object *about, const char *name) {
    struct kube_object *object = kube_object_new(&kube_kind_event);
    if (!object)
        return NULL;
    struct arena *arena = object->arena;
    struct kube_event *event = object->event;
    const struct kube_object_meta *metadata = about->metadata;
    event->metadata.name = arena_strdup(arena, name);
    event->metadata.namespace = arena_strdup(arena, metadata->namespace ? metadata->namespace : "default");
    event->involved_object = (struct kube_object_reference){
        .kind = about->kind->kind,
        .api_version = kube_kind_api_version(about->kind),
        .namespace = metadata->namespace ? arena_strdup(arena, metadata->namespace) : NULL,
        .name = arena_strdup(arena, metadata->name),
        .uid = metadata->uid ? arena_strdup(arena, metadata->uid) : NULL,
        .resource_version = metadata->resource_version ? arena_strdup(arena, metadata->resource_version) : NULL,
    };
    event->first_timestamp = context_now(context);
    return object;
}

/* The name follows from what is said about whom, so that saying it again counts up instead of filling the store. */
void context_event(struct context *context, const struct kube_object *about, const char *type, const char *reason, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *message = arena_vprintf(context->arena, format, args);
    va_end(args);
    uint64_t hash = text_hash(text_hash(text_hash(text_hash(TEXT_HASH_INIT, about->metadata->uid), reason), message), context->controller);
    const char *name = arena_printf(context->arena, "%.200s.%016" PRIx64, about->metadata->name, hash);
    if (!message || !name) {
        context_fail(context);
        return;
    }
    const char *namespace = about->metadata->namespace ? about->metadata->namespace : "default";
    const struct kube_object *present = context_get(context, &kube_kind_event, namespace, name);
    struct kube_object *object = present ? context_copy(context, present) : event_new(context, about, name);
    if (object) {
        struct kube_event *event = object->event;
        event->reason = arena_strdup(object->arena, reason);
        event->message = arena_strdup(object->arena, message);
        event->type = arena_strdup(object->arena, type);
        event->source.component = event->reporting_component = arena_strdup(object->arena, context->controller);
        event->last_timestamp = context_now(context);
        event->count++;
        event->metadata.resource_version = NULL;
    }
    struct control_action *action = add_action(context, present ? CONTROL_UPDATE : CONTROL_CREATE, object);
    if (action)
        action->optional = true;
}

/* ---- owning ---- */

int add_controller_reference(struct kube_object_meta *metadata, struct arena *arena, const struct kube_object *owner) {
    struct kube_owner_reference_array *list = &metadata->owner_references;
    struct kube_owner_reference *items = ARENA_ARRAY(arena, struct kube_owner_reference, list->count + 1);
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = (struct kube_owner_reference){
        .api_version = kube_kind_api_version(owner->kind),
        .kind = owner->kind->kind,
        .name = arena_strdup(arena, owner->metadata->name),
        .uid = arena_strdup(arena, owner->metadata->uid),
        .controller = bool_new(arena, true),
        .block_owner_deletion = bool_new(arena, true),
    };
    list->items = items;
    list->count++;
    return items[list->count - 1].name && items[list->count - 1].uid ? 0 : -ENOMEM;
}

static void drop_reference(struct kube_object_meta *metadata, const char *uid) {
    struct kube_owner_reference_array *list = &metadata->owner_references;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!same_text(list->items[i].uid, uid))
            list->items[kept++] = list->items[i];
    list->count = kept;
}

struct kube_object *managed_change(struct context *context, struct managed *managed) {
    if (!managed->changed) {
        managed->changed = context_copy(context, managed->object);
        managed->object = managed->changed ? managed->changed : managed->object;
    }
    return managed->changed;
}

static void release(struct context *context, const struct kube_object *object, const struct kube_object *owner) {
    struct kube_object *copy = context_copy(context, object);
    if (!copy)
        return;
    drop_reference(copy->metadata, owner->metadata->uid);
    context_update(context, copy);
}

static void adopt(struct context *context, struct managed *managed, const struct kube_object *owner) {
    struct kube_object *copy = managed_change(context, managed);
    if (copy && add_controller_reference(copy->metadata, copy->arena, owner) < 0)
        context_fail(context);
}

/* Whether the object is the owner's after this run. */
static bool claim_one(struct context *context, struct managed *managed, const struct kube_object *owner, const struct kube_label_selector *selector) {
    const struct kube_object *object = managed->object;
    const struct kube_owner_reference *controller = kube_controller_of(object->metadata);
    bool matches = selector && kube_selector_matches(selector, &object->metadata->labels);
    if (controller) {
        if (!same_text(controller->uid, owner->metadata->uid))
            return false;
        if (matches || !selector || is_deleting(owner))
            return true;
        release(context, object, owner);
        return false;
    }
    if (!matches || is_deleting(owner) || is_deleting(object))
        return false;
    adopt(context, managed, owner);
    return true;
}

void context_claim(struct context *context, const struct kube_kind *kind, const struct kube_object *owner, const struct kube_label_selector *selector,
                   bool (*wanted)(const struct kube_object *owner, const struct kube_object *object), struct managed_list *ret) {
    struct objects objects = {.list = {.items = NULL}};
    context_list(context, kind, owner->metadata->namespace, &objects);
    for (size_t i = 0; i < objects.list.count; i++) {
        struct managed managed = {.object = objects.list.items[i]};
        if (wanted && !wanted(owner, managed.object))
            continue;
        if (claim_one(context, &managed, owner, selector) && VECTOR_PUSH(&ret->list, managed) < 0)
            context_fail(context);
    }
    objects_deinit(&objects);
}

bool claim_active(const struct kube_object *owner, const struct kube_object *pod) {
    (void)owner;
    return pod_is_active(pod);
}

void managed_flush(struct context *context, struct managed_list *managed) {
    for (size_t i = 0; i < managed->list.count; i++)
        if (managed->list.items[i].changed)
            context_update(context, managed->list.items[i].changed);
    VECTOR_DEINIT(&managed->list);
}
