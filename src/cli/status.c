/* `tidemill status`: is it up, what does each role use, which applications run. Facts come from the supervisor's state file, /proc and the API. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/settings_priv.h"
#include "cli/summary_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sys.h"

#define STATUS_TIMEOUT_MS 10000

struct role_facts {
    char name[32];
    int pid;
    int64_t memory_bytes; /* proportional set size; -1: unknown */
};

static int64_t read_pss(int pid) {
    char path[64];
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    if (sys_read_file(AT_FDCWD, path, 16 * KIB, &text) < 0)
        return -1;
    struct slice rest = buffer_slice(&text);
    while (rest.data) {
        struct slice line = slice_cut(&rest, '\n'), value = line;
        uint64_t kilobytes;
        if (!slice_is(slice_cut(&value, ':'), "Pss"))
            continue;
        value = slice_trim(value);
        if (slice_parse_u64(slice_cut(&value, ' '), INT64_MAX / 1024, &kilobytes) == 0)
            return (int64_t)kilobytes * 1024;
    }
    return -1;
}

static size_t read_roles(const char *run, struct role_facts *roles, size_t max) {
    char path[256];
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    size_t count = 0;
    uint64_t pid;
    snprintf(path, sizeof path, "%s/supervisor.pid", run);
    if (sys_read_file(AT_FDCWD, path, 64, &text) == 0 && slice_parse_u64(slice_trim(buffer_slice(&text)), INT32_MAX, &pid) == 0)
        roles[count++] = (struct role_facts){"supervisor", (int)pid, read_pss((int)pid)};
    buffer_reset(&text);
    snprintf(path, sizeof path, "%s/supervisor.state", run);
    if (sys_read_file(AT_FDCWD, path, 64 * KIB, &text) < 0)
        return count;
    struct slice rest = buffer_slice(&text);
    while (rest.data && count < max) {
        struct slice line = slice_cut(&rest, '\n');
        struct slice word = slice_cut(&line, ' '), name = slice_cut(&line, ' ');
        if (!slice_is(word, "role") || slice_parse_u64(slice_cut(&line, ' '), INT32_MAX, &pid) < 0)
            continue;
        roles[count] = (struct role_facts){.pid = (int)pid, .memory_bytes = read_pss((int)pid)};
        snprintf(roles[count++].name, sizeof roles[0].name, "%.*s", SLICE_ARG(name));
    }
    return count;
}

static void print_roles(const struct role_facts *roles, size_t count) {
    struct terminal_table table = {.columns = 3};
    terminal_table_row(&table, (const char *const[]){"ROLE", "PID", "MEMORY"});
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        char pid[16], memory[32] = "unknown";
        snprintf(pid, sizeof pid, "%d", roles[i].pid);
        if (roles[i].memory_bytes >= 0)
            snprintf(memory, sizeof memory, "%.1f MB", (double)roles[i].memory_bytes / 1e6);
        total += MAX(roles[i].memory_bytes, (int64_t)0);
        terminal_table_row(&table, (const char *const[]){roles[i].name, pid, memory});
    }
    char sum[32];
    snprintf(sum, sizeof sum, "%.1f MB", (double)total / 1e6);
    terminal_table_row(&table, (const char *const[]){"total", "", sum});
    terminal_table_print(&table);
}

static void print_deployments(const struct tree *items) {
    struct terminal_table table = {.columns = 4};
    terminal_table_row(&table, (const char *const[]){"NAMESPACE", "DEPLOYMENT", "READY", "IMAGE"});
    for (size_t i = 0; i < tree_count(items); i++) {
        const struct tree *item = tree_at(items, i);
        char ready[32];
        snprintf(ready, sizeof ready, "%d/%d", (int)tree_int_or(tree_path(item, "status.readyReplicas"), 0),
                 (int)tree_int_or(tree_path(item, "spec.replicas"), 0));
        const struct tree *container = tree_at(tree_path(item, "spec.template.spec.containers"), 0);
        terminal_table_row(&table, (const char *const[]){tree_text_or(tree_path(item, "metadata.namespace"), ""),
                                                         tree_text_or(tree_path(item, "metadata.name"), ""), ready,
                                                         tree_text_or(tree_find(container, "image"), "")});
    }
    terminal_table_print(&table);
}

/* What is told, gathered before anything is printed. */
struct facts {
    struct role_facts roles[16];
    size_t roles_count;
    bool node_ready;
    struct tree *apps, *deployments;
};

static bool has_ready_node(const struct tree *nodes) {
    for (size_t i = 0; i < tree_count(nodes); i++) {
        const struct tree *conditions = tree_path(tree_at(nodes, i), "status.conditions");
        for (size_t k = 0; k < tree_count(conditions); k++) {
            const struct tree *condition = tree_at(conditions, k);
            if (strcmp(tree_text_or(tree_find(condition, "type"), ""), "Ready") == 0 &&
                strcmp(tree_text_or(tree_find(condition, "status"), ""), "True") == 0)
                return true;
        }
    }
    return false;
}

static int read_facts(struct session *session, struct facts *ret, struct diag *diag) {
    const struct slice none = {NULL, 0};
    struct session_answer ready, nodes, deployments;
    ret->roles_count = read_roles(session->run, ret->roles, ARRAY_LEN(ret->roles));
    int r = session_call(session, "GET", "/readyz", NULL, none, &ready, diag);
    if (r == 0)
        r = session_call(session, "GET", "/api/v1/nodes", NULL, none, &nodes, diag);
    if (r == 0)
        r = session_call(session, "GET", "/apis/apps/v1/deployments", NULL, none, &deployments, diag);
    if (r == 0)
        r = summary_read(session, &ret->apps, diag);
    if (r < 0)
        return r;
    ret->node_ready = has_ready_node(tree_find(nodes.tree, "items")) && (!ret->roles_count || geteuid() != 0 || session_node_answers(session->run));
    ret->deployments = tree_find(deployments.tree, "items");
    return 0;
}

static int print_json(struct session *session, const struct facts *facts) {
    struct arena *arena = session->arena;
    struct tree *root = tree_map(arena), *list = tree_list(arena);
    for (size_t i = 0; list && i < facts->roles_count; i++) {
        struct tree *role = tree_map(arena);
        tree_set_text(arena, role, "name", facts->roles[i].name);
        tree_set(arena, role, SLICE("pid"), tree_int(arena, facts->roles[i].pid));
        tree_set(arena, role, SLICE("memoryBytes"), tree_int(arena, facts->roles[i].memory_bytes));
        tree_push(arena, list, role);
    }
    tree_set_text(arena, root, "version", TIDEMILL_VERSION);
    tree_set(arena, root, SLICE("ready"), tree_bool(arena, facts->node_ready));
    tree_set(arena, root, SLICE("roles"), list);
    tree_set(arena, root, SLICE("applications"), facts->apps ? facts->apps : tree_list(arena));
    tree_set(arena, root, SLICE("deployments"), facts->deployments ? facts->deployments : tree_list(arena));
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    if (json_format_pretty(&out, root) < 0)
        return terminal_error_text("the answer is too large");
    fwrite(out.data, 1, out.len, stdout);
    return 0;
}

static void print_text(const struct invocation *invocation, const struct facts *facts) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    bool good = facts->node_ready;
    printf("tidemill %s, %s%s%s\n\n", TIDEMILL_VERSION, terminal_color(stdout, good ? TERMINAL_GREEN : TERMINAL_RED),
           good ? "ready" : "NOT READY: the API answers, but the node runs no pods (see the platform's log)", terminal_color(stdout, TERMINAL_PLAIN));
    if (facts->roles_count && settings_read_running(invocation, &settings, &diag) == 0) { /* it runs on this machine */
        settings_print_addresses(&settings);
        settings_deinit(&settings);
    }
    if (facts->roles_count) {
        print_roles(facts->roles, facts->roles_count);
        putchar('\n');
    }
    summary_print(facts->apps);
    putchar('\n');
    print_deployments(facts->deployments);
}

int run_status(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    struct facts facts = {0};
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    session.timeout_ms = STATUS_TIMEOUT_MS;
    int r = read_facts(&session, &facts, &diag);
    if (r == -ETIMEDOUT)
        diag_hint(&diag, r, "core does not answer: the platform's log (`journalctl -u tidemill`, or %s/tidemill.log) says why", session.run);
    int result = r < 0 ? terminal_error(&diag) : facts.node_ready ? 0 : 1;
    if (r == 0 && session_wants_json(invocation))
        result = print_json(&session, &facts);
    else if (r == 0)
        print_text(invocation, &facts);
    session_close(&session);
    return result;
}
