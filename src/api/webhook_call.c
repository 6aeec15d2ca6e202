/* One call of a webhook: HTTPS POST to a URL, or to a ready endpoint of a service under the name that its certificate must bear (<name>.<ns>.svc).
 *
 *   new → WAITING ──(a place is free, the address is known)──► SENT → answer
 *            └──────────── the webhook's time is over ──────────┴──► "context deadline exceeded"
 *
 * 1. At most WEBHOOK_CALLS_MAX are on their way, WEBHOOK_CALLS_EACH_MAX to one webhook: one that does not answer leaves room for the others. A
 * call's time runs while it waits.
 * 2. on_answer runs once, from the loop; never before webhook_call_new has returned.
 * 3. Hosts of URLs are looked up on a worker thread, again after ADDRESS_KEPT_MS: the loop never waits for a name server. The look-up holds a
 * reference to the API, since the loop lets it finish even after api_free.
 * 4. A new address gets a new client; calls that use the old one keep it. */
#include "api/webhook_priv.h"

#include <netdb.h>
#include <stdio.h>

#define ADDRESS_KEPT_MS 30000
#define IDLE_CONNECTIONS_MAX 4

struct webhook_call {
    struct list node;
    struct webhooks *webhooks;
    struct webhook *webhook; /* and a reference to its configuration */
    struct webhook_link *link;
    struct http_request *http; /* NULL: waits */
    struct loop_timer timer;
    int64_t begin_ns;
    struct buffer body;
    webhook_answer_fn *on_answer;
    void *userdata;
};

void webhook_link_unref(struct webhook_link *link) {
    if (!link || --link->references)
        return;
    http_client_free(link->client);
    free(link);
}

static void call_free(struct webhook_call *call) {
    struct webhooks *webhooks = call->webhooks;
    list_remove(&call->node);
    loop_timer_cancel(&call->timer);
    if (call->http) {
        http_request_cancel(call->http);
        webhooks->sent_count--;
        call->webhook->calls--;
    }
    webhook_link_unref(call->link);
    webhook_config_unref(call->webhook->config);
    buffer_deinit(&call->body);
    free(call);
    if (!webhooks->closed && !list_empty(&webhooks->waiting))
        loop_defer_schedule(&webhooks->pump);
}

/* --- answers --- */

static void finish(struct webhook_call *call, const char *error, struct slice body) {
    webhook_answer_fn *on_answer = call->on_answer;
    void *userdata = call->userdata;
    call->webhook->seen.ns += loop_now_ns(call->webhooks->api->loop) - call->begin_ns;
    on_answer(userdata, error, body);
    call_free(call);
}

/* The URL as upstream writes it in its messages. */
static void format_url(const struct webhook *webhook, char *out, size_t size) {
    const struct kube_service_reference *service = webhook->at->service;
    int seconds = webhook->timeout_ms / 1000;
    if (service)
        snprintf(out, size, "https://%s.%s.svc:%d%s?timeout=%ds", service->name, service->namespace, service->port ? (int)*service->port : 443,
                 service->path ? service->path : "/", seconds);
    else
        snprintf(out, size, "%.500s?timeout=%ds", webhook->at->url, seconds);
}

static void fail(struct webhook_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct webhook_call *call, const char *format, ...) {
    char url[600], why[300], text[WEBHOOK_ERROR_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    format_url(call->webhook, url, sizeof url);
    snprintf(text, sizeof text, "failed to call webhook: Post \"%s\": %s", url, why);
    finish(call, text, (struct slice){NULL, 0});
}

static void fail_connection(struct webhook_call *call, int error) {
    const char *address = call->link ? call->link->endpoint + strlen("https://") : "";
    switch (error) {
    case -ETIMEDOUT: fail(call, "context deadline exceeded"); break;
    case -EACCES: fail(call, "tls: failed to verify certificate: x509: certificate signed by unknown authority, or for another name"); break;
    case -EPROTO: fail(call, "remote error: tls: handshake failure"); break;
    case -ECONNRESET: fail(call, "EOF"); break;
    case -EMSGSIZE: fail(call, "the answer is larger than %zu bytes", (size_t)WEBHOOK_ANSWER_BYTES_MAX); break;
    case -EBADMSG: fail(call, "net/http: HTTP/1.x transport connection broken: malformed HTTP response"); break;
    case -ECONNREFUSED: fail(call, "dial tcp %s: connect: connection refused", address); break;
    default: fail(call, "dial tcp %s: connect: %s", address, strerror(-error));
    }
}

/* As client-go words answers that are no reviews. */
static void fail_status(struct webhook_call *call, int status, struct slice body) {
    char text[WEBHOOK_ERROR_BYTES];
    if (status == 404)
        snprintf(text, sizeof text, "failed to call webhook: the server could not find the requested resource");
    else if (status == 401)
        snprintf(text, sizeof text, "failed to call webhook: the server has asked for the client to provide credentials");
    else if (status == 503)
        snprintf(text, sizeof text, "failed to call webhook: the server is currently unable to handle the request");
    else if (status >= 500)
        snprintf(text, sizeof text, "failed to call webhook: an error on the server (\"%.*s\") has prevented the request from succeeding",
                 SLICE_ARG(slice_head(slice_trim(body), 200)));
    else
        snprintf(text, sizeof text, "failed to call webhook: the server responded with the status code %d but did not return more information",
                 status);
    finish(call, text, (struct slice){NULL, 0});
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct webhook_call *call = userdata;
    call->http = NULL; /* ends by itself */
    call->webhooks->sent_count--;
    call->webhook->calls--;
    if (answer->error)
        fail_connection(call, answer->error);
    else if (answer->status < 200 || answer->status > 206)
        fail_status(call, answer->status, answer->body);
    else
        finish(call, NULL, answer->body);
}

static void on_timeout(void *userdata) {
    fail(userdata, "context deadline exceeded");
}

/* --- where to --- */

struct look_up {
    struct api *api;         /* a reference */
    struct webhook *webhook; /* and one to its configuration */
    char host[256], address[64];
};

static void look_up(void *userdata) {
    struct look_up *job = userdata;
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(job->host, NULL, &hints, &found) || !found)
        return;
    if (getnameinfo(found->ai_addr, found->ai_addrlen, job->address, sizeof job->address, NULL, 0, NI_NUMERICHOST))
        job->address[0] = '\0';
    freeaddrinfo(found);
}

static void on_looked_up(void *userdata) {
    struct look_up *job = userdata;
    struct api *api = job->api;
    struct webhook *webhook = job->webhook;
    webhook->resolving = false;
    memcpy(webhook->address, job->address, sizeof webhook->address);
    if (!api->closed) {
        webhook->resolved_ns = loop_now_ns(api->loop);
        loop_defer_schedule(&api->webhooks->pump);
    }
    webhook_config_unref(webhook->config);
    free(job);
    api_unref(api);
}

static int begin_look_up(struct webhook_call *call, const char *host) {
    struct webhook *webhook = call->webhook;
    struct api *api = call->webhooks->api;
    struct look_up *job = calloc(1, sizeof *job);
    if (!job)
        return -ENOMEM;
    job->api = api;
    job->webhook = webhook;
    snprintf(job->host, sizeof job->host, "%s", host);
    int error = loop_work(api->loop, LOOP_NAMES, look_up, on_looked_up, job);
    if (error) {
        free(job);
        return error;
    }
    api->references++;
    webhook->config->references++;
    webhook->resolving = true;
    return 0;
}

struct place {
    char endpoint[320], name[300], host[256];
};

/* "https://host[:port][/path]" → host, port (":443" or what is given); validation has seen it. */
static void split_url(const char *url, struct place *place, struct slice *ret_port, struct slice *ret_path) {
    struct slice rest = slice_from(slice_of(url), strlen("https://"));
    size_t len = 0;
    while (len < rest.len && rest.data[len] != '/')
        len++;
    struct slice authority = slice_head(rest, len), host = authority;
    *ret_path = slice_from(rest, len);
    const char *colon = memrchr(authority.data, ':', authority.len), *bracket = memrchr(authority.data, ']', authority.len);
    *ret_port = (struct slice){"443", 3};
    if (colon && colon > bracket) {
        host = slice_head(authority, (size_t)(colon - authority.data));
        *ret_port = slice_from(authority, host.len + 1);
    }
    snprintf(place->host, sizeof place->host, "%.*s", SLICE_ARG(host));
    snprintf(place->name, sizeof place->name, "%.*s", SLICE_ARG(slice_head(host, sizeof place->name - 1)));
}

static bool is_numeric(const char *host) {
    return host[0] == '[' || strspn(host, "0123456789.") == strlen(host);
}

enum found { FOUND, FOUND_LATER, FOUND_NOT }; /* not: the call has been ended */

static enum found find_service(struct webhook_call *call, struct place *place) {
    const struct kube_service_reference *service = call->webhook->at->service;
    struct api_failure failure;
    int port = service->port ? (int)*service->port : 443;
    int code = api_service_endpoint(call->webhooks->api, service->namespace, service->name, port, place->endpoint, &failure);
    snprintf(place->name, sizeof place->name, "%s.%s.svc", service->name, service->namespace);
    if (!code)
        return FOUND;
    if (code == 404)
        fail(call, "service \"%s\" not found", service->name);
    else
        fail(call, "%.200s", failure.message);
    return FOUND_NOT;
}

static enum found find_url(struct webhook_call *call, struct place *place) {
    struct webhook *webhook = call->webhook;
    struct slice port, path;
    int64_t now = loop_now_ns(call->webhooks->api->loop);
    split_url(webhook->at->url, place, &port, &path);
    bool numeric = is_numeric(place->host);
    bool fresh = *webhook->address ? now - webhook->resolved_ns < ADDRESS_KEPT_MS * INT64_C(1000000)
                                   : webhook->resolved_ns >= call->begin_ns; /* asked in vain on behalf of this call */
    if (!numeric && !fresh) {
        int error = webhook->resolving ? 0 : begin_look_up(call, place->host);
        if (!error)
            return FOUND_LATER;
        fail(call, "%s", strerror(-error));
        return FOUND_NOT;
    }
    if (!numeric && !*webhook->address) {
        fail(call, "dial tcp: lookup %s: no such host", place->host);
        return FOUND_NOT;
    }
    snprintf(place->endpoint, sizeof place->endpoint, "https://%s:%.*s", numeric ? place->host : webhook->address, SLICE_ARG(slice_head(port, 5)));
    if (place->name[0] == '[') /* the name in a certificate has no brackets */
        snprintf(place->name, sizeof place->name, "%.*s", (int)strcspn(place->host + 1, "]"), place->host + 1);
    return FOUND;
}

/* --- sending --- */

static int make_tls(struct webhook *webhook) {
    struct diag diag = DIAG_INIT;
    CLEANUP(freep) char *ca = webhook->at->ca_bundle.len ? slice_dup(webhook->at->ca_bundle) : NULL;
    const struct tls_options options = {.ca_pem = ca};
    if (webhook->tls)
        return 0;
    return webhook->at->ca_bundle.len && !ca ? -ENOMEM : tls_context_new(&options, &webhook->tls, &diag);
}

static int make_link(struct webhook_call *call, const struct place *place) {
    struct webhook *webhook = call->webhook;
    if (!webhook->link || strcmp(webhook->link->endpoint, place->endpoint)) {
        int error = make_tls(webhook);
        struct webhook_link *link = error ? NULL : calloc(1, sizeof *link);
        const struct http_client_options options = {.endpoint = place->endpoint,
                                                    .name = place->name,
                                                    .tls = webhook->tls,
                                                    .connect_timeout_ms = webhook->timeout_ms,
                                                    .connections_max = IDLE_CONNECTIONS_MAX};
        if (!link)
            return error ? error : -ENOMEM;
        error = http_client_new(call->webhooks->api->loop, &options, &link->client);
        if (error) {
            free(link);
            return error;
        }
        link->references = 1;
        snprintf(link->endpoint, sizeof link->endpoint, "%s", place->endpoint);
        webhook_link_unref(webhook->link);
        webhook->link = link;
    }
    call->link = webhook->link;
    call->link->references++;
    return 0;
}

static int send_call(struct webhook_call *call) {
    struct webhook *webhook = call->webhook;
    char target[900];
    const struct kube_service_reference *service = webhook->at->service;
    struct place place;
    struct slice port, path = slice_of(service && service->path ? service->path : "");
    if (!service)
        split_url(webhook->at->url, &place, &port, &path);
    snprintf(target, sizeof target, "%.*s?timeout=%ds", SLICE_ARG(path.len ? slice_head(path, 800) : SLICE("/")), webhook->timeout_ms / 1000);
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    const struct http_request_options options = {
        .method = "POST",
        .target = target,
        .content_type = "application/json",
        .body = buffer_slice(&call->body),
        .fields = fields,
        .timeout_ms = -1, /* the call's own timer */
        .body_max = WEBHOOK_ANSWER_BYTES_MAX,
    };
    int error = http_client_send(call->link->client, &options, on_answer, call, &call->http);
    if (error)
        return error;
    buffer_deinit(&call->body);
    list_remove(&call->node);
    list_push(&call->webhooks->sent, &call->node);
    call->webhooks->sent_count++;
    webhook->calls++;
    return 0;
}

static void try_to_send(struct webhook_call *call) {
    struct place place = {.endpoint = ""};
    enum found found = call->webhook->at->service ? find_service(call, &place) : find_url(call, &place);
    if (found != FOUND)
        return;
    int error = make_link(call, &place);
    if (error == -EINVAL)
        fail(call, "unable to load root certificates: unable to parse bytes as PEM block");
    else if (error)
        fail_connection(call, error);
    else if ((error = send_call(call)))
        fail_connection(call, error);
}

/* The list may change under a call that ends: its callback may begin or cancel others. */
static void on_pump(void *userdata) {
    struct webhooks *webhooks = userdata;
    struct list tried;
    list_init(&tried);
    struct list *node;
    while (webhooks->sent_count < WEBHOOK_CALLS_MAX && (node = list_pop(&webhooks->waiting))) {
        struct webhook_call *call = CONTAINER_OF(node, struct webhook_call, node);
        list_push(&tried, node);
        if (call->webhook->calls < WEBHOOK_CALLS_EACH_MAX)
            try_to_send(call);
    }
    while ((node = list_pop(&webhooks->waiting)))
        list_push(&tried, node);
    while ((node = list_pop(&tried)))
        list_push(&webhooks->waiting, node);
}

struct webhook_call *webhook_call_new(struct webhooks *webhooks, struct webhook *webhook, struct buffer *body, webhook_answer_fn *on_answer_fn,
                                      void *userdata) {
    struct webhook_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    *call = (struct webhook_call){.webhooks = webhooks, .webhook = webhook, .on_answer = on_answer_fn, .userdata = userdata, .body = *body};
    loop_timer_init(&call->timer, webhooks->api->loop, on_timeout, call);
    if (loop_timer_set(&call->timer, webhook->timeout_ms) < 0) {
        free(call);
        return NULL;
    }
    *body = BUFFER_INIT(body->bytes_max);
    webhook->config->references++;
    webhook->seen.calls++;
    call->begin_ns = loop_now_ns(webhooks->api->loop);
    list_push(&webhooks->waiting, &call->node);
    loop_defer_schedule(&webhooks->pump);
    return call;
}

void webhook_call_cancel(struct webhook_call *call) {
    if (call)
        call_free(call);
}

void webhooks_calls_start(struct webhooks *webhooks) {
    list_init(&webhooks->waiting);
    list_init(&webhooks->sent);
    loop_defer_init(&webhooks->pump, webhooks->api->loop, on_pump, webhooks);
}

void webhooks_calls_end(struct webhooks *webhooks) {
    ASSERT(list_empty(&webhooks->waiting) && list_empty(&webhooks->sent)); /* they end with their askings */
    loop_defer_cancel(&webhooks->pump);
}
