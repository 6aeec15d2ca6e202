/* Reading docker's credentials and choosing among them (kubernetes pkg/credentialprovider: keys are URLs whose scheme and "/v1/", "/v2/" fall away).
 */
#include "registry/docker_config.h"

#include <fnmatch.h>

#include "codec/codec.h"

#define DOCKER "docker.io"
#define DOCKER_INDEX "index.docker.io" /* as docker itself writes it */

static void credential_deinit(struct docker_credential *credential) {
    free(credential->key);
    free(credential->user);
    secret_free(credential->password);
    secret_free(credential->identity_token);
    secret_free(credential->registry_token);
}

void docker_config_deinit(struct docker_config *config) {
    for (size_t i = 0; i < config->items.count; i++)
        credential_deinit(&config->items.items[i]);
    VECTOR_DEINIT(&config->items);
}

/* --- reading --- */

/* "https://index.docker.io/v1/" → "index.docker.io". */
static char *clean_key(struct slice key) {
    if (slice_starts(key, SLICE("https://")))
        key = slice_from(key, 8);
    else if (slice_starts(key, SLICE("http://")))
        key = slice_from(key, 7);
    struct slice path = key, host = slice_cut(&path, '/');
    if (slice_starts(path, SLICE("v1/")) || slice_starts(path, SLICE("v2/")))
        path = slice_from(path, 3);
    else if (slice_is(path, "v1") || slice_is(path, "v2"))
        path.len = 0;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    buffer_append_slice(&out, host);
    if (path.len)
        buffer_printf(&out, "/%.*s", SLICE_ARG(path));
    return buffer_take(&out);
}

bool docker_config_key_is(struct slice key, const char *registry) {
    CLEANUP(freep) char *host = clean_key(key);
    return host && (strcmp(host, registry) == 0 || (strcmp(registry, DOCKER) == 0 && strcmp(host, DOCKER_INDEX) == 0));
}

static struct secret *read_secret(const struct tree *node) {
    const char *text = tree_text_or(node, "");
    return *text ? secret_new(slice_of(text)) : NULL;
}

/* "dXNlcjpwYXNz": user and password. Some pad the password with NULs. */
static int read_auth(const char *auth, struct docker_credential *into, const char *key, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB), padded = BUFFER_INIT(128 * KIB);
    buffer_append_slice(&padded, slice_trim(slice_of(auth)));
    while (padded.len % 4 && padded.len % 4 != 1 && !buffer_error(&padded)) /* some leave it out */
        buffer_append_byte(&padded, '=');
    char *colon = base64_decode(&text, buffer_slice(&padded)) == 0 && text.data ? memchr(text.data, ':', text.len) : NULL;
    if (!colon)
        return diag_set(diag, -EINVAL, "auths[\"%s\"].auth: expected base64 of user:password", key);
    *colon = 0;
    struct slice password = slice_make(colon + 1, text.len - (size_t)(colon + 1 - text.data));
    while (password.len && !password.data[password.len - 1])
        password.len--;
    free(into->user);
    secret_free(into->password);
    into->user = strdup(text.data);
    into->password = secret_new(password);
    explicit_bzero(text.data, text.len);
    return into->user && into->password ? 0 : -ENOMEM;
}

static int read_entry(struct docker_config *config, const struct tree_entry *entry, struct diag *diag) {
    const struct tree *value = entry->value;
    const char *auth = tree_text_or(tree_find(value, "auth"), "");
    struct docker_credential credential = {.key = clean_key(entry->key), .user = strdup(tree_text_or(tree_find(value, "username"), ""))};
    credential.password = read_secret(tree_find(value, "password"));
    credential.identity_token = read_secret(tree_find(value, "identitytoken"));
    credential.registry_token = read_secret(tree_find(value, "registrytoken"));
    int r = credential.key && credential.user ? 0 : -ENOMEM;
    if (r == 0 && *auth)
        r = read_auth(auth, &credential, credential.key, diag);
    bool has_any = credential.password || credential.identity_token || credential.registry_token;
    if (r == 0 && has_any && config->items.count >= DOCKER_CONFIG_ENTRIES_MAX)
        r = diag_set(diag, -EINVAL, "more than %d credentials for registries", DOCKER_CONFIG_ENTRIES_MAX);
    if (r == 0 && has_any && (r = VECTOR_PUSH(&config->items, credential)) == 0)
        return 0;
    credential_deinit(&credential);
    return r;
}

int docker_config_read(struct docker_config *config, struct slice json, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * DOCKER_CONFIG_BYTES_MAX);
    struct tree *root = NULL;
    if (!arena)
        return -ENOMEM;
    if (json.len > DOCKER_CONFIG_BYTES_MAX)
        return diag_set(diag, -EINVAL, "more than %zu bytes of credentials for registries", DOCKER_CONFIG_BYTES_MAX);
    int r = json_parse(arena, json, &(struct json_options){.allow_duplicates = true}, &root, diag);
    if (r < 0)
        return r;
    const struct tree *auths = tree_find(root, "auths") ? tree_find(root, "auths") : root;
    if (auths->type != TREE_MAP)
        return diag_set(diag, -EINVAL, "expected {\"auths\": {\"REGISTRY\": {\"auth\": …}}}, found %s", tree_type_name(auths));
    for (size_t i = 0; r == 0 && i < auths->children->count; i++)
        if (auths->children->items[i].value->type == TREE_MAP)
            r = read_entry(config, &auths->children->items[i], diag);
    return r;
}

int docker_config_add(struct docker_config *config, const char *key, struct slice user, struct slice password) {
    CLEANUP(buffer_deinit) struct buffer copy = BUFFER_INIT(64 * KIB);
    buffer_append_slice(&copy, user);
    struct docker_credential credential = {.key = strdup(key), .user = buffer_take(&copy), .password = secret_new(password)};
    if (credential.key && !credential.user)
        credential.user = strdup("");
    int r = credential.key && credential.user && credential.password ? VECTOR_PUSH(&config->items, credential) : -ENOMEM;
    if (r < 0)
        credential_deinit(&credential);
    return r;
}

/* --- choosing --- */

static bool part_matches(struct slice glob, struct slice text) {
    char pattern[256], name[256];
    if (glob.len >= sizeof pattern || text.len >= sizeof name)
        return false;
    memcpy(pattern, glob.data, glob.len);
    memcpy(name, text.data, text.len);
    pattern[glob.len] = name[text.len] = 0;
    return fnmatch(pattern, name, 0) == 0;
}

static bool host_matches(struct slice glob, struct slice host) {
    struct slice glob_port = glob, port = host;
    glob = slice_cut(&glob_port, ':');
    host = slice_cut(&port, ':');
    if (!slice_equal(slice_make(glob_port.data ? glob_port.data : "", glob_port.len), slice_make(port.data ? port.data : "", port.len)))
        return false;
    while (glob.data && host.data)
        if (!part_matches(slice_cut(&glob, '.'), slice_cut(&host, '.')))
            return false;
    return !glob.data && !host.data;
}

static bool matches(const char *key, const char *registry, const char *name) {
    struct slice path = slice_of(key), host = slice_cut(&path, '/');
    return host_matches(host, slice_of(registry)) && (!path.data || slice_starts(slice_of(name), path));
}

static int by_key(const void *a, const void *b) {
    const struct docker_credential *const *left = a, *const *right = b;
    return strcmp((*right)->key, (*left)->key);
}

static size_t find(const struct docker_config *config, const char *registry, const char *name, const struct docker_credential **ret, size_t max) {
    size_t count = 0;
    for (size_t i = 0; i < config->items.count && count < max; i++)
        if (matches(config->items.items[i].key, registry, name))
            ret[count++] = &config->items.items[i];
    if (count)
        qsort(ret, count, sizeof *ret, by_key);
    return count;
}

size_t docker_config_find(const struct docker_config *config, const char *registry, const char *name, const struct docker_credential **ret,
                          size_t max) {
    size_t count = find(config, registry, name, ret, max);
    return count || strcmp(registry, DOCKER) != 0 ? count : find(config, DOCKER_INDEX, name, ret, max);
}

/* --- writing one --- */

int docker_config_format(struct buffer *out, const char *registry, const char *user, struct slice password) {
    CLEANUP(buffer_deinit) struct buffer pair = BUFFER_INIT(DOCKER_PAIR_BYTES_MAX);
    buffer_printf(&pair, "%s:%.*s", user, SLICE_ARG(password));
    buffer_append_text(out, "{\"auths\":{");
    json_format_string(out, slice_of(registry));
    buffer_append_text(out, ":{\"auth\":\"");
    base64_encode(out, buffer_slice(&pair));
    buffer_append_text(out, "\"}}}\n");
    if (pair.data)
        explicit_bzero(pair.data, pair.len);
    return buffer_error(&pair) ? buffer_error(&pair) : buffer_error(out);
}
