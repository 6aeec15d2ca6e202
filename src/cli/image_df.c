/* `tidemill image df`: what images and what comes of them take on the disk, and how much of it a cleaning would give back. The registry's part is
 * core's answer; the folders are measured here, which takes root. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/settings_priv.h"
#include "cli/terminal_priv.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "sys/sys.h"

struct part {
    const char *name;
    const char *folder; /* beneath the state; NULL: core's word */
    size_t count;
    uint64_t bytes, reclaimable;
};

static size_t count_entries(const char *path) {
    size_t count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

/* The digests of images that pods have run, as far as the store still has them: their layers are in use. */
static const char *const *images_of_pods(struct session *session, const char *store) {
    struct session_answer answer;
    static const char *const lists[] = {"status.containerStatuses", "status.initContainerStatuses", "status.ephemeralContainerStatuses"};
    VECTOR(const char *) found = {0};
    struct diag ignored = DIAG_INIT;
    if (session_call(session, "GET", "/api/v1/pods", NULL, (struct slice){NULL, 0}, &answer, &ignored) < 0)
        return NULL;
    const struct tree *items = tree_find(answer.tree, "items");
    for (size_t i = 0; i < tree_count(items) * ARRAY_LEN(lists); i++) {
        const struct tree *statuses = tree_path(tree_at(items, i / ARRAY_LEN(lists)), lists[i % ARRAY_LEN(lists)]);
        for (size_t k = 0; k < tree_count(statuses); k++) {
            const char *digest = strstr(tree_text_or(tree_find(tree_at(statuses, k), "imageID"), ""), "sha256:");
            char *path =
                digest && image_digest_is_valid(slice_of(digest)) ? arena_printf(session->arena, "%s/blobs/sha256/%s", store, digest + 7) : NULL;
            if (path && access(path, F_OK) == 0 && VECTOR_PUSH(&found, digest) < 0)
                break;
        }
    }
    const char **list = ARENA_ARRAY(session->arena, const char *, found.count + 1);
    if (list && found.count)
        memcpy(list, found.items, found.count * sizeof *list);
    VECTOR_DEINIT(&found);
    return list;
}

static void measure_layers(struct session *session, const char *state, struct part *part) {
    const char *layers = arena_printf(session->arena, "%s/%s", state, part->folder), *store = arena_printf(session->arena, "%s/registry", state);
    const struct sweep_needs needs = {.configs = store ? images_of_pods(session, store) : NULL};
    char **unused = NULL;
    size_t count = 0;
    if (!layers || !store || sweep_find(session->arena, store, layers, &needs, &unused, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", layers, unused[i]) < PATH_MAX)
            part->reclaimable += sys_tree_bytes(path);
    }
}

static int measure(struct session *session, const char *state, struct part *parts, size_t count, struct diag *diag) {
    struct session_answer answer;
    int r = session_call(session, "GET", "/tidemill/v1/images/df", NULL, (struct slice){NULL, 0}, &answer, diag);
    if (r < 0)
        return r;
    parts[0].count = (size_t)tree_int_or(tree_find(answer.tree, "blobs"), 0);
    parts[0].bytes = (uint64_t)tree_int_or(tree_find(answer.tree, "bytes"), 0);
    parts[0].reclaimable = (uint64_t)tree_int_or(tree_find(answer.tree, "reclaimableBytes"), 0);
    for (size_t i = 1; i < count; i++) {
        const char *path = arena_printf(session->arena, "%s/%s", state, parts[i].folder);
        if (!path)
            return -ENOMEM;
        parts[i].count = count_entries(path);
        parts[i].bytes = sys_tree_bytes(path);
    }
    measure_layers(session, state, &parts[1]);
    parts[2].reclaimable = parts[2].bytes; /* it is but a cache */
    return 0;
}

static void print_text(const struct part *parts, size_t count) {
    struct terminal_table table = {.columns = 4};
    terminal_table_row(&table, (const char *const[]){"WHAT", "COUNT", "SIZE", "RECLAIMABLE"});
    for (size_t i = 0; i < count; i++) {
        char number[24], size[24], reclaimable[24];
        snprintf(number, sizeof number, "%zu", parts[i].count);
        terminal_table_row(&table, (const char *const[]){parts[i].name, number, terminal_size(parts[i].bytes, size),
                                                         terminal_size(parts[i].reclaimable, reclaimable)});
    }
    terminal_table_print(&table);
}

static void print_json(struct arena *arena, const struct part *parts, size_t count) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    struct tree *list = tree_list(arena);
    for (size_t i = 0; i < count; i++) {
        struct tree *item = tree_map(arena);
        tree_set_text(arena, item, "what", parts[i].name);
        tree_set(arena, item, SLICE("count"), tree_int(arena, (int64_t)parts[i].count));
        tree_set(arena, item, SLICE("bytes"), tree_int(arena, (int64_t)parts[i].bytes));
        tree_set(arena, item, SLICE("reclaimableBytes"), tree_int(arena, (int64_t)parts[i].reclaimable));
        tree_push(arena, list, item);
    }
    json_format_pretty(&out, list);
    session_print(NULL, buffer_slice(&out));
}

int run_image_df(const struct invocation *invocation) {
    struct part parts[] = {{.name = "blobs"},
                           {.name = "layers", .folder = "node/layers"},
                           {.name = "build cache", .folder = "forge/cache"},
                           {.name = "volumes", .folder = "volumes"},
                           {.name = "logs", .folder = "node/logs"}};
    struct diag diag = DIAG_INIT;
    struct settings settings;
    struct session session;
    size_t count = geteuid() == 0 ? ARRAY_LEN(parts) : 1;
    if (settings_read_running(invocation, &settings, &diag) < 0 || session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = measure(&session, settings.state, parts, count, &diag);
    if (r == 0 && session_wants_json(invocation))
        print_json(session.arena, parts, count);
    else if (r == 0)
        print_text(parts, count);
    if (r == 0 && count == 1)
        fprintf(stderr, "layers, caches and volumes are measured as root\n");
    session_close(&session);
    settings_deinit(&settings);
    return r < 0 ? terminal_error(&diag) : 0;
}
