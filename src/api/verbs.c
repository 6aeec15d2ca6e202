/* Writes over HTTP: create, update, delete, deletecollection. Each reads the body, makes an object of it, and hands over to write.c; the answer is
 * sent by the callback, when the write is durable. Between the two the client may go: the request then stays until the callback, and answers nobody.
 */
#include "api/api_priv.h"

#include <stdio.h>

#define PATCH_SHOWN_BYTES_MAX 200 /* of a patch that cannot be taken, in the answer */

bool api_request_dry_run(const struct request *request) {
    const char *value = api_request_query(request, "dryRun");
    return value && !strcmp(value, "All");
}

/* Who does not name a manager is known by the first part of the User-Agent, as upstream has it. */
static const char *manager_of(const struct request *request) {
    const char *given = api_request_query(request, "fieldManager");
    if ((given && *given) || !request->exchange)
        return given;
    struct slice agent = http_header(request->exchange, "User-Agent");
    return arena_dup(request->arena, slice_head(slice_cut(&agent, '/'), 128));
}

struct write_options api_write_options_of(struct request *request) {
    const char *subresource = request->route.subresource;
    return (struct write_options){
        .user = &request->user,
        .manager = manager_of(request),
        .subresource = subresource,
        .status = !strcmp(subresource, "status") || !strcmp(subresource, "approval"),
        .reader = request,
        .dry_run = api_request_dry_run(request),
    };
}

void api_answer_written(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    struct request *request = userdata;
    if (failure)
        api_respond_failure(request, failure);
    else if (!json.data)
        api_respond_deleted(request, object);
    else
        api_view_respond(request, request->success_code, object, json);
    api_request_release(request);
}

/* Hands the result of a write_… call on: when it was refused at once, nobody will call answer_written. */
static void finish(struct request *request, int code, const struct api_failure *failure) {
    if (!code)
        return;
    api_respond_failure(request, failure);
    api_request_release(request);
}

/* --- decoding --- */

static enum kube_strictness strictness_of(const struct request *request) {
    const char *value = api_request_query(request, "fieldValidation");
    if (value && !strcmp(value, "Strict"))
        return KUBE_STRICT;
    return value && !strcmp(value, "Ignore") ? KUBE_LENIENT : KUBE_WARN;
}

static void keep_warnings(struct request *request, const struct diag *diag) {
    for (int i = 0; i < MIN(diag->causes_count, DIAG_CAUSES_MAX); i++) {
        const char *text = arena_strdup(request->arena, diag->causes[i].message);
        if (text)
            VECTOR_PUSH(&request->warnings, text);
    }
}

static int check_type(struct request *request, const struct tree *tree, struct api_failure *failure) {
    const char *version = tree_text_or(tree_find(tree, "apiVersion"), ""), *kind = tree_text_or(tree_find(tree, "kind"), "");
    const char *expected = kube_kind_api_version(request->kind);
    if (tree->type != TREE_MAP)
        return api_fail_bad_request(failure, "the body must be an object of kind %s, not a JSON %s", request->kind->kind, tree_type_name(tree));
    if (*version && strcmp(version, expected))
        return api_fail_bad_request(failure, "the API version in the data (%.100s) does not match the expected API version (%s)", version, expected);
    if (*kind && strcmp(kind, request->kind->kind))
        return api_fail_bad_request(failure, "the kind in the data (%.100s) does not match the expected kind (%s)", kind, request->kind->kind);
    if (tree_is_deeper(tree, API_DEPTH_MAX))
        return api_fail_bad_request(failure, "the object is nested deeper than %d levels", API_DEPTH_MAX);
    return 0;
}

static int check_place(struct request *request, struct kube_object *object, struct api_failure *failure) {
    struct kube_object_meta *metadata = object->metadata;
    const struct api_route *route = &request->route;
    const char *namespace = metadata->namespace ? metadata->namespace : "", *name = metadata->name ? metadata->name : "";
    if (request->kind->namespaced && *namespace && *route->namespace && strcmp(namespace, route->namespace))
        return *route->name ? api_fail_bad_request(failure, "the namespace of the object (%.63s) does not match the namespace on the request (%.63s)",
                                                   namespace, route->namespace)
                            : api_fail_bad_request(failure, "the namespace of the provided object does not match the namespace sent on the request");
    if (*route->name && !*name && !strcmp(request->verb, "update"))
        return api_fail_bad_request(failure, "the name of the object (%.253s based on URL) was undeterminable: name must be provided", route->name);
    if (*route->name && *name && strcmp(name, route->name))
        return api_fail_bad_request(failure, "the name of the object (%.253s) does not match the name on the URL (%.253s)", name, route->name);
    metadata->namespace = request->kind->namespaced ? arena_strdup(object->arena, *route->namespace ? route->namespace : namespace) : NULL;
    if (*route->name)
        metadata->name = arena_strdup(object->arena, route->name);
    bool complete = (!request->kind->namespaced || metadata->namespace) && (!*route->name || metadata->name);
    return complete ? 0 : api_fail_no_memory(failure);
}

bool api_is_strict(const struct request *request) {
    return strictness_of(request) == KUBE_STRICT;
}

/* Keys that stood twice are warnings, or come in front of what else is wrong. 0 or -EINVAL. */
static int add_faults(struct request *request, int error, struct diag *diag) {
    static const char prefix[] = "strict decoding error: ";
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(sizeof diag->message);
    enum kube_strictness strictness = strictness_of(request);
    if (strictness == KUBE_WARN && !error)
        for (size_t i = 0; i < request->faults.count; i++)
            VECTOR_PUSH(&request->warnings, request->faults.items[i]);
    bool strict_error = slice_starts(slice_of(diag->message), SLICE(prefix));
    if (strictness != KUBE_STRICT || !request->faults.count || (error && !strict_error))
        return error;
    for (size_t i = 0; i < request->faults.count; i++)
        buffer_printf(&text, "%s%s", i ? ", " : "", request->faults.items[i]);
    if (strict_error)
        buffer_printf(&text, ", %s", diag->message + sizeof prefix - 1);
    return diag_set(diag, -EINVAL, "%s%s", prefix, text.data ? text.data : "");
}

/* The tree as an object of the request's kind: 0, a code with its failure, or below 0 with the diag, for which the caller has the words. */
static int decode(struct request *request, const struct tree *tree, struct kube_object **ret, struct diag *diag, struct api_failure *failure) {
    int code = check_type(request, tree, failure);
    if (code)
        return code;
    int error = kube_decode_tree(request->kind, tree, strictness_of(request), ret, diag);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    error = add_faults(request, error, diag);
    if (!error)
        keep_warnings(request, diag);
    return error;
}

int api_decode_body(struct request *request, struct tree *tree, struct kube_object **ret, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    const struct kube_kind *kind = request->kind;
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    int code = decode(request, tree, &object, &diag, failure);
    if (code < 0)
        return api_fail_bad_request(failure, "%s in version \"%s\" cannot be handled as a %s: %s", kind->kind, kind->version, kind->kind,
                                    diag.message);
    code = code ? code : check_place(request, object, failure);
    if (!code)
        *ret = TAKE(object);
    return code;
}

int api_decode_patched(struct request *request, struct tree *tree, patch_show_fn *show, const void *userdata, struct kube_object **ret,
                       struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    int code = decode(request, tree, &object, &diag, failure);
    if (code < 0) {
        char message[DIAG_TEXT_MAX];
        snprintf(message, sizeof message, "%s", diag.message);
        diag = DIAG_INIT;
        CLEANUP(buffer_deinit) struct buffer shown = BUFFER_INIT(16 * MIB), quoted = BUFFER_INIT(4 * KIB);
        show(userdata, &shown);
        json_format_string(&quoted, slice_head(buffer_slice(&shown), PATCH_SHOWN_BYTES_MAX));
        diag_cause(&diag, "FieldValueInvalid", "patch", "Invalid value: %s: %s", quoted.data ? quoted.data : "\"\"", message);
        api_fail(failure, 422, "Invalid", " \"\" is invalid: patch: %s", diag.causes[0].message);
        failure->diag = diag;
        return 422;
    }
    code = code ? code : check_place(request, object, failure);
    if (!code)
        *ret = TAKE(object);
    return code;
}

/* Body → object in one step; answers itself when that fails. */
static struct kube_object *read_object(struct request *request, struct slice body, const char *options) {
    struct api_failure failure;
    struct tree *tree = NULL;
    struct kube_object *object = NULL;
    int code = api_check_options(request, options, false, &failure);
    if (!code)
        code = api_body_parse(request, body, &tree, &failure);
    if (!code)
        code = api_decode_body(request, tree, &object, &failure);
    if (code)
        api_respond_failure(request, &failure);
    return object;
}

/* --- create and update --- */

/* Takes the object over. */
static int create(struct request *request, struct kube_object *object, struct api_failure *failure) {
    struct write_options options = api_write_options_of(request);
    const char *version = object->metadata->resource_version;
    if (version && *version && strcmp(version, "0")) {
        kube_object_unref(object);
        return api_fail(failure, 500, "", "resourceVersion should not be set on objects to be created");
    }
    request->success_code = 201;
    return api_write_create(request->api, object, &options, api_answer_written, request, failure);
}

/* Kinds of which a PUT makes the object when there is none, as upstream. */
static bool is_created_by_update(const struct kube_kind *kind) {
    static const struct kube_kind *const kinds[] = {
        &kube_kind_endpoints,    &kube_kind_event,        &kube_kind_events_event, &kube_kind_lease,   &kube_kind_limit_range,
        &kube_kind_cluster_role, &kube_kind_role_binding, &kube_kind_role,         &kube_kind_service, &kube_kind_cluster_role_binding,
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i] == kind)
            return true;
    return false;
}

static bool may_create(struct request *request) {
    struct api_access access = {.verb = "create",
                                .group = request->route.group,
                                .resource = request->route.plural,
                                .namespace = request->route.namespace,
                                .name = request->route.name};
    return api_authorize(request->api, &request->user, &access, NULL);
}

/* Takes the object over. */
static int update(struct request *request, struct kube_object *object, struct api_failure *failure) {
    struct write_options options = api_write_options_of(request);
    if (!*request->route.subresource && is_created_by_update(request->kind)) {
        CLEANUP(kube_object_unrefp) struct kube_object *there = NULL;
        int code = api_stored_find(request->api, request->kind, request->route.namespace, request->route.name, &there, failure);
        if (code == 404 && may_create(request))
            return create(request, object, failure);
    }
    return api_write_update(request->api, object, &options, api_answer_written, request, failure);
}

static void on_create_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct kube_object *object = read_object(request, body, "CreateOptions");
    if (!object)
        return;
    api_request_hold(request);
    finish(request, create(request, object, &failure), &failure);
}

void api_serve_create(struct request *request) {
    api_read_body(request, on_create_body);
}

static void on_update_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct kube_object *object = read_object(request, body, "UpdateOptions");
    if (!object)
        return;
    api_request_hold(request);
    finish(request, update(request, object, &failure), &failure);
}

void api_serve_update(struct request *request) {
    api_read_body(request, on_update_body);
}

/* --- delete --- */

static int read_grace(const char *text, int64_t *ret) {
    int64_t seconds;
    if (slice_parse_i64(slice_of(text), &seconds) || seconds < 0)
        return -EINVAL;
    *ret = seconds;
    return 0;
}

/* From the body (DeleteOptions) when there is one, otherwise from the query. */
static int read_delete_options(struct request *request, struct slice body, struct api_delete_options *ret, struct api_failure *failure) {
    struct tree *tree = NULL;
    const char *grace = api_request_query(request, "gracePeriodSeconds"), *dry_run = api_request_query(request, "dryRun");
    const char *orphan = api_request_query(request, "orphanDependents");
    *ret = (struct api_delete_options){
        .grace_seconds = -1, .propagation = api_request_query(request, "propagationPolicy"), .user = &request->user, .reader = request};
    if (grace && read_grace(grace, &ret->grace_seconds))
        return api_fail_bad_request(failure, "invalid gracePeriodSeconds: \"%.40s\" is not a number of seconds", grace);
    bool given = orphan != NULL, orphans = api_request_flag(request, "orphanDependents");
    if (slice_trim(body).len) {
        int code = api_body_parse(request, body, &tree, failure);
        if (code)
            return code;
        const struct tree *dependents = tree_find(tree, "orphanDependents");
        ret->grace_seconds = tree_int_or(tree_find(tree, "gracePeriodSeconds"), ret->grace_seconds);
        ret->propagation = tree_text_or(tree_find(tree, "propagationPolicy"), ret->propagation);
        given = given || (dependents && dependents->type == TREE_BOOL);
        orphans = tree_bool_or(dependents, orphans);
        ret->uid = tree_text_or(tree_path(tree, "preconditions.uid"), NULL);
        ret->resource_version = tree_text_or(tree_path(tree, "preconditions.resourceVersion"), NULL);
        dry_run = tree_text_or(tree_at(tree_find(tree, "dryRun"), 0), dry_run);
    }
    int code = api_check_delete_options(ret->propagation, given, dry_run, failure);
    ret->dry_run = dry_run && *dry_run;
    if (given)
        ret->propagation = orphans ? "Orphan" : "Background";
    if (ret->grace_seconds < -1)
        ret->grace_seconds = 1; /* as upstream: "at once, but let it know" */
    return code;
}

static void on_delete_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct api_delete_options options;
    if (read_delete_options(request, body, &options, &failure)) {
        api_respond_failure(request, &failure);
        return;
    }
    api_request_hold(request);
    int code =
        api_write_delete(request->api, request->kind, request->route.namespace, request->route.name, &options, api_answer_written, request, &failure);
    finish(request, code, &failure);
}

void api_serve_delete(struct request *request) {
    api_read_body(request, on_delete_body);
}

/* --- deletecollection --- */

struct collection {
    struct request *request;
    struct selection selection;
    struct api_delete_options options;
    VECTOR(struct store_object *) objects;
    uint64_t limit; /* 0: none */
    size_t waiting;
    struct buffer answer; /* the list of what was to be deleted, as it was */
    bool failed;
    struct api_failure failure; /* the first */
};

static void collection_done(struct collection *collection) {
    if (--collection->waiting)
        return;
    struct request *request = collection->request;
    if (collection->failed)
        api_respond_failure(request, &collection->failure);
    else
        api_respond_json(request, 200, buffer_slice(&collection->answer));
    buffer_deinit(&collection->answer);
    free(collection);
    api_request_release(request);
}

static void on_one_deleted(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    (void)object;
    (void)json;
    struct collection *collection = userdata;
    if (failure && !collection->failed) {
        collection->failed = true;
        collection->failure = *failure;
    }
    collection_done(collection);
}

static bool collect(void *userdata, struct store_object *stored) {
    struct collection *collection = userdata;
    bool matches = api_selection_matches(&collection->selection, stored);
    api_decode_trim(collection->request->api);
    if (!matches)
        return true;
    if (collection->limit && collection->objects.count == collection->limit)
        return false;
    struct store_object *reference = store_object_ref(stored);
    if (!VECTOR_PUSH(&collection->objects, reference))
        return true;
    store_object_unref(reference);
    collection->failed = true;
    api_fail_no_memory(&collection->failure);
    return false;
}

/* Made before anything is deleted. */
static int put_answer(struct collection *collection) {
    const struct request *request = collection->request;
    struct buffer *out = &collection->answer;
    api_put_list_head(request, store_revision(request->api->store), out);
    buffer_append_text(out, "},\"items\":[");
    for (size_t i = 0; i < collection->objects.count; i++) {
        buffer_append_text(out, i ? "," : "");
        if (api_view_put(request, collection->objects.items[i], out) == -ENOMEM)
            return -ENOMEM;
    }
    return buffer_append_text(out, "]}\n");
}

static void delete_all(struct collection *collection) {
    struct request *request = collection->request;
    bool none = collection->failed; /* not all are known, or could be told: nothing is deleted */
    for (size_t i = 0; i < collection->objects.count; i++) {
        struct store_object *stored = collection->objects.items[i];
        if (none) {
            store_object_unref(stored);
            continue;
        }
        char *namespace = arena_dup(request->arena, stored->namespace), *name = arena_dup(request->arena, stored->name);
        struct api_failure failure;
        collection->waiting++;
        int code = namespace && name
                       ? api_write_delete(request->api, request->kind, namespace, name, &collection->options, on_one_deleted, collection, &failure)
                       : api_fail_no_memory(&failure);
        if (code && code != 404 && !collection->failed) {
            collection->failed = true;
            collection->failure = failure;
        }
        if (code)
            collection->waiting--;
        store_object_unref(stored);
    }
    VECTOR_DEINIT(&collection->objects);
}

static void on_collection_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct collection *collection = calloc(1, sizeof *collection);
    const char *limit = api_request_query(request, "limit");
    int code = collection ? read_delete_options(request, body, &collection->options, &failure) : api_fail_no_memory(&failure);
    if (!code && limit && *limit && slice_parse_u64(slice_of(limit), INT64_MAX, &collection->limit))
        code = api_fail_bad_request(&failure, "strconv.ParseInt: parsing \"%.64s\": invalid syntax", limit);
    if (!code)
        code = api_selection_of_request(request, &collection->selection, &failure);
    if (code) {
        free(collection);
        api_respond_failure(request, &failure);
        return;
    }
    collection->request = request;
    collection->answer = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    struct slice none = {NULL, 0};
    struct slice in = *request->route.namespace ? slice_of(request->route.namespace) : none;
    uint64_t blind = api_decode_failures(request->api);
    store_list(request->api->store, api_kind_slice(request->kind), in, none, none, collect, collection);
    if (api_decode_failures(request->api) != blind) {
        collection->failed = true;
        api_fail_no_memory(&collection->failure);
    }
    api_request_hold(request);
    collection->waiting = 1; /* of this function */
    if (!collection->failed && put_answer(collection)) {
        collection->failed = true;
        api_fail_no_memory(&collection->failure);
    }
    delete_all(collection);
    collection_done(collection);
}

void api_serve_delete_collection(struct request *request) {
    api_read_body(request, on_collection_body);
}
