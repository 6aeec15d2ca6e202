/* POST /v2/_tidemill/pull?reference=IMAGE[&insecure=1][&policy=…][&namespace=…][&secret=…]…: has the platform's registry fetch an image from another
 * one, for the command line and the node. Ours, not the specification's; a name component cannot begin with '_', so no repository is hidden by it.
 * Credentials for the other registry come in the header X-Registry-Authorization ("Basic …").
 *
 * The answer is text: "TIDEMILL-BEGIN", lines of progress, then what happened, then "TIDEMILL-EXIT 0" or 1. A client that goes away ends the pull. */
#include "registry/registry_priv.h"

struct remote {
    struct http_exchange *exchange; /* NULL once it has ended */
    struct registry_pull *pull;     /* NULL once it is done */
};

static void release(struct remote *remote) {
    if (!remote->exchange && !remote->pull)
        free(remote);
}

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    struct remote *remote = userdata;
    (void)exchange;
    (void)complete;
    remote->exchange = NULL;
    if (remote->pull)
        registry_pull_cancel(TAKE(remote->pull)); /* on_done will not run */
    release(remote);
}

static void say(struct remote *remote, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct remote *remote, const char *format, ...) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(4 * KIB);
    va_list args;
    va_start(args, format);
    buffer_vprintf(&line, format, args);
    va_end(args);
    if (remote->exchange && !buffer_error(&line))
        (void)http_write(remote->exchange, buffer_slice(&line)); /* a client that reads too slowly misses a line of progress */
}

static void on_progress(void *userdata, uint64_t bytes_done, uint64_t bytes_total) {
    say(userdata, "%.1f of %.1f MB\n", (double)bytes_done / 1e6, (double)bytes_total / 1e6);
}

static void on_done(void *userdata, const struct registry_pull_result *result) {
    struct remote *remote = userdata;
    char text[2 * DIAG_TEXT_MAX];
    remote->pull = NULL;
    if (result->error < 0)
        say(remote, "%s\nTIDEMILL-EXIT 1\n", diag_format(result->diag, text, sizeof text));
    else
        say(remote, "%s%s%s is sha256:%s\nTIDEMILL-EXIT 0\n", result->name, *result->tag ? ":" : "", result->tag, result->digest.hex);
    if (remote->exchange)
        http_respond_end(remote->exchange);
    else
        release(remote);
}

/* "Basic …" into user and password, which point into `text`. */
static void read_credentials(struct slice header, struct buffer *text, struct registry_pull_options *options) {
    struct slice rest = header;
    if (!slice_equal_nocase(slice_cut(&rest, ' '), SLICE("Basic")) || base64_decode(text, slice_trim(rest)) < 0 || !text->data)
        return;
    char *colon = memchr(text->data, ':', text->len);
    if (!colon)
        return;
    *colon = 0;
    options->user = text->data;
    options->password = colon + 1;
}

/* Registries on loopback addresses may speak plain HTTP, as docker has it. */
static bool is_on_loopback(const char *image) {
    struct slice rest = slice_of(image), host = slice_cut(&rest, '/');
    return rest.data && (slice_starts(host, SLICE("127.")) || slice_starts(host, SLICE("localhost:")));
}

void registry_on_pull(struct registry_request *request) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    struct diag diag = DIAG_INIT;
    const char *insecure = query_find(&request->query, "insecure"), *reference = query_find(&request->query, "reference");
    struct registry_pull_options options = {.reference = reference,
                                            .insecure = (insecure && strcmp(insecure, "1") == 0) || (reference && is_on_loopback(reference)),
                                            .on_progress = on_progress,
                                            .on_done = on_done};
    struct remote *remote = calloc(1, sizeof *remote);
    if (!remote || !options.reference) {
        free(remote);
        return registry_error(request->exchange, 400, "UNKNOWN", "expected ?reference=IMAGE");
    }
    options.userdata = remote;
    read_credentials(http_header(request->exchange, "X-Registry-Authorization"), &text, &options);
    int r = registry_pull(request->registry, &options, &remote->pull, &diag);
    if (text.data)
        explicit_bzero(text.data, text.len);
    if (r < 0) {
        free(remote);
        return registry_error(request->exchange, r == -EBUSY ? 429 : r == -EINVAL ? 400 : 500, "UNKNOWN", "%s", diag.message);
    }
    remote->exchange = request->exchange;
    http_on_close(request->exchange, on_close, remote);
    http_respond_begin(request->exchange, 200, "text/plain; charset=utf-8", -1, NULL);
    say(remote, "TIDEMILL-BEGIN\n");
}
