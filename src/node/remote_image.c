/* An image that our registry does not have, from the one its name means: the registry in core fetches it (it is the store's one writer, and the one
 * that talks to the internet), we wait for its answer. The answer is text: progress, a last line that says what happened, then "TIDEMILL-EXIT n".
 * Registries on loopback addresses may speak plain HTTP, as docker has it. */
#include "node/node_priv.h"

#define REMOTE_TAIL_BYTES_MAX (8 * KIB)

struct remote_image {
    remote_image_fn *on_done;
    void *userdata;
    struct http_request *request;
    struct buffer tail; /* the end of the answer */
    int status;
};

static void on_head(void *userdata, const struct http_answer *head) {
    struct remote_image *remote = userdata;
    remote->status = head->status;
}

static void on_data(void *userdata, struct slice data) {
    struct remote_image *remote = userdata;
    data = slice_from(data, data.len > REMOTE_TAIL_BYTES_MAX ? data.len - REMOTE_TAIL_BYTES_MAX : 0);
    size_t over = remote->tail.len + data.len > REMOTE_TAIL_BYTES_MAX ? remote->tail.len + data.len - REMOTE_TAIL_BYTES_MAX : 0;
    buffer_consume(&remote->tail, over);
    buffer_append_slice(&remote->tail, data);
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
    remote->on_done(remote->userdata, message ? -EIO : 0, message ? message : "");
    remote_image_free(remote);
}

static bool is_on_loopback(const char *image) {
    struct slice rest = slice_of(image), host = slice_cut(&rest, '/');
    return rest.data && (slice_starts(host, SLICE("127.")) || slice_starts(host, SLICE("localhost:")));
}

int remote_image_pull(struct node *node, const char *image, remote_image_fn *on_done, void *userdata, struct remote_image **ret) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(4 * KIB);
    struct remote_image *remote = calloc(1, sizeof *remote);
    if (!remote)
        return -ENOMEM;
    *remote = (struct remote_image){.on_done = on_done, .userdata = userdata, .tail = BUFFER_INIT(REMOTE_TAIL_BYTES_MAX)};
    buffer_printf(&target, "/v2/_tidemill/pull?insecure=%d&reference=", is_on_loopback(image));
    percent_encode(&target, slice_of(image));
    int r = buffer_error(&target);
    const struct http_request_options options = {.method = "POST", .target = target.data, .timeout_ms = -1};
    if (r == 0)
        r = http_client_stream(client_http(node->client), &options, &handlers, remote, &remote->request);
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
