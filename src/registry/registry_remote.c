/* POST /v2/_tidemill/pull?reference=IMAGE: has the platform's registry fetch an image from another one, for the command line and the node. Ours, not
 * the specification's; a name component cannot begin with '_', so no repository is hidden by it. Further parameters:
 *
 *   policy=Always|IfNotPresent|Never   as imagePullPolicy; Always without
 *   namespace=NS, secret=NAME …        pull secrets of the cluster
 *   platform=linux/arm64               another than this machine's
 *   insecure=1                         plain HTTP, or certificates that nobody checks
 *
 * Further credentials come in the header X-Registry-Authorization ("Basic …", for the registry named), or as a docker config.json in the body.
 *
 * The answer is text: "TIDEMILL-BEGIN" when its turn has come, lines of progress, "TIDEMILL-MISSING a, b" for secrets that are not there, what
 * happened, and then "TIDEMILL-EXIT 0" or 1. A client that goes away ends the pull. */
#include "registry/registry_priv.h"

#define SECRETS_MAX 100
#define MISSING_BYTES_MAX (4 * KIB)

struct asker {
    struct http_exchange *exchange; /* NULL once it has ended */
    struct registry_pull *pull;     /* NULL once it is done */
    struct buffer missing;          /* pull secrets that are not there */
};

static void release(struct asker *asker) {
    if (asker->exchange || asker->pull)
        return;
    buffer_deinit(&asker->missing);
    free(asker);
}

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    struct asker *asker = userdata;
    (void)exchange;
    (void)complete;
    asker->exchange = NULL;
    if (asker->pull)
        registry_pull_cancel(TAKE(asker->pull)); /* on_done will not run */
    release(asker);
}

static void say(struct asker *asker, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct asker *asker, const char *format, ...) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(4 * KIB);
    va_list args;
    va_start(args, format);
    buffer_vprintf(&line, format, args);
    va_end(args);
    if (asker->exchange && !buffer_error(&line))
        (void)http_write(asker->exchange, buffer_slice(&line)); /* a client that reads too slowly misses a line of progress */
}

static void on_progress(void *userdata, uint64_t bytes_done, uint64_t bytes_total) {
    say(userdata, "%.1f of %.1f MB\n", (double)bytes_done / 1e6, (double)bytes_total / 1e6);
}

static void on_begin(void *userdata) {
    say(userdata, "TIDEMILL-BEGIN\n");
}

static void on_done(void *userdata, const struct registry_pull_result *result) {
    struct asker *asker = userdata;
    char text[2 * DIAG_TEXT_MAX];
    asker->pull = NULL;
    if (asker->missing.len)
        say(asker, "TIDEMILL-MISSING %s\n", asker->missing.data);
    if (result->error < 0)
        say(asker, "%s\nTIDEMILL-EXIT 1\n", diag_format(result->diag, text, sizeof text));
    else
        say(asker, "%s%s%s is sha256:%s, %.1f MB came\nTIDEMILL-EXIT 0\n", result->name, *result->tag ? ":" : "", result->tag, result->digest.hex,
            (double)result->bytes / 1e6);
    if (asker->exchange)
        http_respond_end(asker->exchange);
    else
        release(asker);
}

/* --- credentials --- */

/* "Basic …", for the registry that the image is of. */
static int read_header(struct slice header, const char *image, struct docker_config *into) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    struct oci_reference reference;
    struct slice rest = header;
    if (!slice_equal_nocase(slice_cut(&rest, ' '), SLICE("Basic")) || base64_decode(&text, slice_trim(rest)) < 0 || !text.data)
        return 0;
    struct slice password = buffer_slice(&text), user = slice_cut(&password, ':');
    int r = password.data && oci_reference_parse(slice_of(image), &reference, NULL) == 0 ? docker_config_add(into, reference.registry, user, password)
                                                                                         : 0;
    explicit_bzero(text.data, text.len);
    return r;
}

static int read_secrets(struct registry_request *request, struct docker_config *into, struct buffer *missing) {
    const struct registry_options *options = &request->registry->options;
    const char *namespace = query_find(&request->query, "namespace"), *names[SECRETS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < request->query.count && count < SECRETS_MAX; i++)
        if (slice_is(request->query.items[i].key, "secret"))
            names[count++] = request->query.items[i].value.data;
    return namespace && count && options->pull_secrets ? options->pull_secrets(options->userdata, namespace, names, count, into, missing) : 0;
}

/* --- the request --- */

static enum registry_pull_policy read_policy(const char *text) {
    return !text                               ? REGISTRY_PULL_ALWAYS
           : strcmp(text, "Never") == 0        ? REGISTRY_PULL_NEVER
           : strcmp(text, "IfNotPresent") == 0 ? REGISTRY_PULL_IF_NOT_PRESENT
                                               : REGISTRY_PULL_ALWAYS;
}

static int begin(struct registry_request *request, struct asker *asker, struct slice body, struct diag *diag) {
    const char *insecure = query_find(&request->query, "insecure"), *reference = query_find(&request->query, "reference");
    struct docker_config credentials = {0};
    struct registry_pull_options options = {.reference = reference,
                                            .policy = read_policy(query_find(&request->query, "policy")),
                                            .credentials = &credentials,
                                            .platform = query_find(&request->query, "platform"),
                                            .insecure = insecure && strcmp(insecure, "1") == 0,
                                            .on_begin = on_begin,
                                            .on_progress = on_progress,
                                            .on_done = on_done,
                                            .userdata = asker};
    int r = read_header(http_header(request->exchange, "X-Registry-Authorization"), reference, &credentials);
    r = r || !body.len ? r : docker_config_read(&credentials, body, diag);
    r = r ? r : read_secrets(request, &credentials, &asker->missing);
    if (r == 0)
        return registry_pull(request->registry, &options, &asker->pull, diag);
    docker_config_deinit(&credentials);
    return r;
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct registry_request *request = userdata;
    struct diag diag = DIAG_INIT;
    struct asker *asker = calloc(1, sizeof *asker);
    if (!asker)
        return registry_error(exchange, 503, "UNKNOWN", "out of memory");
    asker->missing = BUFFER_INIT(MISSING_BYTES_MAX);
    int r = begin(request, asker, body, &diag);
    if (r < 0) {
        release(asker);
        return registry_error(exchange, r == -EBUSY ? 429 : r == -EINVAL ? 400 : 500, "UNKNOWN", "%s", diag.message[0] ? diag.message : strerror(-r));
    }
    asker->exchange = exchange;
    http_on_close(exchange, on_close, asker);
    http_respond_begin(exchange, 200, "text/plain; charset=utf-8", -1, NULL);
}

void registry_on_pull(struct registry_request *request) {
    if (!query_find(&request->query, "reference"))
        return registry_error(request->exchange, 400, "UNKNOWN", "expected ?reference=IMAGE");
    http_read_body(request->exchange, DOCKER_CONFIG_BYTES_MAX, on_body, request);
}
