/* get and list. Both answer with the stored bytes; a list is the concatenation of its items' bytes. Decoding happens only for selectors and Tables.
 *
 * Lists are paged by key: the continue token is the last key that was sent with the revision of the first page, in base64url. Pages show the newest
 * state rather than a snapshot; since every page reports the first page's resourceVersion, a watch that starts there sees all that changed while the
 * pages were read, so nothing is ever missed. A token's revision is not checked against the change ring for that reason. */
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

/* --- get --- */

int api_object_answer(const struct request *request, struct store_object *stored, struct buffer *out) {
    if (request->table == TABLE_NONE) {
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
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get(request->api->store, api_kind_slice(request->kind), slice_of(route->namespace), slice_of(route->name));
    if (!stored) {
        api_fail_not_found(&failure, request->kind, route->name);
        api_respond_failure(request, &failure);
        return;
    }
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    if (api_object_answer(request, stored, &out)) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    api_respond_json(request, 200, buffer_slice(&out));
}

/* --- list --- */

struct listing {
    struct request *request;
    struct selection selection;
    struct buffer *out;
    uint64_t limit; /* 0: none */
    uint64_t count;
    struct store_object *last; /* the last item that was put; a reference */
    bool more;
};

static bool put_item(void *userdata, struct store_object *stored) {
    struct listing *list = userdata;
    if (!api_selection_matches(&list->selection, stored))
        return true;
    if (list->limit && list->count == list->limit) {
        list->more = true;
        return false;
    }
    if (list->request->table != TABLE_NONE) {
        api_table_row(list->request, stored, list->count == 0, list->out);
    } else {
        buffer_append_text(list->out, list->count ? "," : "");
        if (api_view_put(list->request, stored, list->out) == -ENOMEM)
            list->request->api->decode_failures++;
    }
    list->count++;
    store_object_unref(list->last);
    list->last = store_object_ref(stored);
    return buffer_error(list->out) == 0;
}

/* "revision\nnamespace\nname" in base64url. */
static char *make_token(struct arena *arena, uint64_t revision, const struct store_object *last) {
    CLEANUP(buffer_deinit) struct buffer plain = BUFFER_INIT(4 * KIB), token = BUFFER_INIT(8 * KIB);
    buffer_printf(&plain, "%" PRIu64 "\n%.*s\n%.*s", revision, SLICE_ARG(last->namespace), SLICE_ARG(last->name));
    if (buffer_error(&plain) || base64url_encode(&token, buffer_slice(&plain)))
        return NULL;
    return arena_dup(arena, buffer_slice(&token));
}

struct position {
    uint64_t revision;
    struct slice namespace, name; /* data NULL: from the start */
};

static int read_token(struct request *request, const char *token, struct position *ret) {
    CLEANUP(buffer_deinit) struct buffer plain = BUFFER_INIT(4 * KIB);
    if (base64url_decode(&plain, slice_of(token)) || !plain.len)
        return -EINVAL;
    char *text = arena_dup(request->arena, buffer_slice(&plain));
    if (!text)
        return -ENOMEM;
    struct slice rest = slice_of(text);
    if (slice_parse_u64(slice_cut(&rest, '\n'), UINT64_MAX, &ret->revision))
        return -EINVAL;
    ret->namespace = slice_cut(&rest, '\n');
    ret->name = rest;
    if (!ret->name.len)
        return -EINVAL;
    return 0;
}

/* The revision the client asks for; 0 when it does not care. */
static int read_revision(struct request *request, struct api_failure *failure, uint64_t *ret) {
    const char *text = api_request_query(request, "resourceVersion");
    *ret = 0;
    if (!text || !*text)
        return 0;
    if (slice_parse_u64(slice_of(text), UINT64_MAX, ret))
        return api_fail_bad_request(failure, "invalid resourceVersion: \"%.64s\" is not a number", text);
    uint64_t newest = store_revision(request->api->store);
    const char *match = api_request_query(request, "resourceVersionMatch");
    if (*ret > newest) {
        api_fail(failure, 504, "Timeout", "Too large resource version: %" PRIu64 ", current: %" PRIu64, *ret, newest);
        if (failure) {
            failure->retry_after_s = 1;
            diag_cause(&failure->diag, "ResourceVersionTooLarge", "", "Too large resource version");
        }
        return 504;
    }
    if (match && !strcmp(match, "Exact") && *ret != newest)
        return api_fail(failure, 410, "Expired", "The provided resource version is too old: only the newest, %" PRIu64 ", can be listed exactly.",
                        newest);
    return 0;
}

static int read_list(struct request *request, struct listing *list, struct position *position, struct api_failure *failure) {
    uint64_t wanted;
    int code = api_selection_of_request(request, &list->selection, failure);
    if (!code)
        code = read_revision(request, failure, &wanted);
    if (code)
        return code;
    const char *limit = api_request_query(request, "limit"), *token = api_request_query(request, "continue");
    if (limit && *limit && slice_parse_u64(slice_of(limit), INT64_MAX, &list->limit))
        return api_fail_bad_request(failure, "invalid limit: \"%.64s\" is not a number", limit);
    if (list->limit)
        list->limit = MIN(list->limit, API_LIST_ITEMS_MAX);
    *position = (struct position){.revision = store_revision(request->api->store)};
    if (token && *token && read_token(request, token, position))
        return api_fail_bad_request(failure, "continue key is not valid: it is not one that this server gave out");
    return 0;
}

static void put_items(struct request *request, struct listing *list, const struct position *position) {
    struct slice namespace = *request->route.namespace ? slice_of(request->route.namespace) : (struct slice){NULL, 0};
    store_list(request->api->store, api_kind_slice(request->kind), namespace, position->namespace, position->name, put_item, list);
}

void api_serve_list(struct request *request) {
    struct api_failure failure;
    CLEANUP(buffer_deinit) struct buffer items = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    struct listing list = {.request = request, .out = &items};
    struct position position;
    if (read_list(request, &list, &position, &failure)) {
        api_respond_failure(request, &failure);
        return;
    }
    uint64_t blind = api_decode_failures(request->api);
    put_items(request, &list, &position);
    const char *token = list.more ? make_token(request->arena, position.revision, list.last) : NULL;
    store_object_unref(list.last);
    if ((list.more && !token) || api_decode_failures(request->api) != blind || buffer_error(&items) == -ENOMEM) {
        api_fail_no_memory(&failure); /* a list that is not whole would be taken for one from which things have gone */
        api_respond_failure(request, &failure);
        return;
    }
    if (request->table != TABLE_NONE) {
        api_table_begin(request, request->kind, position.revision, token, &out);
        buffer_append_slice(&out, buffer_slice(&items));
        api_table_end(&out);
    } else {
        buffer_printf(&out, "{\"kind\":\"%s%s\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%" PRIu64 "\"",
                      request->kind->custom ? kube_custom_list_kind(request->kind) : request->kind->kind, request->kind->custom ? "" : "List",
                      kube_kind_api_version(request->kind), position.revision);
        if (token)
            buffer_printf(&out, ",\"continue\":\"%s\"", token);
        buffer_append_text(&out, "},\"items\":[");
        buffer_append_slice(&out, buffer_slice(&items));
        buffer_append_text(&out, "]}\n");
    }
    if (buffer_error(&out) == -ENOMEM) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    if (buffer_error(&items) || buffer_error(&out)) {
        api_fail(&failure, 413, "RequestEntityTooLarge",
                 "the list is larger than %zu bytes: ask for pages with ?limit=", (size_t)API_ANSWER_BYTES_MAX);
        api_respond_failure(request, &failure);
        return;
    }
    api_respond_json(request, 200, buffer_slice(&out));
}
