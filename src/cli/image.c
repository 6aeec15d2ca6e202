/* `tidemill image …`: what the registry holds, and base images made from this machine's own package sources. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/terminal_priv.h"

#include <stdio.h>
#include <unistd.h>

#include "registry/registry.h"
#include "sys/sys.h"

#define INCLUDES_MAX 128

/* "3 days", as long ago as it was; "" when it cannot be read. */
static const char *format_age(struct arena *arena, const char *time) {
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{365 * 86400, "year"}, {30 * 86400, "month"}, {86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int64_t then_ns, age_s;
    if (timestamp_parse(slice_of(time), &then_ns) < 0 || (age_s = (sys_wall_ns() - then_ns) / 1000000000) < 0)
        return "";
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        int64_t count = age_s / units[i].seconds;
        if (count)
            return arena_printf(arena, "%" PRId64 " %s%s ago", count, units[i].name, count == 1 ? "" : "s");
    }
    return "just now";
}

static void print_images(struct arena *arena, const struct tree *list) {
    struct terminal_table table = {.columns = 6};
    terminal_table_row(&table, (const char *const[]){"NAME", "TAG", "DIGEST", "SIZE", "CREATED", "USED BY"});
    for (size_t i = 0; i < tree_count(list); i++) {
        const struct tree *image = tree_at(list, i);
        char size[24];
        terminal_size((uint64_t)tree_int_or(tree_find(image, "sizeBytes"), 0), size);
        terminal_table_row(&table, (const char *const[]){tree_text_or(tree_find(image, "name"), ""), tree_text_or(tree_find(image, "tag"), ""),
                                                         arena_printf(arena, "%.19s", tree_text_or(tree_find(image, "digest"), "")), size,
                                                         format_age(arena, tree_text_or(tree_find(image, "createdAt"), "")),
                                                         tree_text_or(tree_find(image, "usedBy"), "")});
    }
    terminal_table_print(&table);
}

int run_image_list(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    struct session_answer answer;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = session_call(&session, "GET", "/tidemill/v1/images", NULL, (struct slice){NULL, 0}, &answer, &diag);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    if (r == 0 && session_wants_json(invocation)) {
        json_format_pretty(&out, answer.tree);
        session_print(NULL, buffer_slice(&out));
    } else if (r == 0) {
        print_images(session.arena, answer.tree);
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
