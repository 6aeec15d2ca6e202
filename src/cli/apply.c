/* `tidemill apply`: every document of every file is read and checked for shape first; then each is sent as a server-side apply, in order. Nothing is
 * sent when one file cannot be read. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/terminal_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/sys.h"

#define MANIFEST_BYTES_MAX (8 * MIB)

struct document {
    const char *file;
    struct tree *tree;
    const struct kube_kind *kind;
    const char *namespace, *name;
};

struct manifests {
    struct session *session;
    const char *namespace; /* for documents that name none */
    VECTOR(struct document) documents;
};

static int check_document(struct manifests *manifests, const char *file, struct tree *tree, struct diag *diag) {
    diag_at(diag, file, (int)tree->line, (int)tree->column);
    if (tree->type != TREE_MAP)
        return diag_set(diag, -EINVAL, "expected an object with apiVersion and kind, found %s", tree_type_name(tree));
    const char *version = tree_text_or(tree_find(tree, "apiVersion"), NULL), *kind_name = tree_text_or(tree_find(tree, "kind"), NULL);
    const char *name = tree_text_or(tree_path(tree, "metadata.name"), NULL);
    if (!version || !kind_name || !name)
        return diag_set(diag, -EINVAL, "%s is missing", !version ? "apiVersion" : !kind_name ? "kind" : "metadata.name");
    struct slice rest = slice_of(version), group = slice_cut(&rest, '/');
    if (!rest.data) {
        rest = group;
        group = SLICE("");
    }
    const struct kube_kind *kind = kube_kind_find(group, rest, slice_of(kind_name));
    if (!kind) {
        diag_set(diag, -EINVAL, "no kind \"%s\" in version \"%s\"", kind_name, version);
        return diag_hint(diag, -EINVAL, "`kubectl api-resources` lists the kinds there are");
    }
    const char *namespace = kind->namespaced ? tree_text_or(tree_path(tree, "metadata.namespace"), manifests->namespace) : NULL;
    const struct document document = {file, tree, kind, namespace, name};
    diag->file[0] = '\0';
    diag->line = diag->column = 0;
    return VECTOR_PUSH(&manifests->documents, document);
}

static int read_manifest(struct manifests *manifests, const char *path, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MANIFEST_BYTES_MAX);
    char chunk[65536];
    bool is_stdin = strcmp(path, "-") == 0;
    ssize_t count = 0;
    int r = is_stdin ? 0 : sys_read_file(AT_FDCWD, path, MANIFEST_BYTES_MAX, &text);
    while (is_stdin && (count = read(STDIN_FILENO, chunk, sizeof chunk)) > 0)
        buffer_append(&text, chunk, (size_t)count);
    if (r == 0)
        r = buffer_error(&text);
    if (r < 0)
        return diag_set(diag, r, "cannot read %s: %s", path, strerror(-r));
    struct arena *arena = manifests->session->arena;
    struct tree **documents;
    size_t documents_count;
    const char *file = arena_strdup(arena, is_stdin ? "standard input" : path);
    diag_at(diag, file, 0, 0);
    r = yaml_parse(arena, buffer_slice(&text), &documents, &documents_count, diag);
    for (size_t i = 0; r == 0 && i < documents_count; i++) {
        struct tree *items = strcmp(tree_text_or(tree_find(documents[i], "kind"), ""), "List") == 0 ? tree_find(documents[i], "items") : NULL;
        for (size_t k = 0; r == 0 && k < tree_count(items); k++)
            r = check_document(manifests, file, tree_at(items, k), diag);
        if (!items)
            r = check_document(manifests, file, documents[i], diag);
    }
    return r;
}

static int is_manifest(const struct dirent *entry) {
    struct slice name = slice_of(entry->d_name);
    return slice_ends(name, SLICE(".yaml")) || slice_ends(name, SLICE(".yml")) || slice_ends(name, SLICE(".json"));
}

static int read_path(struct manifests *manifests, const char *path, struct diag *diag) {
    struct stat info;
    if (strcmp(path, "-") == 0 || stat(path, &info) < 0 || !S_ISDIR(info.st_mode))
        return read_manifest(manifests, path, diag);
    struct dirent **entries;
    int count = scandir(path, &entries, is_manifest, alphasort), r = 0;
    if (count < 0)
        return diag_set(diag, -errno, "cannot read the folder %s: %s", path, strerror(errno));
    if (count == 0)
        r = diag_set(diag, -ENOENT, "the folder %s has no .yaml, .yml or .json files", path);
    for (int i = 0; i < count; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (r == 0)
            r = read_manifest(manifests, file, diag);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int send_document(struct manifests *manifests, const struct document *document, struct diag *diag) {
    struct session *session = manifests->session;
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(MANIFEST_BYTES_MAX);
    char *path = client_path(session->arena, document->kind, document->namespace, document->name, NULL);
    char *target = path ? arena_printf(session->arena, "%s?fieldManager=tidemill&force=true&fieldValidation=Strict", path) : NULL;
    if (!target || json_format(&body, document->tree) < 0)
        return diag_set(diag, -ENOMEM, "%s %s is too large", document->kind->kind, document->name);
    struct session_answer before, after;
    const char *old = "";
    if (session_call(session, "GET", path, NULL, (struct slice){NULL, 0}, &before, NULL) == 0)
        old = tree_text_or(tree_path(before.tree, "metadata.resourceVersion"), "");
    int r = session_call(session, "PATCH", target, "application/apply-patch+yaml", buffer_slice(&body), &after, diag);
    if (r < 0) {
        diag_at(diag, document->file, (int)document->tree->line, -1);
        return r;
    }
    const char *now = tree_text_or(tree_path(after.tree, "metadata.resourceVersion"), "");
    const char *group = document->kind->group;
    printf("%s%s%s/%s %s\n", document->kind->singular, group[0] ? "." : "", group, document->name,
           !old[0]                 ? "created"
           : strcmp(old, now) == 0 ? "unchanged"
                                   : "configured");
    return 0;
}

int run_apply(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    if (!invocation_given(invocation, "filename"))
        return terminal_error_text("name the manifests with -f FILE or -f FOLDER");
    int r = session_open(invocation, &session, &diag);
    if (r < 0)
        return terminal_error(&diag);
    struct manifests manifests = {.session = &session, .namespace = invocation_text(invocation, "namespace")};
    const char *path;
    for (size_t i = 0; r == 0 && (path = invocation_item(invocation, "filename", i)); i++)
        r = read_path(&manifests, path, &diag);
    for (size_t i = 0; r == 0 && i < manifests.documents.count; i++)
        r = send_document(&manifests, &manifests.documents.items[i], &diag);
    VECTOR_DEINIT(&manifests.documents);
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}
