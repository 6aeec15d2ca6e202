/* Subresources, from one table by name. status is the object seen through another door; scale is a view of three numbers; binding, eviction and token
 * are requests in the form of objects; log, exec and attach are the node's, see tunnel.c. */
#include "api/api_priv.h"
#include "api/managed.h"

#include <stdio.h>

#define SCALE_TRIES 5

static void respond_created_status(struct request *request) {
    api_respond_json(request, 201, SLICE("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"code\":201}\n"));
}

void api_answer_status(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    (void)object;
    (void)json;
    struct request *request = userdata;
    if (failure)
        api_respond_failure(request, failure);
    else
        respond_created_status(request);
    api_request_release(request);
}

static void finish(struct request *request, int code, const struct api_failure *failure) {
    if (!code)
        return;
    api_respond_failure(request, failure);
    api_request_release(request);
}

static void respond_method(struct request *request) {
    struct api_failure failure;
    api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    api_respond_failure(request, &failure);
}

/* --- status, ephemeral containers, resources: parts of the object through another door --- */

static void serve_part(struct request *request) {
    if (!strcmp(request->verb, "get"))
        api_serve_get(request);
    else if (!strcmp(request->verb, "update"))
        api_serve_update(request);
    else if (!strcmp(request->verb, "patch"))
        api_serve_patch(request);
    else
        respond_method(request);
}

/* --- scale --- */

bool api_is_scale(const struct request *request) {
    return !strcmp(request->route.subresource, "scale");
}

static void put_requirement(struct buffer *out, const struct tree *requirement) {
    static const char *const operators[][2] = {{"In", "in"}, {"NotIn", "notin"}};
    const char *key = tree_text_or(tree_find(requirement, "key"), ""), *operator= tree_text_or(tree_find(requirement, "operator"), "");
    const struct tree *values = tree_find(requirement, "values");
    if (!strcmp(operator, "Exists"))
        buffer_append_text(out, key);
    else if (!strcmp(operator, "DoesNotExist"))
        buffer_printf(out, "!%s", key);
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (strcmp(operator, operators[i][0]))
            continue;
        buffer_printf(out, "%s %s (", key, operators[i][1]);
        for (size_t j = 0; j < tree_count(values); j++)
            buffer_printf(out, "%s%s", j ? "," : "", tree_text_or(tree_at(values, j), ""));
        buffer_append_text(out, ")");
    }
}

/* A LabelSelector, or a plain map of labels, in its text form. */
static void put_selector(struct buffer *out, const struct tree *selector, bool plain) {
    const struct tree *labels = plain ? selector : tree_find(selector, "matchLabels");
    const struct tree *expressions = plain ? NULL : tree_find(selector, "matchExpressions");
    size_t count = 0;
    for (size_t i = 0; i < tree_count(labels); i++)
        buffer_printf(out, "%s%s=%s", count++ ? "," : "", labels->children->items[i].key.data, tree_text_or(labels->children->items[i].value, ""));
    for (size_t i = 0; i < tree_count(expressions); i++) {
        buffer_append_text(out, count++ ? "," : "");
        put_requirement(out, tree_at(expressions, i));
    }
}

/* Where the numbers are. */
static const struct kube_scale_paths *scale_paths(const struct kube_kind *kind) {
    static const struct kube_scale_paths usual = {"spec.replicas", "status.replicas", "spec.selector"};
    const struct kube_scale_paths *own = kube_custom_scale(kind);
    return own ? own : &usual;
}

/* The selector of a built-in kind is an object, that of a custom one its text. */
static void put_scale_selector(struct buffer *out, const struct tree *from, const char *path, const struct kube_kind *kind) {
    const struct tree *selector = path ? tree_path(from, path) : NULL;
    if (selector && selector->type == TREE_STRING)
        buffer_append_slice(out, selector->string);
    else
        put_selector(out, selector, kind == &kube_kind_replication_controller);
}

struct tree *api_make_scale(struct arena *arena, const struct kube_object *object) {
    CLEANUP(buffer_deinit) struct buffer selector = BUFFER_INIT(64 * KIB);
    const struct kube_scale_paths *paths = scale_paths(object->kind);
    struct tree *from = kube_encode_tree(object, arena), *scale = tree_map(arena), *metadata = tree_map(arena), *spec = tree_map(arena),
                *status = tree_map(arena);
    if (!from || !scale || !metadata || !spec || !status)
        return NULL;
    static const char *const kept[] = {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"};
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(kept) && !error; i++) {
        struct tree *value = tree_find(tree_find(from, "metadata"), kept[i]);
        error = value ? tree_set(arena, metadata, slice_of(kept[i]), value) : 0;
    }
    put_scale_selector(&selector, from, paths->selector, object->kind);
    error = error ? error : tree_set(arena, spec, SLICE("replicas"), tree_int(arena, tree_int_or(tree_path(from, paths->spec_replicas), 0)));
    error = error ? error : tree_set(arena, status, SLICE("replicas"), tree_int(arena, tree_int_or(tree_path(from, paths->status_replicas), 0)));
    error = error ? error : tree_set(arena, status, SLICE("selector"), tree_string(arena, buffer_slice(&selector)));
    error = error ? error : tree_set_text(arena, scale, "kind", "Scale");
    error = error ? error : tree_set_text(arena, scale, "apiVersion", "autoscaling/v1");
    error = error ? error : tree_set(arena, scale, SLICE("metadata"), metadata);
    error = error ? error : tree_set(arena, scale, SLICE("spec"), spec);
    error = error ? error : tree_set(arena, scale, SLICE("status"), status);
    return error ? NULL : scale;
}

/* What a scale is to become. */
struct scaling {
    struct tree *given; /* the scale, or a patch of it */
    enum body_form form;
    bool is_patch;
    unsigned tries;
};

static void scale(struct request *request);

static void answer_scale(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    (void)json;
    struct request *request = userdata;
    struct scaling *scaling = request->extra;
    if (failure && failure->stale && ++scaling->tries < SCALE_TRIES)
        scale(request);
    else if (failure)
        api_respond_failure(request, failure);
    else
        api_respond_tree(request, 200, api_make_scale(request->arena, object));
    api_request_release(request);
}

/* Sets what is at a dotted path; objects on the way are made. */
static int set_at_path(struct arena *arena, struct tree *map, const char *path, struct tree *value) {
    struct slice rest = slice_of(path), name = slice_cut(&rest, '.');
    while (rest.len) {
        struct tree_entry *entry = tree_find_entry(map, name);
        struct tree *below = entry && entry->value->type == TREE_MAP ? entry->value : tree_map(arena);
        if (!below || tree_set(arena, map, name, below))
            return -ENOMEM;
        map = below;
        name = slice_cut(&rest, '.');
    }
    return tree_set(arena, map, name, value);
}

static int refuse_replicas(const char *name, const struct tree *replicas, struct api_failure *failure) {
    bool number = replicas->type == TREE_INT;
    char message[100];
    if (!number)
        return api_fail_bad_request(failure,
                                    "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal %s into Go struct field "
                                    "ScaleSpec.spec.replicas of type int32",
                                    tree_type_name(replicas));
    snprintf(message, sizeof message, "Invalid value: %" PRId64 ": must be greater than or equal to 0", replicas->integer);
    api_fail(failure, 422, "Invalid", "Scale.autoscaling \"%s\" is invalid: spec.replicas: %s", name, message);
    snprintf(failure->resource, sizeof failure->resource, "Scale");
    snprintf(failure->group, sizeof failure->group, "autoscaling");
    snprintf(failure->name, sizeof failure->name, "%s", name);
    diag_cause(&failure->diag, "FieldValueInvalid", "spec.replicas", "%s", message);
    return 422;
}

/* Sets the object's replicas to what the scale says. */
static int write_scale(struct request *request, struct kube_object *old, const struct tree *scale, struct api_failure *failure) {
    const struct tree *replicas = tree_path(scale, "spec.replicas");
    const char *version = tree_text_or(tree_path(scale, "metadata.resourceVersion"), NULL);
    if (replicas && (replicas->type != TREE_INT || replicas->integer < 0 || replicas->integer > INT32_MAX))
        return refuse_replicas(old->metadata->name, replicas, failure);
    struct arena *arena = request->arena;
    struct tree *tree = kube_encode_tree(old, arena), *metadata = tree ? tree_find(tree, "metadata") : NULL;
    int error = tree ? set_at_path(arena, tree, scale_paths(old->kind)->spec_replicas, tree_int(arena, tree_int_or(replicas, 0))) : -ENOMEM;
    if (!error && version)
        error = tree_set_text(arena, metadata, "resourceVersion", version);
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (error || kube_decode_tree(old->kind, tree, KUBE_LENIENT, &object, &diag))
        return api_fail_no_memory(failure);
    struct write_options options = api_write_options_of(request);
    return api_write_update(request->api, object, &options, answer_scale, request, failure);
}

static struct kube_object *find_object(struct request *request) {
    struct kube_object *object;
    struct api_failure failure;
    if (api_stored_find(request->api, request->kind, request->route.namespace, request->route.name, &object, &failure))
        api_respond_failure(request, &failure);
    return object;
}

/* What an applied scale says of the object itself. */
static struct tree *config_of_scale(struct arena *arena, const struct kube_object *old, const struct tree *scale) {
    struct tree *config = tree_map(arena), *metadata = tree_map(arena), *replicas = tree_path(scale, "spec.replicas");
    const char *version = tree_text_or(tree_path(scale, "metadata.resourceVersion"), NULL);
    if (!config || !metadata || tree_set_text(arena, config, "apiVersion", kube_kind_api_version(old->kind)) ||
        tree_set_text(arena, config, "kind", old->kind->kind) || tree_set_text(arena, metadata, "name", old->metadata->name) ||
        tree_set(arena, config, SLICE("metadata"), metadata))
        return NULL;
    if (version && tree_set_text(arena, metadata, "resourceVersion", version))
        return NULL;
    return !replicas || !set_at_path(arena, config, scale_paths(old->kind)->spec_replicas, replicas) ? config : NULL;
}

/* The number is applied to the object, where it is owned through the scale. */
static int apply_scale(struct request *request, struct kube_object *old, const struct tree *scale, struct api_failure *failure) {
    const struct tree *replicas = tree_path(scale, "spec.replicas");
    const char *version = tree_text_or(tree_find(scale, "apiVersion"), "");
    if (strcmp(version, "autoscaling/v1"))
        return api_fail_bad_request(failure, "Incorrect version specified in apply patch. Specified patch version: %.100s, expected: autoscaling/v1",
                                    version);
    if (replicas && (replicas->type != TREE_INT || replicas->integer < 0 || replicas->integer > INT32_MAX))
        return refuse_replicas(old->metadata->name, replicas, failure);
    struct managed managed;
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    struct tree *config = config_of_scale(request->arena, old, scale), *tree = NULL;
    int code = config ? api_apply_patch(request, old, config, api_request_query(request, "fieldManager"), api_request_flag(request, "force"),
                                        &managed, &tree, failure)
                      : api_fail_no_memory(failure);
    if (!code && kube_decode_tree(old->kind, tree, KUBE_LENIENT, &object, &diag))
        code = api_fail_no_memory(failure);
    if (code)
        return code;
    struct write_options options = api_write_options_of(request);
    options.managed = &managed;
    return api_write_update(request->api, object, &options, answer_scale, request, failure);
}

/* A patch of the scale as it is. */
static int patch_scale(struct request *request, struct kube_object *old, const struct scaling *scaling, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    if (scaling->form == BODY_APPLY)
        return apply_scale(request, old, scaling->given, failure);
    struct tree *scale = api_make_scale(request->arena, old), *patched = NULL;
    int error = scale ? 0 : -ENOMEM;
    if (!error && scaling->form == BODY_JSON_PATCH)
        error = tree_json_patch(request->arena, scale, scaling->given, &patched, &diag);
    else if (!error)
        patched = tree_merge_patch(request->arena, scale, scaling->given);
    if (error == -ENOMEM || (!error && !patched))
        return api_fail_no_memory(failure);
    if (error == -ENOENT)
        return api_fail(failure, 422, "Invalid", "the server rejected our request due to an error in our request");
    if (error)
        return api_fail_bad_request(failure, "error decoding patch: %s", diag.message);
    return write_scale(request, old, patched, failure);
}

/* Upon the newest version; answers. */
static void scale(struct request *request) {
    struct api_failure failure;
    const struct scaling *scaling = request->extra;
    CLEANUP(kube_object_unrefp) struct kube_object *old = find_object(request);
    if (!old)
        return;
    api_request_hold(request);
    finish(request, scaling->is_patch ? patch_scale(request, old, scaling, &failure) : write_scale(request, old, scaling->given, &failure), &failure);
}

static void begin_scale(struct request *request, struct tree *given, enum body_form form, bool is_patch) {
    struct scaling *scaling = ARENA_NEW(request->arena, struct scaling);
    struct api_failure failure;
    request->extra = scaling;
    if (!scaling) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    *scaling = (struct scaling){given, form, is_patch, 0};
    scale(request);
}

void api_serve_scale_patch(struct request *request, struct tree *patch, enum body_form form) {
    begin_scale(request, patch, form, true);
}

static void on_scale_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct tree *given = NULL;
    if (!api_body_parse(request, body, &given, &failure))
        begin_scale(request, given, BODY_JSON, false);
    else
        api_respond_failure(request, &failure);
}

static void serve_scale(struct request *request) {
    if (!strcmp(request->verb, "patch")) {
        api_serve_patch(request);
    } else if (!strcmp(request->verb, "update")) {
        api_read_body(request, on_scale_body);
    } else if (!strcmp(request->verb, "get")) {
        CLEANUP(kube_object_unrefp) struct kube_object *object = find_object(request);
        if (object)
            api_respond_tree(request, 200, api_make_scale(request->arena, object));
    } else {
        respond_method(request);
    }
}

/* --- binding --- */

struct tree *api_make_binding(struct arena *arena, const struct kube_object *pod) {
    struct tree *binding = tree_map(arena), *metadata = tree_map(arena), *target = tree_map(arena);
    if (!binding || !metadata || !target)
        return NULL;
    const struct {
        struct tree *map;
        const char *key, *value;
    } texts[] = {
        {binding, "kind", "Binding"},
        {binding, "apiVersion", "v1"},
        {metadata, "name", pod->metadata->name},
        {metadata, "namespace", pod->metadata->namespace},
        {metadata, "uid", pod->metadata->uid},
        {target, "kind", "Node"},
        {target, "name", pod->pod->spec.node_name},
    };
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts) && !error; i++)
        error = texts[i].value ? tree_set_text(arena, texts[i].map, texts[i].key, texts[i].value) : 0;
    error = error ? error : tree_set(arena, binding, SLICE("metadata"), metadata);
    error = error ? error : tree_set(arena, binding, SLICE("target"), target);
    return error ? NULL : binding;
}

/* In the same write: the node takes a pod without it for one that no scheduler has seen. */
static int set_scheduled(struct api *api, struct kube_object *pod) {
    struct kube_pod_condition_array *list = &pod->pod->status.conditions;
    struct kube_pod_condition *items = ARENA_ARRAY(pod->arena, struct kube_pod_condition, list->count + 1);
    size_t at = 0;
    if (!items)
        return -ENOMEM;
    for (size_t i = 0; i < list->count; i++)
        items[i] = list->items[i];
    while (at < list->count && strcmp(items[at].type, "PodScheduled") != 0)
        at++;
    items[at] = (struct kube_pod_condition){.type = "PodScheduled",
                                            .status = "True",
                                            .observed_generation = pod->metadata->generation,
                                            .last_transition_time = {.set = true, .ns = loop_wall_ns(api->loop)}};
    *list = (struct kube_pod_condition_array){items, MAX(list->count, at + 1)};
    return 0;
}

static int bind_pod(struct request *request, const struct kube_object *old, const char *node, struct api_failure *failure) {
    if (old->pod->spec.node_name && *old->pod->spec.node_name) {
        char why[600];
        snprintf(why, sizeof why, "pod %s is already assigned to node \"%s\"", old->metadata->name, old->pod->spec.node_name);
        return api_fail_conflict(failure, &kube_kind_pod, old->metadata->name, why);
    }
    struct kube_object *object = kube_object_copy(old);
    if (!object || !(object->pod->spec.node_name = arena_strdup(object->arena, node)) || set_scheduled(request->api, object)) {
        kube_object_unref(object);
        return api_fail_no_memory(failure);
    }
    struct write_options options = api_write_options_of(request);
    options.whole = true;
    options.bind = true;
    return api_write_update(request->api, object, &options, api_answer_status, request, failure);
}

static void on_binding_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct tree *binding = NULL;
    CLEANUP(kube_object_unrefp) struct kube_object *old = find_object(request);
    if (!old)
        return;
    api_request_hold(request);
    int code = api_body_parse(request, body, &binding, &failure);
    const char *node = code ? "" : tree_text_or(tree_path(binding, "target.name"), "");
    if (!code && !*node)
        code = api_fail_field(&failure, old, "FieldValueRequired", "target.name", "Required value");
    finish(request, code ? code : bind_pod(request, old, node, &failure), &failure);
}

/* --- finalize --- */

/* A namespace's spec.finalizers, and nothing else, become those given; with the last one a deleted namespace goes. */
static int set_finalizers(struct request *request, const struct kube_object *old, const struct tree *given, struct api_failure *failure) {
    const struct tree *list = tree_path(given, "spec.finalizers");
    size_t count = tree_count(list);
    struct kube_object *object = kube_object_copy(old);
    const char **items = object ? ARENA_ARRAY(object->arena, const char *, count + 1) : NULL;
    bool complete = items != NULL;
    for (size_t i = 0; i < count && complete; i++)
        complete = (items[i] = arena_strdup(object->arena, tree_text_or(tree_at(list, i), ""))) != NULL;
    const char *version = tree_text_or(tree_path(given, "metadata.resourceVersion"), NULL);
    if (complete && version)
        complete = (object->metadata->resource_version = arena_strdup(object->arena, version)) != NULL;
    if (!complete) {
        kube_object_unref(object);
        return api_fail_no_memory(failure);
    }
    object->namespace_->spec.finalizers = (struct kube_string_list){items, count};
    struct write_options options = api_write_options_of(request);
    options.whole = true;
    return api_write_update(request->api, object, &options, api_answer_written, request, failure);
}

static void on_finalize_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct tree *given = NULL;
    CLEANUP(kube_object_unrefp) struct kube_object *old = find_object(request);
    if (!old)
        return;
    api_request_hold(request);
    int code = api_body_parse(request, body, &given, &failure);
    finish(request, code ? code : set_finalizers(request, old, given, &failure), &failure);
}

static void serve_finalize(struct request *request) {
    if (!strcmp(request->verb, "update"))
        api_read_body(request, on_finalize_body);
    else
        respond_method(request);
}

/* --- the node's --- */

static void serve_node(struct request *request) {
    CLEANUP(kube_object_unrefp) struct kube_object *pod = find_object(request);
    if (!pod)
        return;
    if (!strcmp(request->route.subresource, "log"))
        api_serve_log(request, pod);
    else
        api_serve_tunnel(request, pod);
}

/* --- the table --- */

typedef void on_body_fn(void *userdata, struct http_exchange *exchange, struct slice body);

static const struct {
    const char *name;
    const struct kube_kind *kind;           /* NULL: any that has it */
    void (*serve)(struct request *request); /* or: */
    on_body_fn *on_create;
    const char *connect; /* the request is a connection, of which webhooks see options of this kind; NULL: it is none */
} subresources[] = {
    {"status", NULL, serve_part, NULL, NULL},
    {"approval", &kube_kind_certificate_signing_request, serve_part, NULL, NULL},
    {"scale", NULL, serve_scale, NULL, NULL},
    {"finalize", &kube_kind_namespace, serve_finalize, NULL, NULL},
    {"ephemeralcontainers", &kube_kind_pod, serve_part, NULL, NULL},
    {"resize", &kube_kind_pod, serve_part, NULL, NULL},
    {"log", &kube_kind_pod, serve_node, NULL, NULL},
    {"exec", &kube_kind_pod, serve_node, NULL, "PodExecOptions"},
    {"attach", &kube_kind_pod, serve_node, NULL, "PodAttachOptions"},
    {"portforward", &kube_kind_pod, serve_node, NULL, "PodPortForwardOptions"},
    {"proxy", &kube_kind_pod, api_serve_proxy, NULL, "PodProxyOptions"},
    {"proxy", &kube_kind_service, api_serve_proxy, NULL, "ServiceProxyOptions"},
    {"proxy", &kube_kind_node, api_serve_proxy, NULL, "NodeProxyOptions"},
    {"binding", &kube_kind_pod, NULL, on_binding_body, NULL},
    {"eviction", &kube_kind_pod, NULL, api_on_eviction_body, NULL},
    {"token", &kube_kind_service_account, api_serve_token, NULL, NULL},
};

static bool has_subresource(const struct kube_kind *kind, const char *name, const struct kube_kind *only) {
    if (only)
        return only == kind;
    return !strcmp(name, "status") ? kind->has_status : kind->has_scale;
}

void api_serve_subresource(struct request *request) {
    for (size_t i = 0; i < ARRAY_LEN(subresources); i++) {
        if (strcmp(subresources[i].name, request->route.subresource) || !has_subresource(request->kind, subresources[i].name, subresources[i].kind))
            continue;
        if (subresources[i].connect)
            api_connect(request, subresources[i].connect, subresources[i].serve);
        else if (subresources[i].serve)
            subresources[i].serve(request);
        else if (!strcmp(request->verb, "create"))
            api_read_body(request, subresources[i].on_create);
        else
            respond_method(request);
        return;
    }
    api_respond_unknown_path(request);
}
