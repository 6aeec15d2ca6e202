/* `tidemill status`: is it up, what does each role use, which applications run. Facts come from the supervisor's state file, /proc and the API. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

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

static int print_json(struct session *session, const struct role_facts *roles, size_t count, struct tree *deployments) {
    struct arena *arena = session->arena;
    struct tree *root = tree_map(arena), *list = tree_list(arena);
    for (size_t i = 0; list && i < count; i++) {
        struct tree *role = tree_map(arena);
        tree_set_text(arena, role, "name", roles[i].name);
        tree_set(arena, role, SLICE("pid"), tree_int(arena, roles[i].pid));
        tree_set(arena, role, SLICE("memoryBytes"), tree_int(arena, roles[i].memory_bytes));
        tree_push(arena, list, role);
    }
    tree_set_text(arena, root, "version", TIDEMILL_VERSION);
    tree_set(arena, root, SLICE("ready"), tree_bool(arena, true));
    tree_set(arena, root, SLICE("roles"), list);
    tree_set(arena, root, SLICE("deployments"), deployments ? deployments : tree_list(arena));
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * MIB);
    if (json_format_pretty(&out, root) < 0)
        return terminal_error_text("the answer is too large");
    fwrite(out.data, 1, out.len, stdout);
    return 0;
}

int run_status(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    struct session session;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    struct role_facts roles[16];
    size_t count = read_roles(session.run, roles, ARRAY_LEN(roles));
    struct session_answer ready, deployments = {0};
    int r = session_call(&session, "GET", "/readyz", NULL, (struct slice){NULL, 0}, &ready, &diag);
    if (r == 0)
        r = session_call(&session, "GET", "/apis/apps/v1/deployments", NULL, (struct slice){NULL, 0}, &deployments, &diag);
    int result = 0;
    if (r < 0) {
        result = terminal_error(&diag);
    } else if (session_wants_json(invocation)) {
        result = print_json(&session, roles, count, tree_find(deployments.tree, "items"));
    } else {
        printf("tidemill %s, ready\n\n", TIDEMILL_VERSION);
        print_roles(roles, count);
        putchar('\n');
        print_deployments(tree_find(deployments.tree, "items"));
    }
    session_close(&session);
    return result;
}
