/* Repositories: tags, and which manifests and blobs each repository knows.
 *
 * 1. Everything here is small files; each is written whole (temporary file, fsync, rename, fsync of the folder), so a crash leaves the old or the
 * new.
 * 2. The tag is written last: whoever can see a tag can see the manifest, its link and its blobs.
 * 3. A repository is a folder that holds one of our underscored folders or tags; "a/b" lies inside "a" and the two do not disturb each other, since
 * no name component starts with '_' or is "tags".
 * 4. A link grants reading through that repository; having the bytes elsewhere does not. A private one grants it to none but ourselves, and never
 * takes the place of one that does.
 * 5. A manifest without a record of its origin is our own (pulled.h): the record is written before the link and goes after it. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/content_priv.h"
#include "sys/sys.h"

#define TAGS_MAX 100000
#define REPOSITORIES_MAX 10000
#define REFERRERS_MAX 1000
#define REPOSITORY_DEPTH_MAX 16
#define LINK_TEXT_MAX (64 * KIB)

/* --- links --- */

static struct content_path link_path(const char *name, enum content_link kind, const struct oci_digest *digest) {
    return content_path("repositories/%s/%s/%s", name, kind == CONTENT_LINK_MANIFEST ? "_manifests" : "_blobs", digest->hex);
}

int content_link(struct content *content, const char *name, enum content_link kind, const struct oci_digest *digest, struct slice text) {
    struct content_path path = link_path(name, kind, digest);
    /* A link without text is only remembered: losing it in a power cut costs the client one more upload, so it need not be synced. */
    int r = content_make_parents(content, path.text);
    if (r < 0)
        return r;
    return text.len ? sys_write_file(content->root_fd, path.text, text, 0644) : sys_write_file_fast(content->root_fd, path.text, text, 0644);
}

int content_find_link(struct content *content, const char *name, enum content_link kind, const struct oci_digest *digest, struct buffer *out) {
    struct content_path path = link_path(name, kind, digest);
    struct stat status;
    if (!out)
        return fstatat(content->root_fd, path.text, &status, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    return sys_read_file(content->root_fd, path.text, LINK_TEXT_MAX, out);
}

#define PRIVATE_TEXT_MAX (OCI_NAME_MAX + 16)

int content_link_private(struct content *content, const char *name, const struct oci_digest *digest, const char *registry) {
    struct content_path path = link_path(name, CONTENT_LINK_BLOB, digest);
    char random[25], text[PRIVATE_TEXT_MAX];
    snprintf(text, sizeof text, "private %s\n", registry);
    sys_random_name(random, sizeof random - 1);
    struct content_path made = content_path("uploads/%s", random);
    int r = content_make_parents(content, path.text);
    r = r ? r : sys_write_file(content->root_fd, made.text, slice_of(text), 0644);
    if (r < 0)
        return r;
    r = linkat(content->root_fd, made.text, content->root_fd, path.text, 0) < 0 ? -errno : 0;
    unlinkat(content->root_fd, made.text, 0);
    if (r == -EEXIST) /* young again, as one that is written anew */
        r = utimensat(content->root_fd, path.text, NULL, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    return r;
}

bool content_is_shown(struct content *content, const char *name, const struct oci_digest *digest) {
    struct stat status;
    return fstatat(content->root_fd, link_path(name, CONTENT_LINK_BLOB, digest).text, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_size == 0;
}

int content_unlink(struct content *content, const char *name, enum content_link kind, const struct oci_digest *digest) {
    struct content_path path = link_path(name, kind, digest);
    return unlinkat(content->root_fd, path.text, 0) < 0 ? -errno : 0;
}

int content_find_repository(struct content *content, const char *name) {
    static const char *const marks[] = {"tags", "_manifests", "_blobs"};
    struct stat status;
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        struct content_path path = content_path("repositories/%s/%s", name, marks[i]);
        if (fstatat(content->root_fd, path.text, &status, AT_SYMLINK_NOFOLLOW) == 0)
            return 0;
        if (errno != ENOENT && errno != ENOTDIR)
            return -errno;
    }
    return -ENOENT;
}

/* --- tags --- */

static struct content_path tag_path(const char *name, const char *tag) {
    return content_path("repositories/%s/tags/%s", name, tag);
}

int content_set_tag(struct content *content, const char *name, const char *tag, const struct oci_digest *digest) {
    char text[OCI_DIGEST_TEXT + 1];
    snprintf(text, sizeof text, "sha256:%s\n", digest->hex);
    return content_write_file(content, tag_path(name, tag).text, slice_of(text));
}

int content_get_tag(struct content *content, const char *name, const char *tag, struct oci_digest *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(256);
    int r = sys_read_file(content->root_fd, tag_path(name, tag).text, 128, &text);
    if (r < 0)
        return r == -ENOTDIR ? -ENOENT : r;
    return oci_digest_parse(slice_trim(buffer_slice(&text)), ret) < 0 ? -EBADMSG : 0;
}

int content_get_tag_time(struct content *content, const char *name, const char *tag, int64_t *ret_ns) {
    struct stat status;
    if (fstatat(content->root_fd, tag_path(name, tag).text, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOTDIR ? -ENOENT : -errno;
    *ret_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
    return 0;
}

int content_delete_tag(struct content *content, const char *name, const char *tag) {
    return unlinkat(content->root_fd, tag_path(name, tag).text, 0) < 0 ? -errno : 0;
}

/* Names collected in an arena. */
struct names {
    struct arena *arena;
    VECTOR(char *) list;
    size_t count_max;
    bool (*is_valid)(struct slice name);
};

static int add_name(void *userdata, const char *name) {
    struct names *names = userdata;
    if (names->is_valid && !names->is_valid(slice_of(name)))
        return 0;
    if (names->list.count == names->count_max)
        return -EMSGSIZE;
    char *copy = arena_strdup(names->arena, name);
    return copy ? VECTOR_PUSH(&names->list, copy) : -ENOMEM;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Moves the sorted list into the arena. */
static int finish_names(struct names *names, int error, char ***ret, size_t *ret_count) {
    char **items = error < 0 ? NULL : ARENA_ARRAY(names->arena, char *, names->list.count + 1);
    if (items && names->list.count) {
        qsort(names->list.items, names->list.count, sizeof *items, compare_names);
        memcpy(items, names->list.items, names->list.count * sizeof *items);
    }
    if (items) {
        *ret = items;
        *ret_count = names->list.count;
    }
    VECTOR_DEINIT(&names->list);
    return error < 0 ? error : items ? 0 : -ENOMEM;
}

int content_list_tags(struct content *content, struct arena *arena, const char *name, char ***ret, size_t *ret_count) {
    int r = content_find_repository(content, name);
    if (r < 0)
        return r;
    struct names names = {.arena = arena, .count_max = TAGS_MAX, .is_valid = oci_tag_is_valid};
    r = content_each_name(content, content_path("repositories/%s/tags", name).text, add_name, &names);
    return finish_names(&names, r, ret, ret_count);
}

/* --- all repositories --- */

struct walk {
    struct content *content;
    struct names names;
    struct content_path prefix; /* "a/b" or empty */
    int depth;
};

static int visit_folder(void *userdata, const char *component) {
    struct walk *walk = userdata;
    struct content_path outer = walk->prefix;
    if (walk->depth == REPOSITORY_DEPTH_MAX || strlen(outer.text) + strlen(component) + 1 > OCI_NAME_MAX)
        return 0;
    struct content_path name = content_path("%s%s%s", outer.text, outer.text[0] ? "/" : "", component);
    if (!oci_name_is_valid(slice_of(name.text)))
        return 0;
    int r = content_find_repository(walk->content, name.text);
    if (r == 0)
        r = add_name(&walk->names, name.text);
    if (r < 0 && r != -ENOENT)
        return r;
    walk->prefix = name;
    walk->depth++;
    r = content_each_name(walk->content, content_path("repositories/%s", name.text).text, visit_folder, walk);
    walk->depth--;
    walk->prefix = outer;
    return r;
}

int content_list_repositories(struct content *content, struct arena *arena, char ***ret, size_t *ret_count) {
    struct walk walk = {.content = content, .names = {.arena = arena, .count_max = REPOSITORIES_MAX}};
    int r = content_each_name(content, "repositories", visit_folder, &walk);
    return finish_names(&walk.names, r, ret, ret_count);
}

typedef bool content_test_fn(struct content *content, const char *name, const struct oci_digest *digest, const char *registry);

static bool is_so_anywhere(struct content *content, const struct oci_digest *digest, const char *registry, content_test_fn *test) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    char **names = NULL;
    size_t count = 0;
    bool is = false;
    if (!arena || content_list_repositories(content, arena, &names, &count) < 0)
        return false;
    for (size_t i = 0; i < count && !is; i++)
        is = test(content, names[i], digest, registry);
    return is;
}

static bool is_shown(struct content *content, const char *name, const struct oci_digest *digest, __attribute__((unused)) const char *registry) {
    return content_is_shown(content, name, digest);
}

bool content_is_shown_anywhere(struct content *content, const struct oci_digest *digest) {
    return is_so_anywhere(content, digest, NULL, is_shown);
}

/* An earlier version's link does not say from where. */
static bool is_from(struct content *content, const char *name, const struct oci_digest *digest, const char *registry) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(PRIVATE_TEXT_MAX);
    int r = sys_read_file(content->root_fd, link_path(name, CONTENT_LINK_BLOB, digest).text, PRIVATE_TEXT_MAX - 1, &text);
    struct slice from = slice_trim(buffer_slice(&text)), word = slice_cut(&from, ' ');
    return r == 0 && slice_is(word, "private") && from.data && slice_is(from, registry);
}

bool content_came_from(struct content *content, const struct oci_digest *digest, const char *registry) {
    return is_so_anywhere(content, digest, registry, is_from);
}

/* --- manifests and referrers --- */

static struct content_path referrer_path(const char *name, const struct oci_digest *subject, const struct oci_digest *digest) {
    return content_path("repositories/%s/_referrers/%s/%s", name, subject->hex, digest->hex);
}

/* The descriptor that a referrers listing shows, made once, when the manifest comes in. */
static int write_referrer(struct content *content, const char *name, size_t size_bytes, const struct oci_manifest *manifest,
                          const struct oci_digest *digest) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX);
    char digest_text[OCI_DIGEST_TEXT];
    struct tree *node = arena ? tree_map(arena) : NULL;
    if (!node)
        return -ENOMEM;
    int r = tree_set_text(arena, node, "mediaType", manifest->media_type);
    r = r ? r : tree_set_text(arena, node, "digest", oci_digest_format(digest, digest_text));
    r = r ? r : tree_set(arena, node, SLICE("size"), tree_int(arena, (int64_t)size_bytes));
    if (r == 0 && *manifest->artifact_type)
        r = tree_set_text(arena, node, "artifactType", manifest->artifact_type);
    if (r == 0 && manifest->annotations)
        r = tree_set(arena, node, SLICE("annotations"), tree_copy(arena, manifest->annotations));
    r = r ? r : json_format(&text, node);
    return r ? r : content_write_file(content, referrer_path(name, &manifest->subject.digest, digest).text, buffer_slice(&text));
}

int content_put_manifest(struct content *content, const char *name, const char *tag, struct slice bytes, const struct oci_manifest *manifest,
                         struct oci_digest *ret) {
    struct oci_digest digest;
    int r = content_write_blob(content, bytes, &digest);
    if (r == 0 && manifest->has_subject)
        r = write_referrer(content, name, bytes.len, manifest, &digest);
    if (r == 0)
        r = content_link(content, name, CONTENT_LINK_MANIFEST, &digest, slice_of(manifest->media_type));
    if (r == 0 && *tag)
        r = content_set_tag(content, name, tag, &digest);
    if (r == 0)
        *ret = digest;
    return r;
}

/* A manifest's own document tells under which subject it was listed. */
static void delete_referrer(struct content *content, const char *name, const struct oci_digest *digest) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX);
    struct oci_manifest manifest;
    if (!arena || content_read_blob(content, digest, OCI_MANIFEST_BYTES_MAX, &text) < 0)
        return;
    if (oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL) == 0 && manifest.has_subject)
        unlinkat(content->root_fd, referrer_path(name, &manifest.subject.digest, digest).text, 0);
}

int content_delete_manifest(struct content *content, const char *name, const struct oci_digest *digest) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    char **tags = NULL;
    size_t count = 0;
    int r = content_find_link(content, name, CONTENT_LINK_MANIFEST, digest, NULL);
    if (r < 0 || !arena)
        return r < 0 ? r : -ENOMEM;
    r = content_list_tags(content, arena, name, &tags, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct oci_digest target;
        if (content_get_tag(content, name, tags[i], &target) == 0 && oci_digest_equal(&target, digest))
            r = content_delete_tag(content, name, tags[i]);
    }
    if (r < 0)
        return r;
    delete_referrer(content, name, digest);
    r = content_unlink(content, name, CONTENT_LINK_MANIFEST, digest);
    if (r == 0)
        unlinkat(content->root_fd, content_path("repositories/%s/_pulled/%s", name, digest->hex).text, 0);
    return r;
}

struct referrers {
    struct content *content;
    struct arena *arena;
    struct tree *list;
    const char *folder;
};

static int add_referrer(void *userdata, const char *file) {
    struct referrers *referrers = userdata;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX);
    struct tree *node = NULL;
    if (strlen(file) != 64 || tree_count(referrers->list) == REFERRERS_MAX)
        return 0;
    if (sys_read_file(referrers->content->root_fd, content_path("%s/%s", referrers->folder, file).text, OCI_MANIFEST_BYTES_MAX, &text) < 0)
        return 0; /* deleted meanwhile */
    if (json_parse(referrers->arena, buffer_slice(&text), NULL, &node, NULL) < 0)
        return 0;
    return tree_push(referrers->arena, referrers->list, node);
}

int content_list_referrers(struct content *content, struct arena *arena, const char *name, const struct oci_digest *subject, struct tree **ret) {
    struct content_path folder = content_path("repositories/%s/_referrers/%s", name, subject->hex);
    struct referrers referrers = {.content = content, .arena = arena, .list = tree_list(arena), .folder = folder.text};
    int r = referrers.list ? content_each_name(content, folder.text, add_referrer, &referrers) : -ENOMEM;
    if (r == 0)
        *ret = referrers.list;
    return r;
}
