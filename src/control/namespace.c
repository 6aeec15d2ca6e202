/* Namespaces: each has the service account "default"; one that is being deleted is emptied, and when nothing is left its finalizer "kubernetes" goes,
 * and with it the namespace (upstream: pkg/controller/namespace, serviceaccounts). */
#include "control/control_priv.h"

#define FINALIZER "kubernetes"
#define HELD_MAX 32 /* finalizers named in a condition */

int namespace_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (some->kind == &kube_kind_namespace)
        return control_enqueue_object(control, CONTROLLER_NAMESPACE, some);
    if (!some->kind->namespaced || !some->metadata->namespace)
        return 0;
    if (object && !is_deleting(object) && old) /* nothing came or went */
        return 0;
    struct context context = {.view = &control->view};
    const struct kube_object *namespace = context_get(&context, &kube_kind_namespace, NULL, some->metadata->namespace);
    bool lost_account = !object && some->kind == &kube_kind_service_account && text_is(some->metadata->name, "default");
    if (!namespace || (!is_deleting(namespace) && !lost_account))
        return 0;
    return control_enqueue_object(control, CONTROLLER_NAMESPACE, namespace);
}

static void create_account(struct context *context, const struct kube_object *namespace) {
    if (context_get(context, &kube_kind_service_account, namespace->metadata->name, "default"))
        return;
    struct kube_object *account = kube_object_new(&kube_kind_service_account);
    if (account) {
        account->metadata->name = arena_strdup(account->arena, "default");
        account->metadata->namespace = arena_strdup(account->arena, namespace->metadata->name);
    }
    context_create(context, account);
}

/* ---- emptying ---- */

/* What is left, in upstream's words: "pods. has 2 resource instances", "example.com/hold in 1 resource instances". */
struct rest {
    struct buffer kinds, finalizers;
    struct held {
        const char *finalizer;
        size_t count;
    } held[HELD_MAX];
    size_t held_count;
    size_t objects;
};

static int say(struct buffer *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int say(struct buffer *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int r = text->len ? buffer_append_text(text, ", ") : 0;
    if (r == 0)
        r = buffer_vprintf(text, format, args);
    va_end(args);
    return r;
}

static void note_finalizers(struct rest *rest, const struct kube_object *object) {
    for (size_t i = 0; i < object->metadata->finalizers.count; i++) {
        const char *finalizer = object->metadata->finalizers.items[i];
        size_t at = 0;
        while (at < rest->held_count && !same_text(rest->held[at].finalizer, finalizer))
            at++;
        if (at == HELD_MAX)
            continue;
        rest->held[at].finalizer = finalizer;
        rest->held[at].count++;
        rest->held_count = MAX(rest->held_count, at + 1);
    }
}

static void empty(struct context *context, const struct kube_object *namespace, const struct kube_kind *kind, struct rest *rest) {
    struct objects objects = {.list = {.items = NULL}};
    context_list(context, kind, namespace->metadata->name, &objects);
    for (size_t i = 0; i < objects.list.count; i++) {
        context->group++; /* one that cannot be deleted does not hold up the others */
        note_finalizers(rest, objects.list.items[i]);
        if (!is_deleting(objects.list.items[i]))
            context_delete(context, objects.list.items[i], NULL, -1);
    }
    if (objects.list.count)
        say(&rest->kinds, "%s.%s has %zu resource instances", kind->plural, kind->group, objects.list.count);
    rest->objects += objects.list.count;
    objects_deinit(&objects);
}

/* ---- conditions ---- */

static void set_condition(struct context *context, struct kube_object *copy, const char *type, bool bad, const char *reason, const char *message) {
    struct kube_namespace_condition_array *list = &copy->namespace_->status.conditions;
    struct kube_namespace_condition *items = ARENA_ARRAY(copy->arena, struct kube_namespace_condition, list->count + 1);
    message = message ? arena_strdup(copy->arena, message) : NULL;
    if (!items || !message) {
        context_fail(context);
        return;
    }
    size_t at = list->count;
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
        if (text_is(items[i].type, type))
            at = i;
    }
    const char *status = bad ? "True" : "False";
    if (at < list->count && text_is(items[at].status, status) && same_text(items[at].message, message))
        return;
    items[at] = (struct kube_namespace_condition){
        .type = type, .status = status, .reason = reason, .message = message, .last_transition_time = context_now(context)};
    *list = (struct kube_namespace_condition_array){.items = items, .count = MAX(list->count, at + 1)};
}

static const char *text_of(struct context *context, const char *before, const struct buffer *list) {
    const char *text = arena_printf(context->arena, "%s%.*s", before, (int)list->len, list->data ? list->data : "");
    if (!text)
        context_fail(context);
    return text ? text : "";
}

/* Why it is still there: what `kubectl get namespace -o yaml` is asked when a namespace hangs. */
static void write_conditions(struct context *context, const struct kube_object *namespace, struct rest *rest) {
    struct kube_object *copy = context_copy(context, namespace);
    if (!copy)
        return;
    for (size_t i = 0; i < rest->held_count; i++)
        say(&rest->finalizers, "%s in %zu resource instances", rest->held[i].finalizer, rest->held[i].count);
    const char *failure = context_failure(context);
    set_condition(context, copy, "NamespaceDeletionDiscoveryFailure", false, "ResourcesDiscovered", "All resources successfully discovered");
    set_condition(context, copy, "NamespaceDeletionGroupVersionParsingFailure", false, "ParsedGroupVersions",
                  "All legacy kube types successfully parsed");
    if (failure)
        set_condition(context, copy, "NamespaceDeletionContentFailure", true, "ContentDeletionFailed",
                      arena_printf(context->arena, "Failed to delete all resource types, 1 remaining: %s", failure));
    else
        set_condition(context, copy, "NamespaceDeletionContentFailure", false, "ContentDeleted",
                      "All content successfully deleted, may be waiting on finalization");
    if (rest->objects)
        set_condition(context, copy, "NamespaceContentRemaining", true, "SomeResourcesRemain",
                      text_of(context, "Some resources are remaining: ", &rest->kinds));
    else
        set_condition(context, copy, "NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed");
    if (rest->held_count)
        set_condition(context, copy, "NamespaceFinalizersRemaining", true, "SomeFinalizersRemain",
                      text_of(context, "Some content in the namespace has finalizers remaining: ", &rest->finalizers));
    else
        set_condition(context, copy, "NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", "All content-preserving finalizers finished");
    context->group++; /* a lost race about these is of no account for what follows */
    if (!kube_equal(&kube_namespace_status_type, &copy->namespace_->status, &namespace->namespace_->status))
        context_update_status(context, TAKE(copy));
    kube_object_unref(copy);
}

static void finalize(struct context *context, const struct kube_object *namespace) {
    struct kube_object *copy = context_copy(context, namespace);
    if (copy && kube_strings_drop(&copy->namespace_->spec.finalizers, FINALIZER)) {
        context_update(context, copy);
        return;
    }
    kube_object_unref(copy);
    if (namespace->metadata->finalizers.count == 0 && namespace->namespace_->spec.finalizers.count == 0)
        context_delete(context, namespace, NULL, 0);
}

void namespace_reconcile(struct context *context) {
    const struct kube_object *namespace = context_get(context, &kube_kind_namespace, NULL, context->name);
    if (!namespace)
        return;
    if (!is_deleting(namespace)) {
        create_account(context, namespace);
        return;
    }
    struct rest rest = {.kinds = BUFFER_INIT(8 * KIB), .finalizers = BUFFER_INIT(8 * KIB)};
    for (size_t i = 0; i < kube_kinds_count(); i++)
        if (kube_kind_at(i)->namespaced && kube_kind_is_stored(kube_kind_at(i)))
            empty(context, namespace, kube_kind_at(i), &rest);
    if (rest.objects)
        write_conditions(context, namespace, &rest);
    else
        finalize(context, namespace);
    buffer_deinit(&rest.kinds);
    buffer_deinit(&rest.finalizers);
}
