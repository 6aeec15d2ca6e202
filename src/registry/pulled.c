#include "registry/pulled.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/codec.h"
#include "http/http.h"
#include "registry/content_priv.h"
#include "sys/sys.h"

#define KEY_PATH "pulled.key"
#define RECORD_BYTES_MAX (64 * KIB)
#define CANDIDATES_MAX 64

int pulled_key_open(struct content *content, struct pulled_key *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(sizeof ret->bytes + 1);
    int r = sys_read_file(content->root_fd, KEY_PATH, sizeof ret->bytes, &text);
    if (r < 0 && r != -ENOENT && r != -EFBIG)
        return r;
    if (r == 0 && text.len == sizeof ret->bytes) {
        memcpy(ret->bytes, text.data, sizeof ret->bytes);
        return 0;
    }
    sys_random(ret->bytes, sizeof ret->bytes);
    return sys_write_file(content->root_fd, KEY_PATH, slice_make(ret->bytes, sizeof ret->bytes), 0600);
}

/* With the key in front: a digest that others cannot try passwords on. */
static void identify(const struct pulled_key *key, const char *registry, const struct docker_credential *credential, char ret[65]) {
    const struct slice parts[] = {
        slice_make(key->bytes, sizeof key->bytes),
        slice_make(registry, strlen(registry) + 1),
        slice_make(credential->user, strlen(credential->user) + 1),
        credential->password ? secret_reveal(credential->password) : (struct slice){0},
        SLICE("\n"),
        credential->identity_token ? secret_reveal(credential->identity_token) : (struct slice){0},
        SLICE("\n"),
        credential->registry_token ? secret_reveal(credential->registry_token) : (struct slice){0},
    };
    struct digest *digest = digest_new();
    for (size_t i = 0; digest && i < ARRAY_LEN(parts); i++)
        if (parts[i].len)
            digest_update(digest, parts[i]);
    if (digest)
        digest_finish_hex(digest, ret);
    else
        ret[0] = 0;
    digest_free(digest);
}

static int read_record(struct content *content, struct arena *arena, const char *name, const struct oci_digest *digest, struct tree **ret) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(RECORD_BYTES_MAX + 1);
    int r = sys_read_file(content->root_fd, content_path("repositories/%s/_pulled/%s", name, digest->hex).text, RECORD_BYTES_MAX, &json);
    r = r ? r : json_parse(arena, buffer_slice(&json), NULL, ret, NULL);
    return r < 0 && r != -ENOENT && r != -ENOMEM ? -EBADMSG : r;
}

static bool has(const struct tree *list, const char *id) {
    for (size_t i = 0; *id && i < tree_count(list); i++)
        if (strcmp(tree_text_or(tree_at(list, i), ""), id) == 0)
            return true;
    return false;
}

int pulled_note(struct content *content, const struct pulled_key *key, const char *name, const struct oci_digest *digest, const char *repo_digest,
                const char *registry, const struct docker_credential *credential) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(RECORD_BYTES_MAX);
    char id[65] = "";
    struct tree *old = NULL;
    if (!arena)
        return -ENOMEM;
    int r = read_record(content, arena, name, digest, &old);
    bool was_public = r == 0 && tree_count(tree_find(old, "credentials")) == 0;
    struct tree *list = tree_list(arena), *record = tree_map(arena);
    if (credential && !was_public)
        identify(key, registry, credential, id);
    const struct tree *before = *id && r == 0 ? tree_find(old, "credentials") : NULL;
    size_t skip = tree_count(before) >= PULLED_CREDENTIALS_MAX ? tree_count(before) - PULLED_CREDENTIALS_MAX + 1 : 0;
    for (size_t i = skip; i < tree_count(before); i++)
        tree_push(arena, list, tree_at(before, i));
    if (*id && !has(before, id))
        tree_push(arena, list, tree_text(arena, id));
    if (!list || !record || (credential && !was_public && (!*id || !tree_count(list))))
        return -ENOMEM;
    tree_set_text(arena, record, "repoDigest", repo_digest);
    tree_set(arena, record, SLICE("credentials"), list);
    json_format(&out, record);
    buffer_append_byte(&out, '\n');
    r = buffer_error(&out);
    return r ? r : content_write_file(content, content_path("repositories/%s/_pulled/%s", name, digest->hex).text, buffer_slice(&out));
}

bool pulled_is_private(struct content *content, const char *name, const struct oci_digest *digest) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *record = NULL;
    int r = arena ? read_record(content, arena, name, digest, &record) : -ENOMEM;
    return r != -ENOENT && (r < 0 || tree_count(tree_find(record, "credentials")) > 0); /* damaged: nobody knows */
}

bool pulled_is_ours(struct content *content, const char *name, const struct oci_digest *digest) {
    struct content_path path = content_path("repositories/%s/_pulled/%s", name, digest->hex);
    struct stat status;
    return content_find_link(content, name, CONTENT_LINK_MANIFEST, digest, NULL) == 0 &&
           fstatat(content->root_fd, path.text, &status, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

bool pulled_has_any(struct content *content, const char *name) {
    struct stat status;
    return fstatat(content->root_fd, content_path("repositories/%s/_pulled", name).text, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

void pulled_forget(struct content *content, const char *name, const struct oci_digest *digest) {
    unlinkat(content->root_fd, content_path("repositories/%s/_pulled/%s", name, digest->hex).text, 0);
}

bool pulled_is_of(struct content *content, const char *name, const struct oci_digest *digest, const struct oci_digest *top) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *record = NULL;
    char text[OCI_DIGEST_TEXT];
    int r = arena ? read_record(content, arena, name, digest, &record) : -ENOMEM;
    const char *at = r == 0 ? strchr(tree_text_or(tree_find(record, "repoDigest"), ""), '@') : NULL;
    return at && strcmp(at + 1, oci_digest_format(top, text)) == 0;
}

const char *pulled_origin(struct content *content, struct arena *arena, const char *name, const struct oci_digest *digest) {
    struct tree *record = NULL;
    return read_record(content, arena, name, digest, &record) < 0 ? NULL : tree_text_or(tree_find(record, "repoDigest"), NULL);
}

const char *pulled_repository(struct content *content, struct arena *arena, const char *name, const struct oci_digest *digest, const char *registry) {
    const char *origin = pulled_origin(content, arena, name, digest);
    struct slice rest = slice_of(origin ? origin : ""), path = slice_cut(&rest, '@'), host = slice_cut(&path, '/');
    return slice_is(host, registry) && path.len ? arena_dup(arena, path) : NULL;
}

enum pulled_verdict pulled_check(struct content *content, const struct pulled_key *key, const char *name, const struct oci_digest *digest,
                                 const struct oci_reference *reference, const struct docker_config *const credentials[2]) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    const struct docker_credential *candidates[CANDIDATES_MAX];
    struct tree *record = NULL;
    int r = arena ? read_record(content, arena, name, digest, &record) : -ENOMEM;
    if (r < 0)
        return r == -ENOENT ? PULLED_OURS : PULLED_UNKNOWN;
    const struct tree *list = tree_find(record, "credentials");
    if (!tree_count(list))
        return PULLED_PUBLIC;
    size_t count = 0;
    for (size_t i = 0; i < 2; i++)
        if (credentials[i])
            count += docker_config_find(credentials[i], reference->registry, reference->name, candidates + count, CANDIDATES_MAX - count);
    for (size_t i = 0; i < count; i++) {
        char id[65];
        identify(key, reference->registry, candidates[i], id);
        if (has(list, id))
            return PULLED_ALLOWED;
    }
    return PULLED_UNKNOWN;
}
