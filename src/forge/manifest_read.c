/* Reading manifests: variables, YAML, and the checks that need no server.
 *
 * Only variables that are set are replaced: a `$` that belongs to a script in a ConfigMap stays. Unknown fields are found here, by decoding strictly,
 * so that a typing error in the last file stops the deployment before the first is applied. */
#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>

#include "forge/manifest_priv.h"

static int refuse(struct diag *diag, const char *file, const struct tree *at, const char *format, ...) __attribute__((format(printf, 4, 5)));
static int refuse(struct diag *diag, const char *file, const struct tree *at, const char *format, ...) {
    char message[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    diag_at(diag, file, at ? (int)at->line : 0, 0);
    return diag_set(diag, -EINVAL, "%s", message);
}

static int find_kind(const char *file, const struct tree *object, const struct kube_kind **ret, struct diag *diag) {
    const char *api_version = tree_text_or(tree_find(object, "apiVersion"), ""), *kind = tree_text_or(tree_find(object, "kind"), "");
    struct slice version = slice_of(api_version), group = {0};
    if (slice_index(version, '/') >= 0)
        group = slice_cut(&version, '/');
    if (!*api_version || !*kind)
        return refuse(diag, file, object, "a manifest needs apiVersion and kind");
    *ret = kube_kind_find(group, version, slice_of(kind));
    if (!*ret)
        return refuse(diag, file, object, "there is no kind \"%s\" in \"%s\"", kind, api_version);
    if (!(*ret)->namespaced)
        return refuse(diag, file, object, "a pipeline may not change a %s: it belongs to no namespace", kind);
    return 0;
}

static int check(struct arena *arena, const struct manifest_source *source, const char *file, struct tree *object, struct manifest *ret,
                 struct diag *diag) {
    if (object->type != TREE_MAP)
        return refuse(diag, file, object, "a manifest (a map) was expected, found %s", tree_type_name(object));
    *ret = (struct manifest){.file = file, .object = object};
    int error = find_kind(file, object, &ret->kind, diag);
    if (error)
        return error;
    struct tree *metadata = tree_find(object, "metadata");
    ret->name = tree_text_or(tree_find(metadata, "name"), "");
    const char *namespace = tree_text_or(tree_find(metadata, "namespace"), source->namespace);
    if (!*ret->name)
        return refuse(diag, file, object, "metadata.name is missing");
    if (!name_is_dns_subdomain(slice_of(ret->name)))
        return refuse(diag, file, object, "metadata.name: \"%s\" is no valid name", ret->name);
    if (strcmp(namespace, source->namespace) != 0)
        return refuse(diag, file, metadata, "metadata.namespace: \"%s\" is not the application's own, \"%s\"", namespace, source->namespace);
    if (tree_set_text(arena, metadata, "namespace", source->namespace))
        return -ENOMEM;
    CLEANUP(kube_object_unrefp) struct kube_object *decoded = NULL;
    error = kube_decode_tree(ret->kind, object, KUBE_STRICT, &decoded, diag);
    error = error ? error : manifest_check_policy(decoded, diag);
    if (error)
        diag_at(diag, file, (int)object->line, 0);
    return error;
}

static int append(struct arena *arena, struct manifests *manifests, const struct manifest *manifest) {
    if ((manifests->count & (manifests->count - 1)) == 0) {
        struct manifest *items = ARENA_ARRAY(arena, struct manifest, manifests->count ? 2 * manifests->count : 1);
        if (!items)
            return -ENOMEM;
        if (manifests->count)
            memcpy(items, manifests->items, manifests->count * sizeof *items);
        manifests->items = items;
    }
    manifests->items[manifests->count++] = *manifest;
    return 0;
}

/* A List stands for its items. */
static int add(struct arena *arena, const struct manifest_source *source, const char *file, struct tree *object, struct manifests *ret,
               struct diag *diag) {
    struct manifest manifest;
    const struct tree *items = tree_find(object, "items");
    int error = 0;
    if (strcmp(tree_text_or(tree_find(object, "kind"), ""), "List") == 0 && items && items->type == TREE_LIST) {
        for (size_t i = 0; !error && i < items->children->count; i++) {
            error = check(arena, source, file, items->children->items[i].value, &manifest, diag);
            error = error ? error : append(arena, ret, &manifest);
        }
        return error;
    }
    error = check(arena, source, file, object, &manifest, diag);
    return error ? error : append(arena, ret, &manifest);
}

int manifests_read_text(struct arena *arena, const struct manifest_source *source, const char *file, struct slice text, struct manifests *ret,
                        struct diag *diag) {
    static const struct pipeline_variables none = {0};
    CLEANUP(buffer_deinit) struct buffer expanded = BUFFER_INIT(2 * MANIFEST_FILE_BYTES_MAX);
    struct tree **documents = NULL;
    size_t count = 0;
    diag_at(diag, file, 0, 0);
    if (text.len > MANIFEST_FILE_BYTES_MAX || pipeline_expand(source->variables ? source->variables : &none, text, PIPELINE_UNKNOWN_KEEP, &expanded))
        return diag_set(diag, -EINVAL, "the file is too large: at most %zu bytes are allowed", MANIFEST_FILE_BYTES_MAX);
    int error = yaml_parse(arena, buffer_slice(&expanded), &documents, &count, diag);
    diag_at(diag, file, -1, -1);
    for (size_t i = 0; !error && i < count; i++)
        error = ret->count < MANIFESTS_MAX ? add(arena, source, file, documents[i], ret, diag)
                                           : refuse(diag, file, NULL, "more than %d manifests", MANIFESTS_MAX);
    return error;
}

/* --- the tar --- */

struct file {
    const char *name;
    struct slice text;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static bool is_manifest(const char *path) {
    static const char *const endings[] = {".yaml", ".yml", ".json"};
    for (size_t i = 0; path && i < ARRAY_LEN(endings); i++)
        if (slice_ends(slice_of(path), slice_of(endings[i])))
            return true;
    return false;
}

static int read_entry(struct arena *arena, struct archive *archive, struct archive_entry *entry, struct file *ret, struct diag *diag) {
    int64_t size = archive_entry_size(entry);
    ret->name = arena_strdup(arena, archive_entry_pathname(entry));
    if (size < 0 || size > (int64_t)MANIFEST_FILE_BYTES_MAX)
        return diag_set(diag, -EINVAL, "%s is too large: at most %zu bytes are allowed", archive_entry_pathname(entry), MANIFEST_FILE_BYTES_MAX);
    char *text = arena_alloc(arena, (size_t)size + 1);
    if (!text || !ret->name)
        return diag_set(diag, -ENOMEM, "the manifests are too large");
    if (archive_read_data(archive, text, (size_t)size) != size)
        return diag_set(diag, -EINVAL, "the manifests' archive is cut short");
    ret->text = slice_make(text, (size_t)size);
    return 0;
}

static int read_files(struct arena *arena, struct archive *archive, struct file *files, size_t *ret_count, struct diag *diag) {
    struct archive_entry *entry = NULL;
    int status;
    while ((status = archive_read_next_header(archive, &entry)) == ARCHIVE_OK || status == ARCHIVE_WARN) {
        if (archive_entry_filetype(entry) != AE_IFREG || !is_manifest(archive_entry_pathname(entry)))
            continue;
        if (*ret_count >= MANIFESTS_MAX)
            return diag_set(diag, -EINVAL, "more than %d files", MANIFESTS_MAX);
        int error = read_entry(arena, archive, entry, &files[*ret_count], diag);
        if (error)
            return error;
        ++*ret_count;
    }
    return status == ARCHIVE_EOF ? 0 : diag_set(diag, -EINVAL, "the manifests' archive is no tar");
}

int manifests_read_tar(struct arena *arena, const struct manifest_source *source, struct slice tar, struct manifests *ret, struct diag *diag) {
    struct file *files = ARENA_ARRAY(arena, struct file, MANIFESTS_MAX);
    struct archive *archive = files ? archive_read_new() : NULL;
    size_t count = 0;
    if (!archive)
        return diag_set(diag, -ENOMEM, "no memory");
    archive_read_support_format_tar(archive);
    int error = archive_read_open_memory(archive, tar.data, tar.len) == ARCHIVE_OK ? read_files(arena, archive, files, &count, diag)
                                                                                   : diag_set(diag, -EINVAL, "the manifests' archive is no tar");
    archive_read_free(archive);
    if (!error && count > 1)
        qsort(files, count, sizeof *files, by_name);
    for (size_t i = 0; !error && i < count; i++)
        error = manifests_read_text(arena, source, files[i].name, files[i].text, ret, diag);
    return error;
}
