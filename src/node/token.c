/* Tokens of service accounts in projected volumes: asked for from the API for this very pod (TokenRequest with a reference to it, so they die with
 * it) before the volumes are made, and again when four fifths of their life, or a day, are over. A new token replaces the file in one step; a failed
 * renewal is tried again with growing pauses, the old one stays meanwhile. A pod's tokens are asked for one after the other. */
#include "node/node_priv.h"

#define TOKENS_MAX 32
#define RETRY_MS_MIN 500
#define RETRY_MS_MAX 60000
#define LIFE_MS_MAX (INT64_C(24) * 3600 * 1000)
#define DEFAULT_LIFE_S 3600

struct token {
    const struct kube_volume *volume;
    const struct kube_service_account_token_projection *projection;
    struct secret *text; /* NULL: not yet */
    int64_t renew_ns;    /* monotonic; when it is asked for (again) */
};

static struct token *next_due(struct pod *pod) {
    struct token *next = NULL;
    for (size_t i = 0; i < pod->tokens_count; i++)
        if (!next || pod->tokens[i].renew_ns < next->renew_ns)
            next = &pod->tokens[i];
    return next;
}

static void on_timer(void *userdata);

static void arm(struct pod *pod) {
    const struct token *next = next_due(pod);
    if (!next || pod->token_fetch)
        return;
    int64_t wait_ns = next->renew_ns - loop_now_ns(pod->node->loop);
    loop_timer_set(&pod->token_timer, MAX(wait_ns, 0) / 1000000);
}

int tokens_collect(struct pod *pod) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    loop_timer_init(&pod->token_timer, pod->node->loop, on_timer, pod);
    for (size_t i = 0; i < spec->volumes.count; i++) {
        const struct kube_projected_volume_source *projected = spec->volumes.items[i].projected;
        for (size_t k = 0; projected && k < projected->sources.count; k++) {
            const struct kube_service_account_token_projection *projection = projected->sources.items[k].service_account_token;
            if (!projection)
                continue;
            if (!pod->tokens && !(pod->tokens = calloc(TOKENS_MAX, sizeof *pod->tokens)))
                return -ENOMEM;
            if (pod->tokens_count == TOKENS_MAX)
                return -E2BIG;
            pod->tokens[pod->tokens_count++] = (struct token){.volume = &spec->volumes.items[i], .projection = projection};
        }
    }
    return 0;
}

void tokens_free(struct pod *pod) {
    http_request_cancel(pod->token_fetch);
    pod->token_fetch = NULL;
    loop_timer_cancel(&pod->token_timer);
    for (size_t i = 0; i < pod->tokens_count; i++)
        secret_free(pod->tokens[i].text);
    free(pod->tokens);
    pod->tokens = NULL;
    pod->tokens_count = 0;
}

const struct secret *tokens_find(const struct pod *pod, const struct kube_service_account_token_projection *projection) {
    for (size_t i = 0; i < pod->tokens_count; i++)
        if (pod->tokens[i].projection == projection)
            return pod->tokens[i].text;
    return NULL;
}

/* Keeps the token, and writes it when its volume is there. */
static int take(struct pod *pod, struct token *token, const struct tree *answer, struct diag *diag) {
    const struct tree *text = tree_path(answer, "status.token");
    int64_t life_s = tree_int_or(tree_path(answer, "spec.expirationSeconds"), DEFAULT_LIFE_S);
    if (!text || text->type != TREE_STRING)
        return diag_set(diag, -EIO, "the API's answer holds no token");
    struct secret *secret = secret_new(text->string);
    if (!secret)
        return -ENOMEM;
    secret_free(token->text);
    token->text = secret;
    token->renew_ns = loop_now_ns(pod->node->loop) + MIN(MIN(life_s, INT32_MAX) * 800, LIFE_MS_MAX) * 1000000;
    return pod->volumes_ready ? volumes_write_token(pod, token->volume, token->projection, diag) : 0;
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct pod *pod = userdata;
    struct token *token = next_due(pod);
    struct diag diag = DIAG_INIT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *tree = NULL;
    pod->token_fetch = NULL;
    int r = client_check(answer, &diag);
    if (r == 0)
        r = arena ? json_parse(arena, answer->body, NULL, &tree, &diag) : -ENOMEM;
    if (r == 0)
        r = take(pod, token, tree, &diag);
    if (r < 0) {
        if (!token->text)
            event_pod(pod, NULL, "Warning", "FailedMount", "MountVolume.SetUp failed for volume \"%s\": failed to fetch token: %s",
                      token->volume->name, diag.message);
        pod->token_retry_ms = pod->token_retry_ms ? MIN(pod->token_retry_ms * 2, RETRY_MS_MAX) : RETRY_MS_MIN;
        token->renew_ns = loop_now_ns(pod->node->loop) + pod->token_retry_ms * 1000000;
    } else {
        pod->token_retry_ms = 0;
        pod_sync_later(pod);
    }
    arm(pod);
}

static int format_request(const struct pod *pod, const struct token *token, struct buffer *out) {
    const char *audience = token->projection->audience;
    const int64_t *life_s = token->projection->expiration_seconds;
    buffer_append_text(out, "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenRequest\",\"spec\":{\"audiences\":[");
    if (audience && *audience)
        json_format_string(out, slice_of(audience));
    buffer_printf(out, "],\"expirationSeconds\":%" PRId64 ",\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":",
                  life_s ? *life_s : DEFAULT_LIFE_S);
    json_format_string(out, slice_of(pod->name));
    buffer_append_text(out, ",\"uid\":");
    json_format_string(out, slice_of(pod->uid));
    buffer_append_text(out, "}}}");
    return buffer_error(out);
}

static void on_timer(void *userdata) {
    struct pod *pod = userdata;
    struct token *token = next_due(pod);
    const char *account = pod->spec_object->pod->spec.service_account_name;
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(16 * KIB);
    if (!token || pod->token_fetch || pod->orphan)
        return;
    const char *path =
        arena ? client_path(arena, &kube_kind_service_account, pod->namespace, account && *account ? account : "default", "token") : NULL;
    int r = path ? format_request(pod, token, &body) : -ENOMEM;
    const struct http_request_options options = {.method = "POST", .target = path, .content_type = "application/json", .body = buffer_slice(&body)};
    if (r == 0)
        r = http_client_send(client_http(pod->node->client), &options, on_answer, pod, &pod->token_fetch);
    if (r < 0)
        loop_timer_set(&pod->token_timer, RETRY_MS_MAX);
}

bool tokens_ready(struct pod *pod) {
    for (size_t i = 0; i < pod->tokens_count; i++) {
        if (pod->tokens[i].text)
            continue;
        if (!loop_timer_is_set(&pod->token_timer))
            arm(pod);
        return false;
    }
    return true;
}
