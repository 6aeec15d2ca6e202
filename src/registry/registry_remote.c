/* What the command line and the node ask of the platform's registry about others. Ours, not the specification's; a name component cannot begin with
 * '_', so no repository is hidden by it.
 *
 *   POST   /v2/_tidemill/pull?reference=IMAGE                      fetches an image into ours
 *            &policy=Always|IfNotPresent|Never                     as imagePullPolicy; Always without
 *            &namespace=NS&secret=NAME…                            by pull secrets of the cluster; for a pod: ours stays ours
 *            &platform=linux/arm64                                 for another than this machine
 *   POST   /v2/_tidemill/push?source=NAME:TAG&reference=IMAGE      sends one of ours
 *   POST   /v2/_tidemill/login?registry=HOST                       tries credentials and keeps them for the whole machine
 *   DELETE /v2/_tidemill/login?registry=HOST                       forgets them
 *
 * and &checks=1: blobs that are here are read again, and fetched when they are damaged; &insecure=1: plain HTTP, or certificates that nobody checks.
 * Further credentials come in the header X-Registry-Authorization ("Basic …", for the registry named), or as a docker config.json in the body.
 *
 * The answer is text: "TIDEMILL-BEGIN" when its turn has come, "TIDEMILL-ARRIVING DIGEST PLACE" when the manifest is a blob and others grow in
 * partial/ (content.h), lines of progress, "TIDEMILL-MISSING a, b" for secrets that are not there, what happened, and then "TIDEMILL-EXIT 0" or 1. A
 * client that goes away ends the work. */
#include "registry/registry_priv.h"

#define SECRETS_MAX 100
#define MISSING_BYTES_MAX (4 * KIB)

struct asker {
    enum asked { ASKED_PULL, ASKED_PUSH, ASKED_LOGIN } asked;
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

static void on_arriving(void *userdata, const struct oci_digest *manifest, const char *place) {
    say(userdata, "TIDEMILL-ARRIVING sha256:%s %s\n", manifest->hex, place);
}

static void on_done(void *userdata, const struct registry_pull_result *result) {
    struct asker *asker = userdata;
    char text[2 * DIAG_TEXT_MAX];
    double megabytes = (double)result->bytes / 1e6;
    asker->pull = NULL;
    if (asker->missing.len)
        say(asker, "TIDEMILL-MISSING %s\n", asker->missing.data);
    if (result->error < 0)
        say(asker, "%s\n", diag_format(result->diag, text, sizeof text));
    else if (asker->asked == ASKED_PULL)
        say(asker, "%s%s%s is sha256:%s, %.1f MB came\n", result->name, *result->tag ? ":" : "", result->tag, result->digest.hex, megabytes);
    else if (asker->asked == ASKED_PUSH)
        say(asker, "%s is pushed: sha256:%s, %.1f MB sent\n", result->name, result->digest.hex, megabytes);
    else
        say(asker, "the credentials are good; they are kept for this machine\n");
    say(asker, "TIDEMILL-EXIT %d\n", result->error < 0);
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

static int start(struct registry_request *request, struct asker *asker, struct registry_pull_options *options, struct diag *diag) {
    struct registry *registry = request->registry;
    const char *source = query_find(&request->query, "source");
    struct slice tag = slice_of(source ? source : ""), name = slice_cut(&tag, ':');
    char *copy = arena_dup(http_exchange_arena(request->exchange), name);
    if (asker->asked == ASKED_PULL)
        return registry_pull(registry, options, &asker->pull, diag);
    if (asker->asked == ASKED_LOGIN)
        return registry_login(registry, options, &asker->pull, diag);
    return registry_push(registry, copy ? copy : "", tag.data ? tag.data : "", options, &asker->pull, diag);
}

static int begin(struct registry_request *request, struct asker *asker, struct slice body, struct diag *diag) {
    const char *insecure = query_find(&request->query, "insecure"), *checks = query_find(&request->query, "checks"),
               *reference = query_find(&request->query, "reference");
    struct docker_config credentials = {0};
    if (asker->asked == ASKED_LOGIN) /* any repository of that registry */
        reference = arena_printf(http_exchange_arena(request->exchange), "%s/login", query_find(&request->query, "registry"));
    struct registry_pull_options options = {.reference = reference ? reference : "",
                                            .policy = read_policy(query_find(&request->query, "policy")),
                                            .credentials = &credentials,
                                            .platform = query_find(&request->query, "platform"),
                                            .checks = checks && strcmp(checks, "1") == 0,
                                            .keeps_ours = query_find(&request->query, "namespace") != NULL,
                                            .insecure = insecure && strcmp(insecure, "1") == 0,
                                            .on_begin = on_begin,
                                            .on_arriving = on_arriving,
                                            .on_progress = on_progress,
                                            .on_done = on_done,
                                            .userdata = asker};
    int r = read_header(http_header(request->exchange, "X-Registry-Authorization"), options.reference, &credentials);
    r = r || !body.len ? r : docker_config_read(&credentials, body, diag);
    r = r ? r : read_secrets(request, &credentials, &asker->missing);
    if (r == 0 && asker->asked == ASKED_LOGIN && credentials.items.count != 1)
        r = diag_set(diag, -EINVAL, "expected a registry, and credentials for it");
    if (r == 0)
        return start(request, asker, &options, diag);
    docker_config_deinit(&credentials);
    return r;
}

static void answer(struct registry_request *request, enum asked asked, struct slice body) {
    struct http_exchange *exchange = request->exchange;
    struct diag diag = DIAG_INIT;
    struct asker *asker = calloc(1, sizeof *asker);
    if (!asker)
        return registry_error(exchange, 503, "UNKNOWN", "out of memory");
    asker->asked = asked;
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

static void on_pull_body(void *userdata, __attribute__((unused)) struct http_exchange *exchange, struct slice body) {
    answer(userdata, ASKED_PULL, body);
}
static void on_push_body(void *userdata, __attribute__((unused)) struct http_exchange *exchange, struct slice body) {
    answer(userdata, ASKED_PUSH, body);
}

static void on_login_body(void *userdata, __attribute__((unused)) struct http_exchange *exchange, struct slice body) {
    answer(userdata, ASKED_LOGIN, body);
}

void registry_on_pull(struct registry_request *request) {
    if (!query_find(&request->query, "reference"))
        return registry_error(request->exchange, 400, "UNKNOWN", "expected ?reference=IMAGE");
    http_read_body(request->exchange, DOCKER_CONFIG_BYTES_MAX, on_pull_body, request);
}

void registry_on_push(struct registry_request *request) {
    if (!query_find(&request->query, "reference") || !query_find(&request->query, "source"))
        return registry_error(request->exchange, 400, "UNKNOWN", "expected ?source=NAME:TAG&reference=IMAGE");
    http_read_body(request->exchange, DOCKER_CONFIG_BYTES_MAX, on_push_body, request);
}

void registry_on_login(struct registry_request *request) {
    if (!query_find(&request->query, "registry"))
        return registry_error(request->exchange, 400, "UNKNOWN", "expected ?registry=HOST");
    http_read_body(request->exchange, DOCKER_CONFIG_BYTES_MAX, on_login_body, request);
}

void registry_on_logout(struct registry_request *request) {
    struct diag diag = DIAG_INIT;
    const char *host = query_find(&request->query, "registry");
    int r = registry_logout(request->registry, host ? host : "", &diag);
    if (r < 0)
        return registry_error(request->exchange, r == -ENOENT ? 404 : 500, "UNKNOWN", "%s", diag.message);
    http_respond_text(request->exchange, 200, "the credentials are gone\n");
}
