/* Another registry, as one repository of it is used.
 *
 *   exchange ─► settle (http or https?) ─► request ─┬─ 401 ─► authenticate ─► again
 *                                                   ├─ 3xx ─► there, without credentials unless it is the same origin
 *                                                   └─ else ─► the answer
 *
 * 1. Endpoints are the mirrors in their order and then the registry. The caller goes on to the next when one fails.
 * 2. An Authorization header goes to the endpoint's own origin alone (scheme, host, port): never along a redirect to a content server (the class of
 *    CVE-2020-15157).
 * 3. TLS is a must, but for registries that the machine's owner calls insecure, mirrors written as http://, and loopback addresses. Which of the two
 *    such a registry speaks is found by one request without credentials. From https a redirect never leads to http, nor does one from a loopback
 *    address to another machine.
 * 4. Waiting between tries ends at once when the hub is cancelled. */
#include "registry/hub.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <time.h>

#include "registry/hub_priv.h"
#include "sys/sys.h"

#define REDIRECTS_MAX 5
#define TURNS_MAX (3 + 2 * HUB_CREDENTIALS_MAX)
#define ATTEMPTS_MAX 4
#define ATTEMPTS_UNREACHABLE_MAX 1
#define PAUSE_FIRST_MS 500
#define PAUSE_MAX_MS 60000
#define PAUSE_LOOK_NS 500000000

/* --- endpoints --- */

/* Names but localhost lead wherever their owner likes: "127.example.com". */
bool hub_is_on_loopback(const char *host) {
    struct slice port = slice_of(host), name = slice_cut(&port, ':');
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    if (strcmp(host, "[::1]") == 0 || strncmp(host, "[::1]:", 6) == 0 || slice_is(name, "localhost"))
        return true;
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(name));
    return name.len < sizeof text && inet_pton(AF_INET, text, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

bool hub_is_lenient(const struct endpoint *endpoint, const char *url) {
    return !endpoint->only_loopback || hub_transfer_is_on_loopback(url);
}

static void set_site(struct endpoint *endpoint, const struct site *site) {
    endpoint->ca = site->ca;
    endpoint->only_loopback = !site->insecure && hub_is_on_loopback(endpoint->host);
    endpoint->may_be_plain = endpoint->trusts_all = site->insecure || endpoint->only_loopback;
}

static void find_credentials(struct hub *hub, struct endpoint *endpoint, const char *registry) {
    char name[2 * OCI_NAME_MAX + 4];
    snprintf(name, sizeof name, "%s%s", endpoint->path, hub->name);
    for (size_t i = 0; i < HUB_CONFIGS; i++)
        if (hub->options.credentials[i])
            endpoint->credentials_count +=
                docker_config_find(hub->options.credentials[i], registry, name, endpoint->credentials + endpoint->credentials_count,
                                   HUB_CREDENTIALS_MAX - endpoint->credentials_count);
}

static int add_mirror(struct hub *hub, const char *url, struct diag *diag) {
    struct endpoint *endpoint = &hub->endpoints[hub->endpoints_count++];
    bool plain = strncmp(url, "http://", 7) == 0;
    struct slice path = slice_of(strstr(url, "://") + 3), host = slice_cut(&path, '/');
    while (path.len && path.data[path.len - 1] == '/')
        path.len--;
    if (host.len == 0 || host.len >= sizeof endpoint->host || path.len + 2 > sizeof endpoint->path)
        return diag_set(diag, -EINVAL, "\"%s\" cannot be a mirror of %s", url, hub->options.reference->registry);
    snprintf(endpoint->host, sizeof endpoint->host, "%.*s", SLICE_ARG(host));
    snprintf(endpoint->path, sizeof endpoint->path, "%.*s%s", SLICE_ARG(path), path.len ? "/" : "");
    set_site(endpoint, sites_find(hub->options.sites, endpoint->host));
    endpoint->is_settled = true;
    endpoint->is_plain = plain;
    find_credentials(hub, endpoint, endpoint->host);
    return 0;
}

int hub_new(const struct hub_options *options, struct hub **ret, struct diag *diag) {
    const char *registry = options->reference->registry;
    const struct site *site = sites_find(options->sites, registry);
    struct hub *hub = calloc(1, sizeof *hub);
    if (!hub)
        return diag_set(diag, -ENOMEM, "out of memory");
    hub->options = *options;
    snprintf(hub->name, sizeof hub->name, "%s", options->reference->name);
    pthread_mutex_init(&hub->lock, NULL);
    pthread_cond_init(&hub->wake, NULL);
    int r = 0;
    for (size_t i = 0; r == 0 && !options->pushes && i < site->mirrors_count; i++)
        r = add_mirror(hub, site->mirrors[i], diag);
    struct endpoint *own = &hub->endpoints[hub->endpoints_count++];
    snprintf(own->host, sizeof own->host, "%s", strcmp(registry, "docker.io") == 0 ? "registry-1.docker.io" : registry);
    set_site(own, site);
    own->may_be_plain = own->may_be_plain || options->insecure;
    own->trusts_all = own->trusts_all || options->insecure;
    own->only_loopback = own->only_loopback && !options->insecure;
    own->is_settled = !own->may_be_plain;
    find_credentials(hub, own, registry);
    if (r < 0)
        hub_free(hub);
    else
        *ret = hub;
    return r;
}

void hub_free(struct hub *hub) {
    if (!hub)
        return;
    for (size_t i = 0; i < hub->endpoints_count; i++)
        secret_free(hub->endpoints[i].authorization);
    pthread_cond_destroy(&hub->wake);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

/* Without the lock, which may be held while a token is fetched: who waits looks again soon, should it have missed this. */
void hub_cancel(struct hub *hub) {
    atomic_store(&hub->cancelled, true);
    pthread_cond_broadcast(&hub->wake);
}

bool hub_is_cancelled(const struct hub *hub) {
    return atomic_load(&hub->cancelled);
}

size_t hub_endpoints(const struct hub *hub) {
    return hub->endpoints_count;
}

const char *hub_host(const struct hub *hub, size_t endpoint) {
    return hub->endpoints[endpoint].host;
}

const struct docker_credential *hub_credential(struct hub *hub, size_t index) {
    const struct endpoint *endpoint = &hub->endpoints[index];
    pthread_mutex_lock(&hub->lock);
    const struct docker_credential *used = endpoint->used_credential ? endpoint->credentials[endpoint->credentials_at] : NULL;
    pthread_mutex_unlock(&hub->lock);
    return used;
}

int hub_connect(struct hub *hub, struct hub_connection **ret) {
    struct hub_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return -ENOMEM;
    connection->hub = hub;
    connection->curl = curl_easy_init();
    if (!connection->curl) {
        free(connection);
        return -ENOMEM;
    }
    *ret = connection;
    return 0;
}

void hub_connection_free(struct hub_connection *connection) {
    if (!connection)
        return;
    curl_easy_cleanup(connection->curl);
    free(connection);
}

/* --- one exchange --- */

/* An answer of a registry to GET /v2/ over plain HTTP, or that of a server which speaks TLS there? */
static int settle(struct hub_connection *connection, struct endpoint *endpoint) {
    CLEANUP(buffer_deinit) struct buffer url = BUFFER_INIT(HUB_URL_BYTES_MAX);
    struct hub_call call = HUB_CALL("GET", "");
    pthread_mutex_lock(&connection->hub->lock);
    if (!endpoint->is_settled) {
        buffer_printf(&url, "http://%s/v2/", endpoint->host);
        const struct transfer transfer = {.url = url.data, .call = &call, .plain = true};
        int r = buffer_error(&url) ? -EIO : hub_transfer_run(connection, &transfer, NULL);
        endpoint->is_plain = r == 0 && call.status != 400 && call.status / 100 != 3;
        endpoint->is_settled = true;
    }
    pthread_mutex_unlock(&connection->hub->lock);
    return hub_is_cancelled(connection->hub) ? -ECANCELED : 0;
}

/* A copy, so that another connection may get a new one meanwhile. A token that has ended is not sent. */
static struct secret *get_authorization(struct hub *hub, struct endpoint *endpoint, unsigned *ret_generation) {
    pthread_mutex_lock(&hub->lock);
    if (endpoint->authorization && sys_monotonic_ns() > endpoint->expires_ns)
        secret_free(TAKE(endpoint->authorization));
    struct secret *copy = endpoint->authorization ? secret_new(secret_reveal(endpoint->authorization)) : NULL;
    *ret_generation = endpoint->generation;
    pthread_mutex_unlock(&hub->lock);
    return copy;
}

static int format_url(const struct hub *hub, const struct endpoint *endpoint, const char *path, struct buffer *out) {
    if (strstr(path, "://"))
        buffer_append_text(out, path);
    else if (strcmp(path, "/") == 0)
        buffer_printf(out, "%s://%s/v2/", endpoint->is_plain ? "http" : "https", endpoint->host);
    else
        buffer_printf(out, "%s://%s/v2/%s%s/%s", endpoint->is_plain ? "http" : "https", endpoint->host, endpoint->path, hub->name, path);
    return buffer_error(out) ? -ENAMETOOLONG : 0;
}

/* The request and where it is sent on to. *ret_away: the last answer is another server's. */
static int follow(struct hub_connection *connection, const struct endpoint *endpoint, const struct secret *authorization, struct hub_call *call,
                  bool *ret_away, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer url = BUFFER_INIT(HUB_URL_BYTES_MAX), home = BUFFER_INIT(HUB_URL_BYTES_MAX);
    bool reads = strcmp(call->method, "GET") == 0 || strcmp(call->method, "HEAD") == 0;
    int r = format_url(connection->hub, endpoint, call->path, &url);
    r = r ? r : format_url(connection->hub, endpoint, "", &home);
    for (int i = 0; r == 0; i++) {
        bool at_home = hub_transfer_same_origin(url.data, home.data);
        const struct transfer transfer = {.url = url.data,
                                          .authorization = at_home && authorization ? secret_reveal(authorization) : (struct slice){0},
                                          .call = call,
                                          .plain = endpoint->is_plain && hub_is_lenient(endpoint, url.data),
                                          .trusts_all = endpoint->trusts_all && hub_is_lenient(endpoint, url.data),
                                          .ca = endpoint->ca};
        *ret_away = !at_home;
        r = hub_transfer_run(connection, &transfer, diag);
        const char *next = r == 0 && call->status / 100 == 3 && reads ? hub_transfer_redirect(connection) : NULL;
        if (!next)
            return r;
        if (i == REDIRECTS_MAX)
            return diag_set(diag, -ELOOP, "%s redirects more than %d times", endpoint->host, REDIRECTS_MAX);
        buffer_reset(&url);
        r = buffer_append_text(&url, next);
    }
    return diag_set(diag, r, "a URL of %s is too long", endpoint->host);
}

/* What an answer says about the credential that was sent. True: the next one is to be tried. */
static bool judge(struct hub *hub, struct endpoint *endpoint, unsigned generation, const struct hub_call *call) {
    bool again = false;
    pthread_mutex_lock(&hub->lock);
    if (endpoint->generation == generation) {
        bool refused = call->status == 403 || call->status == 404;
        again = refused && endpoint->used_credential && !endpoint->proven && hub_next_credential(endpoint);
        endpoint->proven = endpoint->proven || call->status / 100 == 2;
    }
    pthread_mutex_unlock(&hub->lock);
    return again;
}

int hub_exchange(struct hub_connection *connection, size_t index, struct hub_call *call, struct diag *diag) {
    struct hub *hub = connection->hub;
    struct endpoint *endpoint = &hub->endpoints[index];
    int r = settle(connection, endpoint);
    if (r < 0)
        return diag_set(diag, r, "cancelled");
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        unsigned generation;
        bool away = false;
        CLEANUP(secret_freep) struct secret *authorization = get_authorization(hub, endpoint, &generation);
        r = follow(connection, endpoint, authorization, call, &away, diag);
        if (r < 0)
            return r;
        if (call->status == 401 && !away) {
            r = hub_authenticate(connection, endpoint, generation, diag);
            if (r < 0)
                return r;
        } else if (away || !judge(hub, endpoint, generation, call)) {
            return 0;
        }
    }
    return diag_set(diag, -EACCES, "%s wants other credentials again and again", endpoint->host);
}

/* --- trying again --- */

static void pause_ms(struct hub *hub, int64_t ms) {
    int64_t end_ns = sys_monotonic_ns() + ms * 1000000;
    pthread_mutex_lock(&hub->lock);
    for (int64_t left_ns; !hub_is_cancelled(hub) && (left_ns = end_ns - sys_monotonic_ns()) > 0;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        int64_t ns = until.tv_nsec + MIN(left_ns, (int64_t)PAUSE_LOOK_NS);
        until.tv_sec += ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        pthread_cond_timedwait(&hub->wake, &hub->lock, &until);
    }
    pthread_mutex_unlock(&hub->lock);
}

bool hub_waits(struct hub_connection *connection, const struct hub_call *call, int result, int *attempt) {
    struct hub *hub = connection->hub;
    int64_t first_ms = hub->options.retry_ms ? hub->options.retry_ms : PAUSE_FIRST_MS;
    bool busy = result == 0 && (call->status == 429 || call->status == 408 || call->status == 500 || (call->status >= 502 && call->status <= 504));
    bool broken = result == -EIO, unreachable = result == -EHOSTUNREACH;
    int max = busy || broken ? ATTEMPTS_MAX : unreachable ? ATTEMPTS_UNREACHABLE_MAX : 0;
    if (*attempt >= max || hub_is_cancelled(hub))
        return false;
    int64_t ms = busy && call->retry_after_s >= 0 ? call->retry_after_s * 1000 : first_ms << *attempt;
    if (ms > PAUSE_MAX_MS) /* who asked for the image may come again by then */
        return false;
    ++*attempt;
    pause_ms(hub, ms);
    return !hub_is_cancelled(hub);
}

int hub_refused(const struct hub *hub, size_t endpoint, const struct hub_call *call, const char *what, struct diag *diag) {
    const char *host = hub->endpoints[endpoint].host, *words = call->words, *open = *words ? " (" : "", *close = *words ? ")" : "";
    if (call->status == 404)
        return diag_set(diag, -ENOENT, "%s has no %s of %s%s%s%s", host, what, hub->name, open, words, close);
    if (call->status == 401 || call->status == 403)
        return diag_set(diag, -EACCES, "%s refuses to show %s: it does not exist, or needs other credentials%s%s%s", host, hub->name, open, words,
                        close);
    if (call->status == 429)
        return diag_set(diag, -EBUSY, "%s wants fewer requests (status 429)%s%s%s", host, open, words, close);
    return diag_set(diag, -EIO, "%s answered with status %d when asked for %s of %s%s%s%s", host, call->status, what, hub->name, open, words, close);
}
