/* An image from the registry that its name means: core fetches it (it is the store's one writer, the one that talks to the internet, and the one that
 * may read secrets), we wait for its answer. That is text: "TIDEMILL-BEGIN" when its turn has come, "TIDEMILL-ARRIVING DIGEST PLACE" when blobs have
 * begun to come, progress, "TIDEMILL-MISSING a, b" for secrets
 * that are not there, a line that says what happened, and at last "TIDEMILL-EXIT n". */
#include "node/node_priv.h"

#define REMOTE_TAIL_BYTES_MAX (8 * KIB)

struct remote_image {
    struct node *node;
    remote_image_fn *on_done;
    remote_image_arriving_fn *on_arriving; /* NULL once it was told */
    void *userdata;
    int64_t began_ms;
    struct http_request *request;
    struct buffer tail; /* the end of the answer */
    int status;
};

static void on_head(void *userdata, const struct http_answer *head) {
    struct remote_image *remote = userdata;
    remote->status = head->status;
}

static void tell_arriving(struct remote_image *remote) {
    static const struct slice lead = {"TIDEMILL-ARRIVING ", 18};
    char manifest[80], place[64];
    for (struct slice rest = buffer_slice(&remote->tail); remote->on_arriving && slice_index(rest, '\n') >= 0;) {
        struct slice line = slice_cut(&rest, '\n');
        if (!slice_starts(line, lead))
            continue;
        struct slice second = slice_from(line, lead.len), first = slice_cut(&second, ' ');
        snprintf(manifest, sizeof manifest, "%.*s", SLICE_ARG(first));
        snprintf(place, sizeof place, "%.*s", SLICE_ARG(second));
        remote_image_arriving_fn *on_arriving = TAKE(remote->on_arriving);
        on_arriving(remote->userdata, manifest, place);
    }
}

static void on_data(void *userdata, struct slice data) {
    struct remote_image *remote = userdata;
    if (!remote->began_ms && data.len)
        remote->began_ms = loop_now_ns(remote->node->loop) / 1000000;
    data = slice_from(data, data.len > REMOTE_TAIL_BYTES_MAX ? data.len - REMOTE_TAIL_BYTES_MAX : 0);
    size_t over = remote->tail.len + data.len > REMOTE_TAIL_BYTES_MAX ? remote->tail.len + data.len - REMOTE_TAIL_BYTES_MAX : 0;
    buffer_consume(&remote->tail, over);
    buffer_append_slice(&remote->tail, data);
    tell_arriving(remote);
}

static struct slice last_line(struct slice *text) {
    size_t start = text->len;
    while (start > 0 && text->data[start - 1] != '\n')
        start--;
    struct slice line = slice_from(*text, start);
    *text = slice_head(*text, start ? start - 1 : 0);
    return line;
}

/* What the answer says when it is no 200: {"errors": [{"message": …}]}. */
static const char *read_error(struct remote_image *remote, struct arena *arena) {
    struct tree *tree = NULL;
    if (json_parse(arena, buffer_slice(&remote->tail), NULL, &tree, NULL) < 0)
        return "the registry refused";
    return tree_text_or(tree_find(tree_at(tree_find(tree, "errors"), 0), "message"), "the registry refused");
}

/* The list of the line that tells which secrets are not there; "" without one. */
static const char *find_missing(struct slice text, struct arena *arena) {
    static const struct slice lead = {"TIDEMILL-MISSING ", 17};
    for (struct slice rest = text; rest.len;) {
        struct slice line = slice_cut(&rest, '\n');
        const char *copy = slice_starts(line, lead) ? arena_dup(arena, slice_from(line, lead.len)) : NULL;
        if (copy)
            return copy;
    }
    return "";
}

static void on_end(void *userdata, int error) {
    struct remote_image *remote = userdata;
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct slice text = slice_trim(buffer_slice(&remote->tail)), verdict = last_line(&text);
    const char *message = NULL;
    if (!arena)
        message = "out of memory";
    else if (error)
        message = strerror(-error);
    else if (remote->status != 200)
        message = read_error(remote, arena);
    else if (!slice_is(verdict, "TIDEMILL-EXIT 0"))
        message = arena_dup(arena, last_line(&text));
    remote->request = NULL;
    remote->on_done(remote->userdata, &(struct remote_image_result){.error = message ? -EIO : 0,
                                                                    .message = message ? message : "",
                                                                    .missing = arena ? find_missing(text, arena) : "",
                                                                    .began_ms = remote->began_ms});
    remote_image_free(remote);
}

static int format_target(const struct remote_image_options *options, struct buffer *out) {
    buffer_printf(out, "/v2/_tidemill/pull?policy=%s&namespace=%s&reference=", options->policy, options->namespace);
    percent_encode(out, slice_of(options->image));
    buffer_append_text(out, options->checks ? "&checks=1" : "");
    for (size_t i = 0; i < options->secrets->count; i++) {
        buffer_append_text(out, "&secret=");
        percent_encode(out, slice_of(options->secrets->items[i].name ? options->secrets->items[i].name : ""));
    }
    return buffer_error(out);
}

int remote_image_pull(struct node *node, const struct remote_image_options *options, struct remote_image **ret) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    struct remote_image *remote = calloc(1, sizeof *remote);
    if (!remote)
        return -ENOMEM;
    *remote = (struct remote_image){.node = node,
                                    .on_done = options->on_done,
                                    .on_arriving = options->on_arriving,
                                    .userdata = options->userdata,
                                    .tail = BUFFER_INIT(REMOTE_TAIL_BYTES_MAX)};
    int r = format_target(options, &target);
    const struct http_request_options request = {.method = "POST", .target = target.data, .timeout_ms = -1};
    if (r == 0)
        r = http_client_stream(client_http(node->client), &request, &handlers, remote, &remote->request);
    if (r < 0)
        remote_image_free(remote);
    else
        *ret = remote;
    return r;
}

void remote_image_free(struct remote_image *remote) {
    if (!remote)
        return;
    http_request_cancel(remote->request);
    buffer_deinit(&remote->tail);
    free(remote);
}
