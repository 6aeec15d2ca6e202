/* The platform's certificates.
 *
 *   pki/ca.crt, pki/ca.key     the authority, made at first start, valid twenty years; only it is kept
 *   serving certificate        issued anew at every start and again when two thirds of its ninety days are over, by a timer: it never expires in
 * service, and names that change (an address of the host) are right after a restart pki/kubeconfig             the administrator's: client
 * certificate of system:masters with the authority's lifetime, so that a copied file keeps working. Written when it is missing, belongs to another
 * authority, or names another address. <state>/kubeconfig links to it.
 *
 *   pki/sa.key                 what service account tokens are signed with (P-256), made at first start. pki/sa-previous.key, where there is one, is
 *                              still taken for checking: to replace the key, move it there and restart
 *
 * Keys never leave the folder (0700) and are in memory only inside struct secret. */
#include "core/core_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/sys.h"

#define AUTHORITY_DAYS (20 * 365)
#define SERVING_DAYS 90
#define SERVING_RENEW_DAYS 60
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)
#define FILE_BYTES_MAX (64 * KIB)
#define NAMES_MAX 64

struct identity {
    struct loop *loop;
    struct arena *arena;
    struct identity_options options;
    struct pki_pair authority;
    struct tls_context *context;
    struct jwt_key *token_keys[3]; /* the signing one, the previous one, NULL */
    struct loop_timer renewal;
};

static char *path_of(struct arena *arena, const char *state, const char *name) {
    return arena_printf(arena, "%s/pki/%s", state, name);
}

static int64_t now_s(const struct identity *identity) {
    return loop_wall_ns(identity->loop) / 1000000000;
}

/* --- the authority --- */

static int read_authority(struct identity *identity) {
    CLEANUP(buffer_deinit) struct buffer certificate = BUFFER_INIT(FILE_BYTES_MAX), key = BUFFER_INIT(FILE_BYTES_MAX);
    const char *state = identity->options.state;
    int error = sys_read_file(AT_FDCWD, path_of(identity->arena, state, "ca.crt"), FILE_BYTES_MAX, &certificate);
    if (!error)
        error = sys_read_file(AT_FDCWD, path_of(identity->arena, state, "ca.key"), FILE_BYTES_MAX, &key);
    if (error)
        return error;
    identity->authority.key_pem = secret_new(buffer_slice(&key));
    identity->authority.certificate_pem = buffer_take(&certificate);
    return identity->authority.key_pem && identity->authority.certificate_pem ? 0 : -ENOMEM;
}

/* The key first: a certificate without its key would be taken for the authority. */
static int make_authority(struct identity *identity) {
    const char *state = identity->options.state;
    char *name = arena_printf(identity->arena, "tidemill %s authority", identity->options.instance);
    int error = name ? pki_authority_new(name, now_s(identity), AUTHORITY_DAYS, &identity->authority) : -ENOMEM;
    if (!error)
        error = sys_write_file(AT_FDCWD, path_of(identity->arena, state, "ca.key"), secret_reveal(identity->authority.key_pem), 0600);
    if (!error)
        error = sys_write_file(AT_FDCWD, path_of(identity->arena, state, "ca.crt"), slice_of(identity->authority.certificate_pem), 0644);
    return error;
}

static int load_authority(struct identity *identity, struct diag *diag) {
    int error = read_authority(identity);
    if (error == -ENOENT)
        error = make_authority(identity);
    return error ? diag_set(diag, error, "cannot read or make the certificate authority in %s/pki: %s", identity->options.state, strerror(-error))
                 : 0;
}

/* --- the keys of service account tokens --- */

static int read_token_key(struct identity *identity, const char *name, struct jwt_key **ret) {
    CLEANUP(buffer_deinit) struct buffer pem = BUFFER_INIT(FILE_BYTES_MAX);
    char *path = path_of(identity->arena, identity->options.state, name);
    int error = path ? sys_read_file(AT_FDCWD, path, FILE_BYTES_MAX, &pem) : -ENOMEM;
    if (!error)
        error = jwt_key_parse(buffer_slice(&pem), ret);
    if (pem.data)
        explicit_bzero(pem.data, pem.len);
    return error;
}

static int make_token_key(struct identity *identity) {
    CLEANUP(secret_freep) struct secret *pem = NULL;
    char *path = path_of(identity->arena, identity->options.state, "sa.key");
    int error = path ? jwt_key_generate(&pem) : -ENOMEM;
    return error ? error : sys_write_file(AT_FDCWD, path, secret_reveal(pem), 0600);
}

static int load_token_keys(struct identity *identity, struct diag *diag) {
    int error = read_token_key(identity, "sa.key", &identity->token_keys[0]);
    if (error == -ENOENT) {
        error = make_token_key(identity);
        error = error ? error : read_token_key(identity, "sa.key", &identity->token_keys[0]);
    }
    if (error)
        return diag_set(diag, error, "cannot read or make the key of service account tokens, %s/pki/sa.key: %s", identity->options.state,
                        strerror(-error));
    error = read_token_key(identity, "sa-previous.key", &identity->token_keys[1]);
    return error && error != -ENOENT ? diag_set(diag, error, "cannot read %s/pki/sa-previous.key: %s", identity->options.state, strerror(-error)) : 0;
}

/* --- the serving certificate --- */

struct names {
    const char *items[NAMES_MAX + 1]; /* ends with NULL */
    size_t count;
};

static void add_name(struct names *names, const char *name) {
    if (!name || !*name || names->count == NAMES_MAX)
        return;
    for (size_t i = 0; i < names->count; i++)
        if (!strcmp(names->items[i], name))
            return;
    names->items[names->count++] = name;
}

/* All addresses of this host, so that a client may use any. */
static void add_host_addresses(struct arena *arena, struct names *names) {
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list))
        return;
    for (const struct ifaddrs *it = list; it; it = it->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (!it->ifa_addr || (it->ifa_addr->sa_family != AF_INET && it->ifa_addr->sa_family != AF_INET6))
            continue;
        bool is_v4 = it->ifa_addr->sa_family == AF_INET;
        const void *address = is_v4 ? (const void *)&((const struct sockaddr_in *)(const void *)it->ifa_addr)->sin_addr
                                    : (const void *)&((const struct sockaddr_in6 *)(const void *)it->ifa_addr)->sin6_addr;
        if (inet_ntop(is_v4 ? AF_INET : AF_INET6, address, text, sizeof text))
            add_name(names, arena_strdup(arena, text));
    }
    freeifaddrs(list);
}

static int issue_serving(struct identity *identity, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    if (!arena)
        return -ENOMEM;
    struct names dns = {.count = 0}, ips = {.count = 0};
    static const char *const fixed[] = {"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
                                        "kubernetes.default.svc.cluster.local"};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        add_name(&dns, fixed[i]);
    char host[256] = "";
    if (!gethostname(host, sizeof host - 1))
        add_name(&dns, host);
    add_name(&ips, "127.0.0.1");
    for (const char *const *it = identity->options.addresses; it && *it; it++)
        add_name(&ips, *it);
    add_host_addresses(arena, &ips);
    const struct pki_subject subject = {.common_name = "tidemill api",
                                        .dns_names = dns.items,
                                        .ip_addresses = ips.items,
                                        .server = true,
                                        .now_s = now_s(identity),
                                        .days = SERVING_DAYS};
    struct pki_pair pair = {NULL, NULL};
    int error = pki_issue(&identity->authority, &subject, &pair);
    if (error)
        return diag_set(diag, error, "cannot issue the API's serving certificate");
    char *key = slice_dup(secret_reveal(pair.key_pem));
    const struct tls_options options = {
        .certificate_pem = pair.certificate_pem, .key_pem = key, .ca_pem = identity->authority.certificate_pem, .server = true};
    struct tls_context *context = NULL;
    error = key ? tls_context_new(&options, &context, diag) : -ENOMEM;
    if (key)
        explicit_bzero(key, strlen(key));
    free(key);
    pki_pair_deinit(&pair);
    if (error)
        return error;
    tls_context_unref(identity->context);
    identity->context = context;
    return 0;
}

static void on_renewal(void *userdata) {
    struct identity *identity = userdata;
    struct diag diag = DIAG_INIT;
    char text[1024];
    if (issue_serving(identity, &diag)) {
        log_error("the serving certificate could not be renewed, trying again in a day: %s", diag_format(&diag, text, sizeof text));
        loop_timer_set(&identity->renewal, DAY_MS);
        return;
    }
    log_info("serving certificate renewed");
    loop_timer_set(&identity->renewal, SERVING_RENEW_DAYS * DAY_MS);
    if (identity->options.on_renewed)
        identity->options.on_renewed(identity->options.userdata, identity->context);
}

/* --- the kubeconfig --- */

/* "0.0.0.0:6443" and ":6443" are reached at 127.0.0.1. */
static char *server_url(struct arena *arena, const char *address) {
    struct slice text = slice_of(address ? address : "127.0.0.1:6443");
    const char *colon = memrchr(text.data, ':', text.len);
    struct slice host = colon ? slice_head(text, (size_t)(colon - text.data)) : text;
    if (!host.len || slice_is(host, "0.0.0.0") || slice_is(host, "[::]") || slice_is(host, "*"))
        host = SLICE("127.0.0.1");
    return arena_printf(arena, "https://%.*s%s", SLICE_ARG(host), colon ? colon : "");
}

static int append_base64(struct buffer *out, const char *key, struct slice pem) {
    buffer_append_text(out, key);
    base64_encode(out, pem);
    return buffer_append_text(out, "\n");
}

static int format_kubeconfig(const struct identity *identity, const char *server, const struct pki_pair *client, struct buffer *out) {
    const char *name = identity->options.instance;
    buffer_printf(out, "apiVersion: v1\nkind: Config\nclusters:\n- name: %s\n  cluster:\n    server: %s\n", name, server);
    append_base64(out, "    certificate-authority-data: ", slice_of(identity->authority.certificate_pem));
    buffer_printf(out, "users:\n- name: admin@%s\n  user:\n", name);
    append_base64(out, "    client-certificate-data: ", slice_of(client->certificate_pem));
    append_base64(out, "    client-key-data: ", secret_reveal(client->key_pem));
    return buffer_printf(out, "contexts:\n- name: %s\n  context:\n    cluster: %s\n    user: admin@%s\n    namespace: default\ncurrent-context: %s\n",
                         name, name, name, name);
}

/* The file there is names this server and this authority. */
static bool is_current(const struct identity *identity, const char *path, const char *server) {
    CLEANUP(buffer_deinit) struct buffer file = BUFFER_INIT(FILE_BYTES_MAX), authority = BUFFER_INIT(FILE_BYTES_MAX), line = BUFFER_INIT(1024);
    if (sys_read_file(AT_FDCWD, path, FILE_BYTES_MAX, &file) || base64_encode(&authority, slice_of(identity->authority.certificate_pem)) ||
        buffer_printf(&line, "server: %s\n", server))
        return false;
    return slice_find(buffer_slice(&file), buffer_slice(&line)) >= 0 && slice_find(buffer_slice(&file), buffer_slice(&authority)) >= 0;
}

static int write_kubeconfig(struct identity *identity) {
    const char *state = identity->options.state;
    char *path = path_of(identity->arena, state, "kubeconfig"), *server = server_url(identity->arena, identity->options.api_address);
    char *link = arena_printf(identity->arena, "%s/kubeconfig", state);
    if (!path || !server || !link)
        return -ENOMEM;
    int error = 0;
    if (!is_current(identity, path, server)) {
        const struct pki_subject subject = {
            .common_name = "admin", .organization = "system:masters", .client = true, .now_s = now_s(identity), .days = AUTHORITY_DAYS - 1};
        struct pki_pair client = {NULL, NULL};
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(FILE_BYTES_MAX);
        error = pki_issue(&identity->authority, &subject, &client);
        if (!error)
            error = format_kubeconfig(identity, server, &client, &text);
        if (!error)
            error = sys_write_file(AT_FDCWD, path, buffer_slice(&text), 0600);
        if (text.data)
            explicit_bzero(text.data, text.len);
        pki_pair_deinit(&client);
    }
    /* The state folder may be root's: then `up` has made the link. */
    if (!error && symlink("pki/kubeconfig", link) < 0 && errno != EEXIST && errno != EACCES && errno != EPERM)
        error = -errno;
    return error;
}

/* --- life --- */

static int start(struct identity *identity, struct diag *diag) {
    int error = load_authority(identity, diag);
    if (!error)
        error = load_token_keys(identity, diag);
    if (!error)
        error = issue_serving(identity, diag);
    if (error)
        return error;
    error = write_kubeconfig(identity);
    if (error)
        return diag_set(diag, error, "cannot write %s/pki/kubeconfig: %s", identity->options.state, strerror(-error));
    loop_timer_init(&identity->renewal, identity->loop, on_renewal, identity);
    return loop_timer_set(&identity->renewal, SERVING_RENEW_DAYS * DAY_MS);
}

int identity_new(struct loop *loop, const struct identity_options *options, struct identity **ret, struct diag *diag) {
    struct identity *identity = calloc(1, sizeof *identity);
    if (!identity)
        return -ENOMEM;
    identity->loop = loop;
    identity->options = *options;
    identity->arena = arena_new(64 * KIB);
    loop_timer_init(&identity->renewal, loop, on_renewal, identity);
    int error = identity->arena ? start(identity, diag) : -ENOMEM;
    if (error)
        identity_free(identity);
    else
        *ret = identity;
    return error;
}

void identity_free(struct identity *identity) {
    if (!identity)
        return;
    loop_timer_cancel(&identity->renewal);
    tls_context_unref(identity->context);
    pki_pair_deinit(&identity->authority);
    for (size_t i = 0; i < ARRAY_LEN(identity->token_keys); i++)
        jwt_key_free(identity->token_keys[i]);
    arena_free(identity->arena);
    free(identity);
}

struct tls_context *identity_tls(const struct identity *identity) {
    return identity->context;
}

const struct pki_pair *identity_pair(const struct identity *identity) {
    return &identity->authority;
}

const char *identity_authority(const struct identity *identity) {
    return identity->authority.certificate_pem;
}

const struct jwt_key *const *identity_token_keys(const struct identity *identity) {
    return (const struct jwt_key *const *)identity->token_keys;
}
