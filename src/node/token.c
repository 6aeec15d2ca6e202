/* Service account tokens of projected volumes: asked for when the pod is prepared, bound to it, and again when four fifths of their life are over (a
 * day at most) by the wall clock, so that what the files hold is always good. They are in memory and on the pod's tmpfs, nowhere else: after a
 * restart of the node new ones are asked for. While that fails the old ones stay, and it is tried again. */
#include "codec/codec.h"
#include "http/http.h"
#include "node/node_priv.h"

#define LIFE_DEFAULT_S 3600
#define REFRESH_MS_MAX (24 * 3600 * INT64_C(1000))
#define REFRESH_MS_MIN 1000
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 60000

static const struct kube_service_account_token_projection *source_of(const struct pod_token *token) {
    const struct kube_volume *volume = &token->pod->spec_object->pod->spec.volumes.items[token->volume];
    return volume->projected->sources.items[token->source].service_account_token;
}

static const char *account_of(const struct pod *pod) {
    const char *name = pod->spec_object->pod->spec.service_account_name;
    return name && *name ? name : "default";
}

static void on_timer(void *userdata);

int tokens_collect(struct pod *pod) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    size_t count = 0;
    for (size_t i = 0; i < volumes->count; i++)
        count += volumes->items[i].projected ? volumes->items[i].projected->sources.count : 0;
    pod->tokens = calloc(count + 1, sizeof *pod->tokens);
    if (!pod->tokens)
        return -ENOMEM;
    for (size_t i = 0; i < volumes->count; i++) {
        const struct kube_projected_volume_source *projected = volumes->items[i].projected;
        for (size_t k = 0; projected && k < projected->sources.count; k++) {
            if (!projected->sources.items[k].service_account_token)
                continue;
            struct pod_token *token = &pod->tokens[pod->tokens_count++];
            *token = (struct pod_token){.pod = pod, .volume = i, .source = k};
            loop_timer_init(&token->timer, pod->node->loop, on_timer, token);
        }
    }
    return 0;
}

void tokens_free(struct pod *pod) {
    for (size_t i = 0; i < pod->tokens_count; i++) {
        http_request_cancel(pod->tokens[i].request);
        loop_timer_cancel(&pod->tokens[i].timer);
        secret_free(pod->tokens[i].text);
    }
    free(TAKE(pod->tokens));
    pod->tokens_count = 0;
}

struct slice tokens_find(const struct pod *pod, const struct kube_service_account_token_projection *source) {
    for (size_t i = 0; i < pod->tokens_count; i++)
        if (source_of(&pod->tokens[i]) == source && pod->tokens[i].text)
            return secret_reveal(pod->tokens[i].text);
    return (struct slice){0};
}

int64_t tokens_refresh_ms(int64_t life_ms) {
    return MAX(REFRESH_MS_MIN, MIN(life_ms / 5 * 4, REFRESH_MS_MAX));
}

/* --- asking --- */

static int take(struct pod_token *token, struct slice body) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *root = NULL;
    int64_t expires_ns, now_ns = loop_wall_ns(token->pod->node->loop);
    int r = arena ? json_parse(arena, body, NULL, &root, NULL) : -ENOMEM;
    if (r < 0)
        return r;
    const char *text = tree_text_or(tree_path(root, "status.token"), NULL);
    if (!text || timestamp_parse(slice_of(tree_text_or(tree_path(root, "status.expirationTimestamp"), "")), &expires_ns) < 0)
        return -EBADMSG;
    struct secret *secret = secret_new(slice_of(text));
    if (!secret)
        return -ENOMEM;
    secret_free(token->text);
    token->text = secret;
    int64_t refresh_ms = tokens_refresh_ms(MAX(0, expires_ns - now_ns) / 1000000);
    token->due_ns = now_ns + refresh_ms * 1000000;
    return loop_timer_set(&token->timer, refresh_ms);
}

void tokens_clock_set(struct pod *pod) {
    int64_t now_ns = loop_wall_ns(pod->node->loop);
    for (size_t i = 0; i < pod->tokens_count; i++) {
        struct pod_token *token = &pod->tokens[i];
        if (token->text && !token->request && !token->retry_ms)
            loop_timer_set(&token->timer, MIN(MAX(0, token->due_ns - now_ns) / 1000000, REFRESH_MS_MAX));
    }
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct pod_token *token = userdata;
    struct pod *pod = token->pod;
    struct diag diag = DIAG_INIT;
    token->request = NULL;
    int r = client_check(answer, &diag);
    if (r == 0)
        r = take(token, answer->body);
    if (r == 0) {
        token->retry_ms = 0;
        pod->volumes_stale = true;
        pod_sync_later(pod);
        return;
    }
    if (!token->text)
        event_pod(pod, NULL, "Warning", "FailedMount", "MountVolume.SetUp failed for volume \"%s\" : failed to fetch token: %s",
                  pod->spec_object->pod->spec.volumes.items[token->volume].name, diag.message[0] ? diag.message : strerror(-r));
    token->retry_ms = token->retry_ms ? MIN(token->retry_ms * 2, RETRY_MAX_MS) : RETRY_FIRST_MS;
    loop_timer_set(&token->timer, token->retry_ms);
}

static int format_request(const struct pod_token *token, struct buffer *out) {
    const struct kube_service_account_token_projection *source = source_of(token);
    const struct pod *pod = token->pod;
    int64_t life_s = source->expiration_seconds ? *source->expiration_seconds : LIFE_DEFAULT_S;
    buffer_append_text(out, "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenRequest\",\"spec\":{\"audiences\":[");
    if (source->audience && *source->audience)
        json_format_string(out, slice_of(source->audience));
    buffer_printf(out, "],\"expirationSeconds\":%" PRId64 ",\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":", life_s);
    json_format_string(out, slice_of(pod->name));
    return buffer_printf(out, ",\"uid\":\"%s\"}}}", pod->uid);
}

static void ask(struct pod_token *token) {
    struct pod *pod = token->pod;
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(16 * KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    const char *path = arena ? client_path(arena, &kube_kind_service_account, pod->namespace, account_of(pod), "token") : NULL;
    int r = path ? format_request(token, &body) : -ENOMEM;
    const struct http_request_options options = {
        .method = "POST", .target = path, .content_type = "application/json", .fields = fields, .body = buffer_slice(&body)};
    if (r == 0)
        r = http_client_send(client_http(pod->node->client), &options, on_answer, token, &token->request);
    if (r < 0)
        loop_timer_set(&token->timer, RETRY_MAX_MS);
}

static void on_timer(void *userdata) {
    struct pod_token *token = userdata;
    if (!token->request && !pod_is_deleted(token->pod) && token->pod->stage <= POD_ACTIVE)
        ask(token);
}

bool tokens_ready(struct pod *pod) {
    bool ready = true;
    for (size_t i = 0; i < pod->tokens_count; i++) {
        struct pod_token *token = &pod->tokens[i];
        if (!token->text && !token->request && !loop_timer_is_set(&token->timer))
            ask(token);
        ready = ready && token->text;
    }
    return ready;
}
