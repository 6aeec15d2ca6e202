/* kubeconfig files: the current context names a cluster (where, and who signs for it) and a user (who we are). */
#include <fcntl.h>
#include <stdio.h>

#include "client/client.h"
#include "sys/sys.h"

#define KUBECONFIG_BYTES_MAX MIB

struct reader {
    struct arena *arena;
    const char *path;
    struct slice folder; /* of the kubeconfig, with the slash; files are named relative to it */
    struct diag *diag;
};

/* The entry of a list like `clusters` by its name; its member `key`. */
static struct tree *find_named(const struct tree *root, const char *list, const char *name, const char *key) {
    const struct tree *entries = tree_find(root, list);
    for (size_t i = 0; i < tree_count(entries); i++)
        if (strcmp(tree_text_or(tree_find(tree_at(entries, i), "name"), ""), name) == 0)
            return tree_find(tree_at(entries, i), key);
    return NULL;
}

static int copy_into(struct reader *reader, struct buffer *bytes, const char **ret) {
    *ret = arena_dup(reader->arena, buffer_slice(bytes));
    if (bytes->data)
        explicit_bzero(bytes->data, bytes->len);
    return *ret ? 0 : -ENOMEM;
}

static int read_named_file(struct reader *reader, const char *name, const char **ret) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(KUBECONFIG_BYTES_MAX);
    char path[4096];
    int len = snprintf(path, sizeof path, "%.*s%s", name[0] == '/' ? 0 : (int)reader->folder.len, reader->folder.data, name);
    if (len < 0 || (size_t)len >= sizeof path)
        return -ENAMETOOLONG;
    int r = sys_read_file(AT_FDCWD, path, KUBECONFIG_BYTES_MAX, &bytes);
    if (r < 0)
        return diag_set(reader->diag, r, "cannot read %s, which the kubeconfig names: %s", path, strerror(-r));
    return copy_into(reader, &bytes, ret);
}

/* `NAME-data` in base64, or the file `NAME`; NULL when neither is there. */
static int read_text(struct reader *reader, const struct tree *map, const char *name, const char **ret) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(KUBECONFIG_BYTES_MAX);
    char key[64];
    snprintf(key, sizeof key, "%s-data", name);
    const char *data = tree_text_or(tree_find(map, key), NULL), *file = tree_text_or(tree_find(map, name), NULL);
    *ret = NULL;
    if (!data)
        return file ? read_named_file(reader, file, ret) : 0;
    if (base64_decode(&bytes, slice_of(data)) < 0)
        return diag_set(reader->diag, -EINVAL, "%s is not base64", key);
    return copy_into(reader, &bytes, ret);
}

static int refuse_unsupported(struct reader *reader, const struct tree *cluster, const struct tree *user) {
    if (tree_bool_or(tree_find(cluster, "insecure-skip-tls-verify"), false))
        return diag_set(reader->diag, -EINVAL, "insecure-skip-tls-verify is not supported: name the cluster's certificate-authority instead");
    if (tree_find(cluster, "proxy-url"))
        return diag_set(reader->diag, -EINVAL, "proxy-url is not supported");
    if (tree_find(user, "exec") || tree_find(user, "auth-provider"))
        return diag_set(reader->diag, -EINVAL, "credential plugins are not supported: use a client certificate or a token");
    if (tree_find(user, "username"))
        return diag_set(reader->diag, -EINVAL, "user name and password are not supported: use a client certificate or a token");
    return 0;
}

static int read_user(struct reader *reader, const struct tree *user, struct client_options *options) {
    const char *token_file = tree_text_or(tree_find(user, "tokenFile"), NULL);
    int r = read_text(reader, user, "client-certificate", &options->certificate_pem);
    if (r == 0)
        r = read_text(reader, user, "client-key", &options->key_pem);
    options->token = tree_text_or(tree_find(user, "token"), NULL);
    if (r == 0 && token_file && !options->token) {
        r = read_named_file(reader, token_file, &options->token);
        if (r == 0) {
            options->token = arena_dup(reader->arena, slice_trim(slice_of(options->token)));
            r = options->token ? 0 : -ENOMEM;
        }
    }
    return r;
}

static int read_context(struct reader *reader, const struct tree *root, struct client_options *options) {
    const char *name = tree_text_or(tree_find(root, "current-context"), NULL);
    if (!name || !*name)
        return diag_set(reader->diag, -EINVAL, "the kubeconfig has no current-context");
    const struct tree *context = find_named(root, "contexts", name, "context");
    if (!context)
        return diag_set(reader->diag, -EINVAL, "the kubeconfig has no context \"%s\", which is its current-context", name);
    const char *cluster_name = tree_text_or(tree_find(context, "cluster"), ""), *user_name = tree_text_or(tree_find(context, "user"), "");
    const struct tree *cluster = find_named(root, "clusters", cluster_name, "cluster"), *user = find_named(root, "users", user_name, "user");
    options->endpoint = tree_text_or(tree_find(cluster, "server"), NULL);
    if (!options->endpoint)
        return diag_set(reader->diag, -EINVAL, "the kubeconfig has no cluster \"%s\" with a server", cluster_name);
    if (*user_name && !user)
        return diag_set(reader->diag, -EINVAL, "the kubeconfig has no user \"%s\"", user_name);
    int r = refuse_unsupported(reader, cluster, user);
    if (r == 0)
        r = read_text(reader, cluster, "certificate-authority", &options->ca_pem);
    return r < 0 ? r : read_user(reader, user, options);
}

int client_new_kubeconfig(struct loop *loop, const char *path, struct client **ret, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(8 * MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KUBECONFIG_BYTES_MAX);
    struct diag unwanted = DIAG_INIT;
    struct client_options options = {0};
    struct tree *root;
    if (!arena)
        return -ENOMEM;
    const char *slash = strrchr(path, '/');
    struct reader reader = {
        .arena = arena, .path = path, .folder = slice_make(path, slash ? (size_t)(slash - path) + 1 : 0), .diag = diag ? diag : &unwanted};
    diag_at(reader.diag, path, -1, -1);
    int r = sys_read_file(AT_FDCWD, path, KUBECONFIG_BYTES_MAX, &text);
    if (r < 0)
        return diag_set(reader.diag, r, "cannot read the kubeconfig: %s", strerror(-r));
    r = yaml_parse_one(arena, buffer_slice(&text), &root, reader.diag);
    if (r == 0)
        r = read_context(&reader, root, &options);
    return r < 0 ? r : client_new(loop, &options, ret, reader.diag);
}
