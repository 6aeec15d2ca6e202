/* `tidemill image …`: what the registry holds, and base images made from this machine's own package sources. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/terminal_priv.h"

#include <stdio.h>
#include <unistd.h>

#include "registry/registry.h"

#define INCLUDES_MAX 128

static int list_tags(struct session *session, struct tree *list, const char *name, struct diag *diag) {
    struct session_answer answer;
    char *path = arena_printf(session->arena, "/v2/%s/tags/list", name);
    int r = path ? session_call(session, "GET", path, NULL, (struct slice){NULL, 0}, &answer, diag) : -ENOMEM;
    if (r < 0)
        return r;
    const struct tree *tags = tree_find(answer.tree, "tags");
    for (size_t i = 0; r == 0 && i < tree_count(tags); i++) {
        struct tree *image = tree_map(session->arena);
        tree_set_text(session->arena, image, "name", name);
        tree_set_text(session->arena, image, "tag", tree_text_or(tree_at(tags, i), ""));
        r = tree_push(session->arena, list, image);
    }
    return r;
}

static void print_images(const struct tree *list) {
    struct terminal_table table = {.columns = 2};
    terminal_table_row(&table, (const char *const[]){"NAME", "TAG"});
    for (size_t i = 0; i < tree_count(list); i++)
        terminal_table_row(&table, (const char *const[]){tree_text_or(tree_find(tree_at(list, i), "name"), ""),
                                                         tree_text_or(tree_find(tree_at(list, i), "tag"), "")});
    terminal_table_print(&table);
}

int run_image_list(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    struct session_answer catalog;
    struct tree *list = tree_list(session.arena);
    int r = session_call(&session, "GET", "/v2/_catalog?n=10000", NULL, (struct slice){NULL, 0}, &catalog, &diag);
    const struct tree *names = r == 0 ? tree_find(catalog.tree, "repositories") : NULL;
    for (size_t i = 0; r == 0 && i < tree_count(names); i++)
        r = list_tags(&session, list, tree_text_or(tree_at(names, i), ""), &diag);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    if (r == 0 && session_wants_json(invocation)) {
        json_format_pretty(&out, list);
        session_print(NULL, buffer_slice(&out));
    } else if (r == 0) {
        print_images(list);
    }
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

static void on_progress(__attribute__((unused)) void *userdata, const char *line) {
    terminal_step("%s", line);
}

/* Splits the --include lists at commas into `includes`, which ends with NULL. */
static void split_includes(const struct invocation *invocation, struct arena *arena, const char **includes) {
    size_t count = 0;
    const char *list;
    for (size_t i = 0; (list = invocation_item(invocation, "include", i)); i++)
        for (struct slice rest = slice_of(list); rest.len && count < INCLUDES_MAX;) {
            struct slice name = slice_trim(slice_cut(&rest, ','));
            if (name.len)
                includes[count++] = arena_dup(arena, name);
        }
    includes[count] = NULL;
}

int run_image_bootstrap(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    const char *includes[INCLUDES_MAX + 1];
    if (geteuid() != 0)
        return terminal_error_text("`tidemill image bootstrap` must run as root: it unpacks packages into a root file system");
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    split_includes(invocation, session.arena, includes);
    const struct bootstrap_options options = {.image = invocation->arguments[0],
                                              .includes = includes,
                                              .suite = invocation_text(invocation, "suite"),
                                              .endpoint = {.address = arena_printf(session.arena, "unix:%s/api.sock", session.run)},
                                              .refresh = invocation_bool(invocation, "force"),
                                              .on_progress = on_progress};
    struct bootstrap_result result;
    int r = registry_bootstrap(&options, &result, &diag);
    if (r == 0)
        terminal_step("%s is %s", invocation->arguments[0], result.cached ? "already there (--force builds it anew)" : "in the registry");
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

/* --- removing --- */

static void print_pruned(const struct tree *answer) {
    const struct tree *images = tree_find(answer, "images");
    int64_t blob_bytes = tree_int_or(tree_find(answer, "blobBytes"), 0), layer_bytes = tree_int_or(tree_find(answer, "layerBytes"), 0),
            cache_bytes = tree_int_or(tree_find(answer, "cacheBytes"), 0);
    const char *warning = tree_text_or(tree_find(answer, "warning"), "");
    if (*warning)
        fprintf(stderr, "warning: %s\n", warning);
    for (size_t i = 0; i < tree_count(images); i++)
        printf("removed %s\n", tree_text_or(tree_at(images, i), ""));
    printf("freed %.1f MiB: %" PRId64 " images, %" PRId64 " blobs (%.1f MiB), %" PRId64 " unpacked layers (%.1f MiB), %.1f MiB of build cache\n",
           (double)(blob_bytes + layer_bytes + cache_bytes) / (double)MIB, tree_int_or(tree_find(answer, "imagesRemoved"), 0),
           tree_int_or(tree_find(answer, "blobsRemoved"), 0), (double)blob_bytes / (double)MIB, tree_int_or(tree_find(answer, "layersRemoved"), 0),
           (double)layer_bytes / (double)MIB, (double)cache_bytes / (double)MIB);
}

int run_image_prune(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    struct session_answer answer;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = session_call(&session, "POST", "/tidemill/v1/images/prune", NULL, (struct slice){NULL, 0}, &answer, &diag);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    if (r == 0 && session_wants_json(invocation)) {
        json_format_pretty(&out, answer.tree);
        session_print(NULL, buffer_slice(&out));
    } else if (r == 0) {
        print_pruned(answer.tree);
    }
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

int run_image_rm(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    struct session_answer answer;
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(4 * KIB);
    struct slice tag = slice_of(invocation->arguments[0]);
    struct slice name = slice_cut(&tag, ':');
    if (!oci_name_is_valid(name) || !oci_tag_is_valid(tag))
        return terminal_error_text("expected NAME:TAG, as `tidemill image list` shows it");
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    buffer_append_text(&path, "/tidemill/v1/images?name=");
    percent_encode(&path, name);
    buffer_append_text(&path, "&tag=");
    percent_encode(&path, tag);
    int r = buffer_error(&path) ? buffer_error(&path) : session_call(&session, "DELETE", path.data, NULL, (struct slice){NULL, 0}, &answer, &diag);
    if (r == 0)
        printf("removed %s\n", invocation->arguments[0]);
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}
