/* get and list. Both answer with the stored bytes; a list is the concatenation of its items' bytes. Decoding happens only for selectors and Tables.
 *
 * Pages are of one snapshot: the continue token names the revision of the first page and the last key, and the store lists as of that revision as
 * long as its ring of changes reaches back. Afterwards the answer is 410 with a token of revision "newest", by which who will may go on
 * inconsistently. */
#include "api/api_priv.h"

#include <stdio.h>

/* --- selection --- */

int api_selection_of_request(struct request *request, struct selection *ret, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    const char *labels = api_request_query(request, "labelSelector"), *fields = api_request_query(request, "fieldSelector");
    *ret = (struct selection){.api = request->api, .kind = request->kind, .namespace = request->route.namespace};
    int error = 0;
    if (labels && *labels)
        error = kube_selector_parse(request->arena, slice_of(labels), &ret->labels, &diag);
    if (!error && fields && *fields)
        error = kube_field_selector_parse(request->kind, request->arena, slice_of(fields), &ret->fields, &diag);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (error)
        return api_fail_bad_request(failure, "%s", diag.message);
    return 0;
}

bool api_selection_matches(const struct selection *selection, struct store_object *stored) {
    if (!selection->labels && !selection->fields)
        return true;
    struct kube_object *object = api_decode(selection->api, stored);
    if (!object)
        return false;
    if (selection->labels && !kube_selector_match(selection->labels, &object->metadata->labels))
        return false;
    if (!selection->fields)
        return true;
    CLEANUP(kube_object_unrefp) struct kube_object *view = NULL; /* fields are named as the request's kind names them */
    if (kube_convert(object, selection->kind, &view)) {
        selection->api->decode_failures++;
        return false;
    }
    return kube_field_selector_match(selection->fields, view);
}

/* --- revisions --- */

/* 504 when the revision has not been reached. */
static int check_reached(const struct request *request, uint64_t revision, struct api_failure *failure) {
    uint64_t newest = store_revision(request->api->store);
    if (revision <= newest)
        return 0;
    api_fail(failure, 504, "Timeout", "Timeout: Too large resource version: %" PRIu64 ", current: %" PRIu64, revision, newest);
    if (failure) {
        failure->retry_after_s = 1;
        diag_cause(&failure->diag, "ResourceVersionTooLarge", "", "Too large resource version");
    }
    return 504;
}

int api_revision_of_request(const struct request *request, uint64_t *ret, struct api_failure *failure) {
    const char *text = api_request_query(request, "resourceVersion");
    *ret = 0;
    if (text && *text && slice_parse_u64(slice_of(text), UINT64_MAX, ret))
        return api_fail_bad_request(failure,
                                    "invalid resource version: resourceVersion: Invalid value: \"%.64s\": strconv.ParseUint: parsing \"%.64s\": "
                                    "invalid syntax",
                                    text, text);
    return 0;
}

/* --- get --- */

int api_object_answer(const struct request *request, struct store_object *stored, struct buffer *out) {
    if (!api_is_table(request)) {
        int error = api_view_put(request, stored, out);
        return error ? error : buffer_append_text(out, "\n");
    }
    api_table_begin(request, request->kind, stored->revision, NULL, out);
    api_table_row(request, stored, true, out);
    api_table_end(out);
    return buffer_error(out);
}

void api_serve_get(struct request *request) {
    const struct api_route *route = &request->route;
    struct api_failure failure;
    uint64_t revision;
    int code = api_revision_of_request(request, &revision, &failure);
    if (!code)
        code = check_reached(request, revision, &failure);
    CLEANUP(store_object_unrefp) struct store_object *stored = NULL;
    if (!code)
        stored = store_get(request->api->store, api_kind_slice(request->kind), slice_of(route->namespace), slice_of(route->name));
    if (!code && !stored)
        code = api_fail_not_found(&failure, request->kind, route->name);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    if (!code && api_object_answer(request, stored, &out))
        code = api_fail_no_memory(&failure);
    if (code)
        api_respond_failure(request, &failure);
    else
        api_respond_json(request, 200, buffer_slice(&out));
}

/* --- list --- */

struct listing {
    struct request *request;
    struct selection selection;
    struct buffer *out;
    uint64_t revision;             /* of the snapshot; UINT64_MAX: the newest state, whatever it is */
    struct slice namespace_, name; /* list behind this key; data NULL: from the start */
    uint64_t limit;                /* 0: none */
    uint64_t count, remaining;
    struct store_object *last; /* the last item that was put; a reference */
};

static void put_object(struct listing *list, struct store_object *stored) {
    if (api_is_table(list->request)) {
        api_table_row(list->request, stored, list->count == 0, list->out);
    } else {
        buffer_append_text(list->out, list->count ? "," : "");
        if (api_view_put(list->request, stored, list->out) == -ENOMEM)
            list->request->api->decode_failures++;
    }
}

static bool put_item(void *userdata, struct store_object *stored) {
    struct listing *list = userdata;
    bool matches = api_selection_matches(&list->selection, stored);
    api_decode_trim(list->request->api);
    if (!matches)
        return true;
    if (list->limit && list->count == list->limit) {
        list->remaining = 1; /* at least: see put_items */
        return false;
    }
    put_object(list, stored);
    api_decode_trim(list->request->api);
    list->count++;
    store_object_unref(list->last);
    list->last = store_object_ref(stored);
    return buffer_error(list->out) == 0;
}

/* {"v":"meta.k8s.io/v1","rv":7,"start":"namespace/name"} in base64url, as upstream's; nobody but us reads them. rv -1: the newest. */
static char *make_token(struct arena *arena, int64_t revision, struct slice namespace, struct slice name) {
    CLEANUP(buffer_deinit) struct buffer plain = BUFFER_INIT(4 * KIB), token = BUFFER_INIT(8 * KIB);
    buffer_printf(&plain, "{\"v\":\"meta.k8s.io/v1\",\"rv\":%" PRIi64 ",\"start\":\"%.*s/%.*s\"}", revision, SLICE_ARG(namespace), SLICE_ARG(name));
    if (buffer_error(&plain) || base64url_encode(&token, buffer_slice(&plain)))
        return NULL;
    return arena_dup(arena, buffer_slice(&token));
}

static int read_token(struct request *request, const char *token, struct listing *list, struct api_failure *failure) {
    CLEANUP(buffer_deinit) struct buffer plain = BUFFER_INIT(4 * KIB);
    struct tree *tree = NULL;
    int error = base64url_decode(&plain, slice_of(token));
    if (!error)
        error = json_parse(request->arena, buffer_slice(&plain), NULL, &tree, NULL);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    int64_t revision = tree_int_or(tree_find(tree, "rv"), 0);
    struct slice start = slice_of(tree_text_or(tree_find(tree, "start"), ""));
    if (error || strcmp(tree_text_or(tree_find(tree, "v"), ""), "meta.k8s.io/v1") || revision == 0 || revision < -1 || slice_index(start, '/') < 0)
        return api_fail_bad_request(failure, "invalid continue token: continue key is not valid");
    list->revision = revision < 0 ? UINT64_MAX : (uint64_t)revision;
    list->namespace_ = slice_cut(&start, '/');
    list->name = start;
    return 0;
}

/* A list as of now, as of a revision, or behind a token. */
static int read_place(struct request *request, struct listing *list, struct api_failure *failure) {
    const char *token = api_request_query(request, "continue"), *match = api_request_query(request, "resourceVersionMatch");
    const char *version = api_request_query(request, "resourceVersion");
    uint64_t wanted;
    int code = api_revision_of_request(request, &wanted, failure);
    if (code)
        return code;
    if (token && *token && version && *version && strcmp(version, "0"))
        return api_fail_bad_request(failure, "specifying resource version is not allowed when using continue");
    if (token && *token)
        return read_token(request, token, list, failure);
    bool exact = match && *match ? !strcmp(match, "Exact") : list->limit > 0;
    list->revision = exact && wanted ? wanted : UINT64_MAX;
    return check_reached(request, wanted, failure);
}

static int read_list(struct request *request, struct listing *list, struct api_failure *failure) {
    const char *limit = api_request_query(request, "limit");
    int64_t items = 0;
    int code = api_check_list_options(request, failure);
    if (!code)
        code = api_selection_of_request(request, &list->selection, failure);
    if (code)
        return code;
    if (limit && slice_parse_i64(slice_of(limit), &items) == 0 && items > 0) /* below 0 is none, as upstream */
        list->limit = (uint64_t)MIN(items, API_LIST_ITEMS_MAX);
    return read_place(request, list, failure);
}

static int expired(struct listing *list, struct api_failure *failure) {
    if (!list->name.data)
        return api_fail(failure, 410, "Expired", "The resourceVersion for the provided list is too old.");
    api_fail(
        failure, 410, "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or "
        "use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an "
        "inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up "
        "in the list.");
    failure->continue_token = make_token(list->request->arena, -1, list->namespace_, list->name);
    return 410;
}

static int put_items(struct listing *list, struct api_failure *failure) {
    struct request *request = list->request;
    struct store *store = request->api->store;
    struct slice namespace = *request->route.namespace ? slice_of(request->route.namespace) : (struct slice){NULL, 0};
    uint64_t blind = api_decode_failures(request->api), revision = list->revision;
    if (revision == UINT64_MAX)
        list->revision = store_revision(store);
    int error = store_list_at(store, list->revision, api_kind_slice(request->kind), namespace, list->namespace_, list->name, put_item, list);
    if (error == STORE_E_EXPIRED)
        return expired(list, failure);
    /* a list that is not whole would be taken for one from which things have gone */
    if (error || api_decode_failures(request->api) != blind || buffer_error(list->out) == -ENOMEM)
        return api_fail_no_memory(failure);
    if (list->remaining) /* an estimate when the snapshot is an old one, which is all that upstream promises */
        list->remaining =
            MAX((size_t)1, store_count_behind(store, api_kind_slice(request->kind), namespace, list->last->namespace, list->last->name));
    return 0;
}

void api_put_list_head(const struct request *request, uint64_t revision, struct buffer *out) {
    if (request->table == PARTIAL_V1 || request->table == PARTIAL_V1BETA1)
        buffer_printf(out, "{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"%s\"", api_meta_version(request));
    else
        buffer_printf(out, "{\"kind\":\"%s%s\",\"apiVersion\":\"%s\"",
                      request->kind->custom ? kube_custom_list_kind(request->kind) : request->kind->kind, request->kind->custom ? "" : "List",
                      kube_kind_api_version(request->kind));
    buffer_printf(out, ",\"metadata\":{\"resourceVersion\":\"%" PRIu64 "\"", revision);
}

static void put_list_head(const struct listing *list, const char *token, struct buffer *out) {
    api_put_list_head(list->request, list->revision, out);
    api_put_continue(token, list->selection.labels || list->selection.fields ? 0 : list->remaining, out);
    buffer_append_text(out, "},\"items\":[");
}

void api_put_continue(const char *token, uint64_t remaining, struct buffer *out) {
    if (token)
        buffer_printf(out, ",\"continue\":\"%s\"", token);
    if (token && remaining)
        buffer_printf(out, ",\"remainingItemCount\":%" PRIu64, remaining);
}

static void put_list(const struct listing *list, const char *token, struct buffer *out) {
    bool table = api_is_table(list->request);
    if (table)
        api_table_begin(list->request, list->request->kind, list->revision, token, out);
    else
        put_list_head(list, token, out);
    buffer_append_slice(out, buffer_slice(list->out));
    if (table)
        api_table_end(out);
    else
        buffer_append_text(out, "]}\n");
}

void api_serve_list(struct request *request) {
    struct api_failure failure;
    CLEANUP(buffer_deinit) struct buffer items = BUFFER_INIT(API_ANSWER_BYTES_MAX), out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    struct listing list = {.request = request, .out = &items};
    int code = read_list(request, &list, &failure);
    if (!code)
        code = put_items(&list, &failure);
    const char *token = NULL;
    if (!code && list.remaining && !(token = make_token(request->arena, (int64_t)list.revision, list.last->namespace, list.last->name)))
        code = api_fail_no_memory(&failure);
    store_object_unref(list.last);
    if (!code)
        put_list(&list, token, &out);
    if (!code && buffer_error(&out) == -ENOMEM)
        code = api_fail_no_memory(&failure);
    if (!code && (buffer_error(&items) || buffer_error(&out)))
        code = api_fail(&failure, 413, "RequestEntityTooLarge",
                        "the list is larger than %zu bytes: ask for pages with ?limit=", (size_t)API_ANSWER_BYTES_MAX);
    if (code)
        api_respond_failure(request, &failure);
    else
        api_respond_json(request, 200, buffer_slice(&out));
}
