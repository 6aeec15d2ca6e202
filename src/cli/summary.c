#include "cli/summary_priv.h"

#include <stdio.h>

#include "cli/terminal_priv.h"
#include "sys/sys.h"

static bool is_ready(const struct tree *pod) {
    const struct tree *conditions = tree_path(pod, "status.conditions");
    for (size_t i = 0; i < tree_count(conditions); i++)
        if (strcmp(tree_text_or(tree_find(tree_at(conditions, i), "type"), ""), "Ready") == 0)
            return strcmp(tree_text_or(tree_find(tree_at(conditions, i), "status"), ""), "True") == 0;
    return false;
}

/* Pods that ended well (of Jobs) are not counted: they have done their work. */
static int count_pods(struct session *session, const struct tree *pods, struct tree *app) {
    int64_t all = 0, ready = 0;
    const char *namespace = tree_text_or(tree_find(app, "namespace"), "");
    for (size_t i = 0; i < tree_count(pods); i++) {
        const struct tree *pod = tree_at(pods, i);
        if (strcmp(tree_text_or(tree_path(pod, "metadata.namespace"), ""), namespace) != 0 ||
            strcmp(tree_text_or(tree_path(pod, "status.phase"), ""), "Succeeded") == 0)
            continue;
        all++;
        ready += is_ready(pod);
    }
    int r = tree_set(session->arena, app, SLICE("pods"), tree_int(session->arena, all));
    return r < 0 ? r : tree_set(session->arena, app, SLICE("podsReady"), tree_int(session->arena, ready));
}

int summary_add_pods(struct session *session, struct tree *app, struct diag *diag) {
    struct session_answer pods;
    char *path = arena_printf(session->arena, "/api/v1/namespaces/%s/pods", tree_text_or(tree_find(app, "namespace"), ""));
    int r = path ? session_call(session, "GET", path, NULL, (struct slice){NULL, 0}, &pods, diag) : -ENOMEM;
    return r < 0 ? r : count_pods(session, tree_find(pods.tree, "items"), app);
}

int summary_read(struct session *session, struct tree **ret, struct diag *diag) {
    struct session_answer apps, pods;
    int r = session_call(session, "GET", "/tidemill/v1/apps", NULL, (struct slice){NULL, 0}, &apps, diag);
    if (r == 0)
        r = session_call(session, "GET", "/api/v1/pods", NULL, (struct slice){NULL, 0}, &pods, diag);
    if (r < 0)
        return r;
    *ret = tree_find(apps.tree, "items");
    for (size_t i = 0; r == 0 && i < tree_count(*ret); i++)
        r = count_pods(session, tree_find(pods.tree, "items"), tree_at(*ret, i));
    return r < 0 ? diag_set(diag, r, "the answer is too large") : 0;
}

void summary_age(const struct tree *node, const char *key, char ret[TIMESTAMP_BYTES]) {
    int64_t ns;
    ret[0] = '\0';
    if (timestamp_parse(slice_of(tree_text_or(tree_find(node, key), "")), &ns) == 0)
        duration_format_age(MAX(sys_wall_ns() - ns, INT64_C(0)), ret);
}

void summary_format_pods(const struct tree *app, char ret[32]) {
    snprintf(ret, 32, "%" PRId64 "/%" PRId64, tree_int_or(tree_find(app, "podsReady"), 0), tree_int_or(tree_find(app, "pods"), 0));
}

void summary_format_pipeline(const struct tree *app, char ret[96]) {
    const struct tree *last = tree_find(app, "lastPipeline");
    char age[TIMESTAMP_BYTES];
    summary_age(last, "created", age);
    if (last)
        snprintf(ret, 96, "#%" PRId64 " %s, %s ago", tree_int_or(tree_find(last, "id"), 0), tree_text_or(tree_find(last, "status"), ""), age);
    else
        snprintf(ret, 96, "none yet");
}

void summary_print(const struct tree *apps) {
    struct terminal_table table = {.columns = 4};
    terminal_table_row(&table, (const char *const[]){"NAME", "URL", "PODS", "LAST PIPELINE"});
    for (size_t i = 0; i < tree_count(apps); i++) {
        const struct tree *app = tree_at(apps, i);
        char pods[32], pipeline[96];
        summary_format_pods(app, pods);
        summary_format_pipeline(app, pipeline);
        terminal_table_row(&table,
                           (const char *const[]){tree_text_or(tree_find(app, "name"), ""), tree_text_or(tree_find(app, "url"), ""), pods, pipeline});
    }
    terminal_table_print(&table);
}
