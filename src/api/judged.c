/* Writes that wait for webhooks: what is kept of them meanwhile, and how they are shown to webhooks (see write.c for when). */
#include "api/write_priv.h"

void judged_free(struct judged *judged) {
    if (!judged)
        return;
    struct api *api = judged->api;
    kube_object_unref(judged->given);
    kube_object_unref(judged->object);
    kube_object_unref(judged->old);
    kube_kind_unref(judged->kind);
    arena_free(judged->arena);
    free(judged);
    api_unref(api);
}
struct judged *judged_new(const struct attempt *attempt, struct kube_object *object, struct kube_object *old) {
    struct judged *judged = calloc(1, sizeof *judged);
    struct arena *arena = judged ? arena_new(MIB) : NULL;
    if (!arena) {
        free(judged);
        return NULL;
    }
    attempt->api->references++;
    *judged = (struct judged){
        .api = attempt->api,
        .arena = arena,
        .kind = kube_kind_ref(attempt->kind),
        .options = *attempt->options,
        .object = object ? kube_object_ref(object) : NULL,
        .old = old ? kube_object_ref(old) : NULL,
        .tries = attempt->tries + 1,
        .done = attempt->done,
        .userdata = attempt->userdata,
    };
    judged->options.managed = NULL; /* the caller's, and in the object by now */
    return judged;
}

struct attempt judged_attempt(const struct judged *judged) {
    return (struct attempt){judged->api, judged->kind, &judged->options, judged->done, judged->userdata, judged->tries};
}

void judged_refuse(struct judged *judged, const struct api_failure *failure) {
    if (judged->done)
        judged->done(judged->userdata, failure, NULL, (struct slice){NULL, 0});
}

void judged_take(struct judged *judged, struct kube_object *object) {
    if (!object || object == judged->object)
        return;
    kube_object_unref(judged->object);
    judged->object = kube_object_ref(object);
}

/* CreateOptions and their like. NULL without memory. */
static const char *format_options(const struct judged *judged, enum admission_operation operation) {
    const struct write_options *options = &judged->options;
    const struct api_delete_options *deleting = &judged->deleting;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * KIB);
    bool patch = options->reader && options->reader->verb && !strcmp(options->reader->verb, "patch");
    buffer_printf(&out, "{\"kind\":\"%sOptions\",\"apiVersion\":\"meta.k8s.io/v1\"",
                  operation == ADMIT_DELETE   ? "Delete"
                  : patch                     ? "Patch"
                  : operation == ADMIT_CREATE ? "Create"
                                              : "Update");
    const struct {
        const char *key, *value;
    } texts[] = {{"fieldManager", operation == ADMIT_DELETE ? NULL : options->manager}, {"propagationPolicy", deleting->propagation}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (!texts[i].value || !*texts[i].value)
            continue;
        buffer_printf(&out, ",\"%s\":", texts[i].key);
        json_format_string(&out, slice_of(texts[i].value));
    }
    if (operation == ADMIT_DELETE && deleting->grace_seconds >= 0)
        buffer_printf(&out, ",\"gracePeriodSeconds\":%" PRId64, deleting->grace_seconds);
    buffer_append_text(&out, options->dry_run ? ",\"dryRun\":[\"All\"]}" : "}");
    return buffer_error(&out) ? NULL : arena_dup(judged->arena, buffer_slice(&out));
}

/* A pod's binding and the scale of an object have forms of their own: in these webhooks see them. */
static int set_documents(struct judged *judged, struct webhook_matter *matter) {
    struct arena *arena = judged->arena;
    const char *subresource = judged->options.subresource ? judged->options.subresource : "";
    if (judged->options.bind) {
        const struct kube_object *pod = judged->object;
        matter->operation = ADMIT_CREATE;
        matter->document_version = "v1";
        matter->document_kind = "Binding";
        matter->document = api_make_binding(arena, pod);
    } else if (!strcmp(subresource, "scale")) {
        matter->document_version = "autoscaling/v1";
        matter->document_kind = "Scale";
        matter->document = api_make_scale(arena, judged->object);
        matter->old_document = api_make_scale(arena, judged->old);
    } else {
        return 0;
    }
    matter->object = matter->old = NULL;
    return matter->document && (judged->options.bind || matter->old_document) ? 0 : -ENOMEM;
}

int judge(const struct attempt *attempt, const struct question_to *question, struct judged *given, struct api_failure *failure) {
    CLEANUP(judged_freep) struct judged *judged = given;
    if (!judged)
        return api_fail_no_memory(failure);
    const struct kube_object *some = judged->object ? judged->object : judged->old;
    struct webhook_matter matter = {
        .operation = question->operation,
        .kind = attempt->kind,
        .subresource = attempt->options->subresource,
        .namespace = some->metadata->namespace,
        .name = some->metadata->name,
        .user = attempt->options->user,
        .reader = attempt->options->reader,
        .dry_run = attempt->options->dry_run,
        .options = format_options(judged, question->operation),
        .object = judged->object,
        .old = judged->old,
        .settle = question->settle,
        .check = question->check,
        .done = question->done,
        .userdata = judged,
    };
    if (!matter.options || set_documents(judged, &matter))
        return api_fail_no_memory(failure);
    int code = webhooks_ask(attempt->api, &matter, failure);
    if (code == WEBHOOKS_ASKED)
        (void)TAKE(judged);
    return code;
}

int judged_fail_stale(struct api_failure *failure, const struct kube_object *object) {
    int code = api_fail_conflict(failure, object->kind, object->metadata->name, NULL);
    if (failure)
        failure->stale = true;
    return code;
}
