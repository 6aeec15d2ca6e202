/* PATCH: the newest version as a tree, the patch upon it, and then an ordinary update. The tree carries the version it was read at, and a patch may
 * set another to ask for a conflict. All in one turn of the loop, so a patch without a version never conflicts; when webhooks were asked in between
 * and the object has changed meanwhile, the patch is put upon the newest version again. An apply patch creates the object when there is none. */
#include "api/api_priv.h"
#include "api/managed.h"

#include <stdio.h>

#define JSON_PATCH_OPERATIONS_MAX 10000 /* as upstream */
#define PATCH_TRIES 5

static int patch_failed(struct api_failure *failure, int error, const struct diag *diag) {
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (error == -ENOENT || error == -E2BIG)
        return api_fail(failure, 422, "Invalid", "the server rejected our request due to an error in our request");
    return api_fail_bad_request(failure, "error decoding patch: %s", diag->message);
}

/* As Go prints maps: map[a:1 b:[x y]], keys in order. It is how upstream shows a strategic patch that led nowhere. */
static void put_go(const struct tree *node, struct buffer *out) {
    if (node->type != TREE_MAP && node->type != TREE_LIST) {
        if (node->type == TREE_STRING)
            buffer_append_slice(out, node->string);
        else if (node->type == TREE_NULL)
            buffer_append_text(out, "<nil>");
        else
            json_format(out, node);
        return;
    }
    buffer_append_text(out, node->type == TREE_MAP ? "map[" : "[");
    for (size_t i = 0; i < tree_count(node); i++) {
        const struct tree_entry *entry = &node->children->items[i];
        if (i)
            buffer_append_text(out, " ");
        if (node->type == TREE_MAP)
            buffer_printf(out, "%.*s:", SLICE_ARG(entry->key));
        put_go(entry->value, out);
    }
    buffer_append_text(out, "]");
}

struct shown {
    enum body_form form;
    const struct tree *patch, *result;
};

static void show(const void *userdata, struct buffer *out) {
    const struct shown *shown = userdata;
    if (shown->form == BODY_STRATEGIC_PATCH)
        put_go(shown->patch, out);
    else
        json_format(out, shown->result);
}

static int apply_to_tree(struct request *request, enum body_form form, const struct kube_object *old, struct tree *patch, struct tree **ret,
                         struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    struct tree *tree = kube_encode_tree(old, request->arena);
    int error = tree ? 0 : -ENOMEM;
    if (form == BODY_JSON_PATCH && tree_count(patch) > JSON_PATCH_OPERATIONS_MAX)
        return api_fail(failure, 413, "RequestEntityTooLarge",
                        "Request entity too large: The allowed maximum operations in a JSON patch is %d, got %zu", JSON_PATCH_OPERATIONS_MAX,
                        tree_count(patch));
    if (!error && form == BODY_JSON_PATCH) {
        error = tree_json_patch(request->arena, tree, patch, ret, &diag);
    } else if (!error && form == BODY_MERGE_PATCH) {
        *ret = tree_merge_patch(request->arena, tree, patch);
        error = *ret ? 0 : -ENOMEM;
    } else if (!error) {
        error = kube_strategic_merge(request->kind, request->arena, tree, patch, ret, &diag);
    }
    return error ? patch_failed(failure, error, &diag) : 0;
}

/* A key that stands twice in an applied document. */
static int check_applied(struct request *request, struct api_failure *failure) {
    const char *fault = request->faults.count ? request->faults.items[0] : NULL;
    if (fault && api_is_strict(request))
        return api_fail_bad_request(failure, "error strict decoding YAML: error converting YAML to JSON: %s", fault);
    return 0;
}

/* What may be done again. */
struct patching {
    struct request *request;
    enum body_form form;
    struct tree *tree;
    unsigned tries;
};

static int patch(struct patching *patching, struct api_failure *failure);

static void on_patched(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    struct patching *patching = userdata;
    struct api_failure other;
    if (!failure || !failure->stale || ++patching->tries >= PATCH_TRIES) {
        api_answer_written(patching->request, failure, object, json);
        return;
    }
    if (patch(patching, &other))
        api_answer_written(patching->request, &other, NULL, (struct slice){NULL, 0});
}

static int create_applied(struct patching *patching, const char *manager, struct api_failure *failure) {
    struct request *request = patching->request;
    struct tree *applied = patching->tree;
    struct tree *tree = NULL;
    struct kube_object *object = NULL;
    struct managed managed;
    const char *uid = tree_text_or(tree_path(applied, "metadata.uid"), "");
    if (*uid) {
        char why[300];
        snprintf(why, sizeof why, "uid mismatch: the provided object specified uid %.100s, and no existing object was found", uid);
        return api_fail_conflict(failure, request->kind, request->route.name, why);
    }
    int code = check_applied(request, failure);
    if (!code)
        code = api_apply_patch(request, NULL, applied, manager, true, &managed, &tree, failure);
    if (!code)
        code = api_decode_body(request, tree, &object, failure);
    if (code)
        return code;
    struct write_options options = api_write_options_of(request);
    options.managed = &managed;
    request->success_code = 201;
    return api_write_create(request->api, object, &options, on_patched, patching, failure);
}

static int update_patched(struct patching *patching, const struct kube_object *old, const char *manager, struct api_failure *failure) {
    struct request *request = patching->request;
    enum body_form form = patching->form;
    struct tree *tree = NULL;
    struct kube_object *object = NULL;
    struct managed managed;
    struct tree *patch = patching->tree;
    int code = form == BODY_APPLY ? check_applied(request, failure) : apply_to_tree(request, form, old, patch, &tree, failure);
    if (!code && form == BODY_APPLY)
        code = api_apply_patch(request, old, patch, manager, api_request_flag(request, "force"), &managed, &tree, failure);
    if (!code && form == BODY_APPLY) {
        code = api_decode_body(request, tree, &object, failure);
    } else if (!code) {
        const struct shown shown = {form, patch, tree};
        code = api_decode_patched(request, tree, show, &shown, &object, failure);
    }
    if (code)
        return code;
    struct write_options options = api_write_options_of(request);
    options.managed = form == BODY_APPLY ? &managed : NULL;
    return api_write_update(request->api, object, &options, on_patched, patching, failure);
}

static int patch(struct patching *patching, struct api_failure *failure) {
    struct request *request = patching->request;
    const char *manager = api_request_query(request, "fieldManager");
    CLEANUP(kube_object_unrefp) struct kube_object *old = NULL;
    int code = api_stored_find(request->api, request->kind, request->route.namespace, request->route.name, &old, failure);
    if (old && api_view_of(request->kind, &old))
        return api_fail_no_memory(failure);
    if (old)
        return update_patched(patching, old, manager, failure);
    if (code == 404 && patching->form == BODY_APPLY && !*request->route.subresource)
        return create_applied(patching, manager, failure);
    return code;
}

static void on_patch_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct request *request = userdata;
    struct api_failure failure;
    struct tree *tree = NULL;
    enum body_form form = api_body_form_of(http_header(exchange, "Content-Type"));
    bool custom = request->kind->custom,
         known = form == BODY_JSON_PATCH || form == BODY_MERGE_PATCH || form == BODY_APPLY || (form == BODY_STRATEGIC_PATCH && !custom);
    int code = known ? api_body_parse(request, body, &tree, &failure)
                     : api_fail(&failure, 415, "UnsupportedMediaType",
                                "the body of the request was in an unknown format - accepted media types include: "
                                "application/json-patch+json, application/merge-patch+json, %sapplication/apply-patch+yaml",
                                custom ? "" : "application/strategic-merge-patch+json, ");
    if (!code)
        code = api_check_options(request, "PatchOptions", form == BODY_APPLY, &failure);
    if (!code && form != BODY_JSON_PATCH && tree->type != TREE_MAP)
        code = api_fail_bad_request(&failure, "error decoding patch: an object is expected, not a JSON %s", tree_type_name(tree));
    if (!code && api_is_scale(request)) {
        api_serve_scale_patch(request, tree, form);
        return;
    }
    api_request_hold(request);
    struct patching *patching = code ? NULL : ARENA_NEW(request->arena, struct patching);
    if (patching) {
        *patching = (struct patching){request, form, tree, 0};
        code = patch(patching, &failure);
    } else if (!code) {
        code = api_fail_no_memory(&failure);
    }
    if (code) {
        api_respond_failure(request, &failure);
        api_request_release(request);
    }
}

void api_serve_patch(struct request *request) {
    api_read_body(request, on_patch_body);
}
