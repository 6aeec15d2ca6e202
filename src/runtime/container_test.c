/* Real containers: needs root, crun, conmon, overlayfs. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "runtime/container_priv.h"
#include "runtime/runtime.h"
#include "sys/sys.h"
#include "unit.h"

/* Of this process: several checkouts may be tested on one machine. */
static char group[64], conmon_group[80];

struct fixture {
    struct loop *loop;
    struct cgroups cgroups;
    struct containers *containers;
    char dir[256], run[300], layer[300];
    char *seccomp;
};

struct seen {
    bool created, started, exited, deleted;
    int error;
    char message[512];
    struct container_exit exit;
    char output[8192];
    int exec_code, exec_error;
    bool exec_done;
};

static struct fixture fixture;

static void copy_file(const char *from, const char *to) {
    struct buffer bytes = BUFFER_INIT(64 * MIB);
    assert_int_equal(sys_read_file(AT_FDCWD, from, 32 * MIB, &bytes), 0);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, to, buffer_slice(&bytes), 0755), 0);
    assert_int_equal(chmod(to, 0755), 0);
    buffer_deinit(&bytes);
}

static int setup(void **state) {
    (void)state;
    struct diag diag = DIAG_INIT;
    char path[400];
    if (geteuid() != 0)
        fail_msg("these tests start containers: run them as root");
    snprintf(fixture.dir, sizeof fixture.dir, "/tmp/tmct-XXXXXX");
    assert_non_null(mkdtemp(fixture.dir));
    snprintf(fixture.run, sizeof fixture.run, "%s/run", fixture.dir);
    snprintf(fixture.layer, sizeof fixture.layer, "%s/layer", fixture.dir);
    assert_int_equal(sys_mkdirs(fixture.run, 0755), 0);
    snprintf(path, sizeof path, "%s/bin", fixture.layer);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path, sizeof path, "%s/bin/program", fixture.layer);
    copy_file(TEST_PROGRAM, path);
    snprintf(path, sizeof path, "%s/bin/evil", fixture.layer);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("#!/proc/self/exe\n"), 0755), 0);
    assert_int_equal(chmod(path, 0755), 0);
    snprintf(path, sizeof path, "%s/bin/data", fixture.layer);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("no program"), 0644), 0);
    assert_int_equal(mounts_share(fixture.run), 0);
    assert_int_equal(mounts_share(fixture.run), 0); /* idempotent */
    assert_true(mounts_is_mounted(fixture.run));
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &fixture.cgroups, &diag), 0);
    if (fixture.cgroups.is_hybrid)
        assert_int_equal(mounts_hide_unified_cgroup(), 0);
    assert_int_equal(loop_new(&fixture.loop), 0);
    snprintf(group, sizeof group, "/tidemillct-%d", (int)getpid());
    snprintf(conmon_group, sizeof conmon_group, "%s/conmon", group);
    const struct containers_options options = {.dir = fixture.run, .cgroups = &fixture.cgroups, .conmon_cgroup = conmon_group};
    if (containers_new(fixture.loop, &options, &fixture.containers, &diag) < 0)
        fail_msg("%s", diag.message);
    struct buffer seccomp = BUFFER_INIT(MIB);
    assert_int_equal(seccomp_program(BUNDLE_CAPABILITIES_DEFAULT, &seccomp), 0);
    fixture.seccomp = buffer_take(&seccomp);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    containers_free(fixture.containers);
    loop_free(fixture.loop);
    free(fixture.seccomp);
    mounts_unshare(fixture.run);
    for (int i = 0; i < 100 && cgroup_remove(&fixture.cgroups, group) < 0; i++)
        usleep(10000); /* a conmon that has reported may still be on its way out */
    sys_remove_tree(AT_FDCWD, fixture.dir);
    return 0;
}

static void on_created(void *userdata, int error, const char *message) {
    struct seen *seen = userdata;
    seen->created = true;
    seen->error = error;
    snprintf(seen->message, sizeof seen->message, "%s", message);
}
static void on_started(void *userdata, int error, const char *message) {
    struct seen *seen = userdata;
    seen->started = true;
    seen->error = error;
    snprintf(seen->message, sizeof seen->message, "%s", message);
}
static void on_exit_seen(void *userdata, const struct container_exit *exit) {
    struct seen *seen = userdata;
    seen->exited = true;
    seen->exit = *exit;
}
static void on_deleted(void *userdata, int error, const char *message) {
    struct seen *seen = userdata;
    seen->deleted = true;
    seen->error = error;
    snprintf(seen->message, sizeof seen->message, "%s", message);
}

static void turn_until(const bool *flag) {
    while (!*flag)
        assert_int_equal(loop_turn(fixture.loop, 30000), 0);
}

struct started {
    struct container *container;
    char id[CONTAINER_ID_LEN + 1], log[400], cgroup[200], upper[400], work[400];
};

static void container_options_of(struct started *started, struct seen *seen, struct container_options *ret) {
    *ret = (struct container_options){.id = started->id,
                                      .name = "test",
                                      .upper = started->upper,
                                      .work = started->work,
                                      .log_path = started->log,
                                      .cgroup_path = started->cgroup,
                                      .on_created = on_created,
                                      .on_exit = on_exit_seen,
                                      .userdata = seen};
}

static void begin_as(const struct bundle_process *process, bool open_stdin, int64_t memory, struct seen *seen, struct started *ret) {
    const char *const env[] = {"PATH=/bin", "GREETING=hello", NULL};
    const char *const lower[] = {fixture.layer};
    struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX);
    struct container_options options;
    container_new_id(ret->id);
    snprintf(ret->log, sizeof ret->log, "%s/%s.log", fixture.dir, ret->id);
    snprintf(ret->cgroup, sizeof ret->cgroup, "%s/%s", group, ret->id);
    snprintf(ret->upper, sizeof ret->upper, "%s/%s/upper", fixture.dir, ret->id);
    snprintf(ret->work, sizeof ret->work, "%s/%s/work", fixture.dir, ret->id);
    assert_int_equal(sys_mkdirs(ret->upper, 0755), 0);
    assert_int_equal(sys_mkdirs(ret->work, 0755), 0);
    struct bundle bundle = {
        .process = *process, .rootfs = "rootfs", .cgroup_path = ret->cgroup, .limits = {.memory_bytes = memory}, .seccomp_program = fixture.seccomp};
    bundle.process.env = env;
    assert_int_equal(bundle_format(&bundle, &json), 0);
    container_options_of(ret, seen, &options);
    options.config_json = buffer_slice(&json);
    options.lower = lower;
    options.lower_count = 1;
    options.open_stdin = open_stdin;
    assert_int_equal(container_create(fixture.containers, &options, &ret->container, NULL), 0);
    buffer_deinit(&json);
}

static void create_as(const struct bundle_process *process, bool open_stdin, int64_t memory, struct seen *seen, struct started *ret) {
    begin_as(process, open_stdin, memory, seen, ret);
    turn_until(&seen->created);
    if (seen->error)
        fail_msg("create: %s", seen->message);
}

static void create(const char *const *args, bool open_stdin, int64_t memory, struct seen *seen, struct started *ret) {
    const struct bundle_process process = {.args = args, .capabilities = BUNDLE_CAPABILITIES_DEFAULT, .no_new_privileges = true};
    create_as(&process, open_stdin, memory, seen, ret);
}

static void start(struct started *started, struct seen *seen) {
    struct diag diag = DIAG_INIT;
    if (container_start(started->container, on_started, &diag) < 0)
        fail_msg("start: %s", diag.message);
    turn_until(&seen->started);
    if (seen->error)
        fail_msg("start: %s", seen->message);
}

static void finish(struct started *started, struct seen *seen) {
    assert_int_equal(container_delete(started->container, on_deleted, seen), 0);
    turn_until(&seen->deleted);
    if (seen->error)
        fail_msg("delete: %s", seen->message);
}

static void run(const char *const *args, int64_t memory, struct seen *seen, struct buffer *log) {
    struct started started;
    create(args, false, memory, seen, &started);
    start(&started, seen);
    turn_until(&seen->exited);
    assert_int_equal(sys_read_file(AT_FDCWD, started.log, MIB, log), 0);
    finish(&started, seen);
}

UNIT_TEST(runs_and_tells_the_exit_code) {
    struct seen seen = {0};
    struct buffer log = BUFFER_INIT(MIB + 1);
    run((const char *const[]){"/bin/program", "exit", "3", NULL}, 0, &seen, &log);
    assert_true(seen.exit.is_known);
    assert_int_equal(seen.exit.code, 3);
    assert_false(seen.exit.oom_killed);
    buffer_deinit(&log);
}

UNIT_TEST(writes_the_log_in_cri_format) {
    struct seen seen = {0};
    struct buffer log = BUFFER_INIT(MIB + 1);
    run((const char *const[]){"/bin/program", "env", "GREETING", NULL}, 0, &seen, &log);
    assert_int_equal(seen.exit.code, 0);
    assert_non_null(strstr(log.data, " stdout F hello\n"));
    buffer_deinit(&log);
}

UNIT_TEST(cannot_reach_the_host) {
    struct seen seen = {0};
    struct buffer log = BUFFER_INIT(MIB + 1);
    run((const char *const[]){"/bin/program", "escape", NULL}, 0, &seen, &log);
    assert_non_null(strstr(log.data, "escapes 0"));
    buffer_deinit(&log);
}

/* The configuration says something else than what was made: as if crun had been led astray. */
UNIT_TEST(what_crun_made_is_looked_at_before_it_starts) {
    static const struct {
        const char *is, *should, *told;
    } lies[] = {
        {"/dev/shm", "/dev/pts", NULL},
        {"/dev/shm", "/bin", "the mount of \"/bin\" is not at its place"},
        {"\"mqueue\",\"source\"", "\"devpts\",\"source\"", "\"/dev/mqueue\" is not the devpts it should be"},
        {"/proc/acpi", "/proc/stat", "/proc/stat is not hidden"},
        {"/proc/bus", "/proc/tty", "/proc/tty is not read-only"},
        {"\"cwd\":\"/\"", "\"cwd\":\"/bin\"", "the working directory \"/bin\" is not inside the container"},
        {"\"cwd\":\"/\"", "\"cwd\":\"/proc/self/cwd\"", "the working directory \"/proc/self/cwd\" is not inside the container"},
    };
    struct seen seen = {0};
    struct started started;
    char path[4096 + 16];
    create((const char *const[]){"/bin/program", "wait", NULL}, false, 0, &seen, &started);
    containers_bundle_path(fixture.containers, started.id, path);
    strncat(path, "/config.json", 16);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct buffer config = BUFFER_INIT(BUNDLE_BYTES_MAX), lie = BUFFER_INIT(BUNDLE_BYTES_MAX);
        struct diag diag = DIAG_INIT;
        assert_int_equal(sys_read_file(AT_FDCWD, path, BUNDLE_BYTES_MAX - 1, &config), 0);
        ptrdiff_t at = slice_find(buffer_slice(&config), slice_of(lies[i].is));
        assert_true(at > 0);
        buffer_append(&lie, config.data, (size_t)at);
        buffer_append_text(&lie, lies[i].should);
        buffer_append_text(&lie, config.data + at + strlen(lies[i].is));
        assert_int_equal(rootfs_verify(container_pid(started.container), buffer_slice(&lie), &diag), lies[i].told ? -EPERM : 0);
        if (lies[i].told && !strstr(diag.message, lies[i].told))
            fail_msg("%s", diag.message);
        buffer_deinit(&config);
        buffer_deinit(&lie);
    }
    start(&started, &seen); /* the truth */
    assert_int_equal(container_kill(started.container), 0);
    turn_until(&seen.exited);
    finish(&started, &seen);
}

/* A crun that hangs, first when it creates and then when it deletes: both are given up, and one that works clears away what is left. */
UNIT_TEST(a_crun_that_hangs_is_given_up) {
    struct containers *working = fixture.containers;
    struct seen seen = {0};
    struct started started;
    struct diag diag = DIAG_INIT;
    char path[4096], *search = strdup(getenv("PATH"));
    const char *const args[] = {"/bin/program", "wait", NULL};
    const struct bundle_process process = {.args = args, .capabilities = BUNDLE_CAPABILITIES_DEFAULT, .no_new_privileges = true};
    const struct containers_options options = {.dir = fixture.run, .cgroups = &fixture.cgroups, .conmon_cgroup = conmon_group, .timeout_ms = 100};
    snprintf(path, sizeof path, "%s/crun", fixture.dir);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("#!/bin/sh\nwhile :; do sleep 0.05; done\n"), 0755), 0);
    assert_int_equal(chmod(path, 0755), 0);
    setenv("PATH", fixture.dir, 1);
    assert_int_equal(containers_new(fixture.loop, &options, &fixture.containers, &diag), 0);
    setenv("PATH", search, 1);
    free(search);
    begin_as(&process, false, 0, &seen, &started);
    turn_until(&seen.created);
    assert_int_equal(seen.error, -ETIMEDOUT);
    assert_int_equal(container_delete(started.container, on_deleted, &seen), 0);
    turn_until(&seen.deleted);
    assert_int_equal(seen.error, -ETIMEDOUT);
    containers_free(fixture.containers);
    fixture.containers = working;
    containers_bundle_path(working, started.id, path);
    assert_int_equal(access(path, F_OK), 0); /* it is found again */
    seen.deleted = false;
    assert_int_equal(container_delete_id(working, started.id, on_deleted, &seen), 0);
    turn_until(&seen.deleted);
    assert_int_equal(seen.error, 0);
    assert_int_equal(access(path, F_OK), -1);
}

UNIT_TEST(tells_an_out_of_memory_kill) {
    struct seen seen = {0};
    struct buffer log = BUFFER_INIT(MIB + 1);
    run((const char *const[]){"/bin/program", "oom", NULL}, 16 * (int64_t)MIB, &seen, &log);
    assert_int_equal(seen.exit.code, 137);
    assert_true(seen.exit.oom_killed);
    buffer_deinit(&log);
}

UNIT_TEST(a_missing_program_is_a_clear_error) {
    struct seen seen = {0};
    struct started started;
    const char *const args[] = {"/bin/nothing", NULL};
    struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX);
    (void)json;
    const char *const lower[] = {fixture.layer};
    struct container_options options;
    container_new_id(started.id);
    snprintf(started.log, sizeof started.log, "%s/%s.log", fixture.dir, started.id);
    snprintf(started.cgroup, sizeof started.cgroup, "%s/%s", group, started.id);
    snprintf(started.upper, sizeof started.upper, "%s/%s/upper", fixture.dir, started.id);
    snprintf(started.work, sizeof started.work, "%s/%s/work", fixture.dir, started.id);
    assert_int_equal(sys_mkdirs(started.upper, 0755), 0);
    assert_int_equal(sys_mkdirs(started.work, 0755), 0);
    const struct bundle bundle = {.process = {.args = args, .env = (const char *const[]){NULL}}, .rootfs = "rootfs", .cgroup_path = started.cgroup};
    assert_int_equal(bundle_format(&bundle, &json), 0);
    container_options_of(&started, &seen, &options);
    options.config_json = buffer_slice(&json);
    options.lower = lower;
    options.lower_count = 1;
    assert_int_equal(container_create(fixture.containers, &options, &started.container, NULL), 0);
    turn_until(&seen.created);
    assert_int_not_equal(seen.error, 0);
    assert_non_null(strstr(seen.message, "No such file"));
    buffer_deinit(&json);
    finish(&started, &seen);
}

UNIT_TEST(stops_on_a_signal_and_is_adopted) {
    struct seen seen = {0};
    struct started started;
    struct container_options options;
    create((const char *const[]){"/bin/program", "wait", NULL}, false, 0, &seen, &started);
    container_free(started.container); /* as if this process had died between create and start */
    container_options_of(&started, &seen, &options);
    assert_int_equal(container_adopt(fixture.containers, &options, &started.container), -ENOENT); /* it is made anew */
    assert_int_equal(container_delete_id(fixture.containers, started.id, on_deleted, &seen), 0);
    turn_until(&seen.deleted);
    assert_int_equal(seen.error, 0);
    seen = (struct seen){0};
    create((const char *const[]){"/bin/program", "wait", NULL}, false, 0, &seen, &started);
    container_options_of(&started, &seen, &options);
    start(&started, &seen);
    container_free(started.container);
    assert_int_equal(container_adopt(fixture.containers, &options, &started.container), 0);
    assert_true(container_is_started(started.container));
    char fifo[500];
    snprintf(fifo, sizeof fifo, "%s/crun/%s/exec.fifo", fixture.run, started.id);
    assert_int_equal(access(fifo, F_OK), -1);
    for (bool ready = false; !ready;) { /* it has set its handler when it says so */
        struct buffer log = BUFFER_INIT(MIB + 1);
        ready = sys_read_file(AT_FDCWD, started.log, MIB, &log) == 0 && log.data && strstr(log.data, "waiting");
        buffer_deinit(&log);
    }
    assert_int_equal(mkfifo(fifo, 0600), 0); /* as if this process had died between the start and the removal: it does not start again */
    container_free(started.container);
    assert_int_equal(container_adopt(fixture.containers, &options, &started.container), 0);
    assert_false(container_is_started(started.container));
    seen.started = false;
    start(&started, &seen);
    assert_int_equal(access(fifo, F_OK), -1);
    assert_int_equal(container_signal(started.container, SIGTERM), 0);
    turn_until(&seen.exited);
    assert_int_equal(seen.exit.code, 7);
    container_free(started.container); /* the exit code is still there for a third process */
    seen.exited = false;
    assert_int_equal(container_adopt(fixture.containers, &options, &started.container), 0);
    turn_until(&seen.exited);
    assert_int_equal(seen.exit.code, 7);
    finish(&started, &seen);
    assert_int_equal(container_adopt(fixture.containers, &options, &started.container), -ENOENT);
}

static void on_output(void *userdata, int stream, struct slice data) {
    struct seen *seen = userdata;
    size_t len = strlen(seen->output);
    snprintf(seen->output + len, sizeof seen->output - len, "%d:%.*s", stream, SLICE_ARG(data));
}
static void on_exec_exit(void *userdata, int code, int error, const char *message) {
    struct seen *seen = userdata;
    snprintf(seen->message, sizeof seen->message, "%s", message);
    seen->exec_error = error;
    seen->exec_code = code;
    seen->exec_done = true;
}

static struct exec *exec(const struct started *started, const char *const *args, bool terminal, bool input, struct seen *seen) {
    const struct exec_options options = {.container_id = started->id, .args = args, .terminal = terminal, .open_stdin = input};
    const struct exec_callbacks callbacks = {.on_output = on_output, .on_exit = on_exec_exit, .userdata = seen};
    struct exec *session = NULL;
    seen->output[0] = 0;
    seen->exec_done = false;
    assert_int_equal(exec_start(fixture.containers, &options, &callbacks, &session), 0);
    return session;
}

UNIT_TEST(executes_commands_inside) {
    struct seen seen = {0};
    struct started started;
    create((const char *const[]){"/bin/program", "wait", NULL}, false, 0, &seen, &started);
    start(&started, &seen);
    struct exec *session = exec(&started, (const char *const[]){"/bin/program", "env", "GREETING", NULL}, false, false, &seen);
    turn_until(&seen.exec_done);
    exec_free(session);
    assert_string_equal(seen.output, "1:hello\n");
    session = exec(&started, (const char *const[]){"/bin/program", "exit", "9", NULL}, false, false, &seen);
    turn_until(&seen.exec_done);
    exec_free(session);
    assert_int_equal(seen.exec_code, 9);
    session = exec(&started, (const char *const[]){"/bin/program", "cat", NULL}, false, true, &seen);
    assert_int_equal(exec_write(session, SLICE("through")), 0);
    exec_close_input(session);
    turn_until(&seen.exec_done);
    exec_free(session);
    assert_string_equal(seen.output, "1:through");
    session = exec(&started, (const char *const[]){"/bin/program", "tty", NULL}, true, true, &seen);
    exec_resize(session, 100, 40);
    turn_until(&seen.exec_done);
    exec_free(session);
    assert_string_equal(seen.output, "1:tty 1\r\n");
    finish(&started, &seen);
}

static void execute(const struct started *started, const char *const *args, struct seen *seen) {
    struct exec *session = exec(started, args, false, false, seen);
    turn_until(&seen->exec_done);
    exec_free(session);
}

/* User, groups, capabilities, limits, filter, folder: as the container's own process, whatever that is. */
UNIT_TEST(a_command_has_what_its_container_has) {
    static const gid_t groups[] = {7, 9};
    static const struct bundle_rlimit rlimits[] = {{"RLIMIT_NOFILE", 321, 400}};
    const char *const args[] = {"/bin/program", "status", NULL}, *const wait[] = {"/bin/program", "wait", NULL};
    const struct bundle_process processes[] = {
        {.capabilities = BUNDLE_CAPABILITIES_DEFAULT, .no_new_privileges = true, .cwd = "/dev"},
        {.uid = 1000, .gid = 1001, .groups = groups, .groups_count = 2, .capabilities = BUNDLE_CAPABILITIES_DEFAULT, .cwd = "/bin"},
        {.gid = 3, .groups = groups, .groups_count = 1, .rlimits = rlimits, .rlimits_count = 1, .has_oom_score_adj = true, .oom_score_adj = 77},
    };
    for (size_t i = 0; i < ARRAY_LEN(processes); i++) {
        struct seen own = {0}, seen = {0};
        struct started started;
        struct bundle_process process = processes[i];
        process.args = args;
        create_as(&process, false, 0, &own, &started);
        start(&started, &own);
        turn_until(&own.exited);
        struct buffer log = BUFFER_INIT(MIB + 1), expected = BUFFER_INIT(MIB + 1);
        assert_int_equal(sys_read_file(AT_FDCWD, started.log, MIB, &log), 0);
        for (struct slice rest = buffer_slice(&log); rest.len;) {
            struct crilog_line line;
            if (crilog_parse(slice_cut(&rest, '\n'), &line) == 0)
                buffer_printf(&expected, "%.*s\n", SLICE_ARG(line.text));
        }
        finish(&started, &own);
        process.args = wait;
        create_as(&process, false, 0, &seen, &started);
        start(&started, &seen);
        execute(&started, args, &seen);
        assert_int_equal(seen.exec_code, 0);
        assert_non_null(strstr(seen.output, "CapBnd:"));
        assert_string_equal(seen.output + 2, expected.data); /* behind "1:" */
        finish(&started, &seen);
        buffer_deinit(&log);
        buffer_deinit(&expected);
    }
}

static void rewrite_config(const struct started *started, const char *from, const char *to) {
    struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX), changed = BUFFER_INIT(BUNDLE_BYTES_MAX);
    char path[PATH_MAX + 16];
    containers_bundle_path(fixture.containers, started->id, path);
    strncat(path, "/config.json", 16);
    assert_int_equal(sys_read_file(AT_FDCWD, path, BUNDLE_BYTES_MAX - 1, &json), 0);
    const char *at = strstr(json.data, from);
    assert_non_null(at);
    buffer_printf(&changed, "%.*s%s%s", (int)(at - json.data), json.data, to, at + strlen(from));
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, buffer_slice(&changed), 0600), 0);
    buffer_deinit(&json);
    buffer_deinit(&changed);
}

UNIT_TEST(a_command_that_cannot_run_says_why) {
#define START "OCI runtime exec failed: exec failed: unable to start container process: "
    static const struct {
        const char *program;
        int code;
        const char *message;
    } cases[] = {
        {"nothing", 127, START "exec: \"nothing\": executable file not found in $PATH: unknown"},
        {"/nothing", 127, START "exec: \"/nothing\": stat /nothing: no such file or directory: unknown"},
        {"/bin/data", 126, START "exec: \"/bin/data\": permission denied: unknown"},
        {"/bin", 126, START "exec: \"/bin\": is a directory: unknown"},
        {"data", 127, START "exec: \"data\": executable file not found in $PATH: unknown"},
        {"", 127, START "exec: \"\": executable file not found in $PATH: unknown"},
    };
    struct seen seen = {0};
    struct started started;
    create((const char *const[]){"/bin/program", "wait", NULL}, false, 0, &seen, &started);
    start(&started, &seen);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        execute(&started, (const char *const[]){cases[i].program, NULL}, &seen);
        assert_string_equal(seen.message, cases[i].message);
        assert_int_equal(seen.exec_code, cases[i].code);
        assert_true(seen.exec_error < 0);
    }
    execute(&started, (const char *const[]){"evil", NULL}, &seen); /* our own program, which is all that it can execute: it refuses */
    assert_int_equal(seen.exec_code, 126);
    assert_string_equal(seen.output, "");
    rewrite_config(&started, "\"cwd\":\"/\"", "\"cwd\":\"/gone\"");
    execute(&started, (const char *const[]){"program", NULL}, &seen);
    assert_string_equal(seen.message, START "chdir to cwd (\"/gone\") set in config.json failed: no such file or directory: unknown");
    rewrite_config(&started, "/gone", "/proc/self/fd/4"); /* nothing of the host is open to be gone to */
    execute(&started, (const char *const[]){"program", NULL}, &seen);
    assert_string_equal(seen.message, START "chdir to cwd (\"/proc/self/fd/4\") set in config.json failed: no such file or directory: unknown");
    finish(&started, &seen);
    struct exec *session = NULL;
    const struct exec_options options = {.container_id = started.id, .args = (const char *const[]){"program", NULL}};
    assert_int_equal(exec_start(fixture.containers, &options, &(struct exec_callbacks){.userdata = NULL}, &session), -ESRCH);
#undef START
}

static void count_process(void *userdata, pid_t pid) {
    (void)pid;
    ++*(int *)userdata;
}
static int processes_of(const struct started *started) {
    int count = 0;
    cgroup_processes(&fixture.cgroups, started->cgroup, count_process, &count);
    return count;
}

static int count_births(const char *output) {
    int count = 0;
    for (const char *at = output; (at = strstr(at, "born")) != NULL; at++)
        count++;
    return count;
}

UNIT_TEST(who_leaves_takes_the_whole_command_along) {
    struct seen seen = {0};
    struct started started;
    create((const char *const[]){"/bin/program", "wait", NULL}, false, 0, &seen, &started);
    start(&started, &seen);
    struct exec *session = exec(&started, (const char *const[]){"/bin/program", "family", NULL}, false, false, &seen);
    while (count_births(seen.output) < 4 || processes_of(&started) > 5) /* the one that brought them in may still be on its way out */
        assert_int_equal(loop_turn(fixture.loop, 20), 0);
    assert_int_equal(processes_of(&started), 5);
    exec_free(session);
    exec_free(exec(&started, (const char *const[]){"/bin/program", "family", NULL}, false, false, &seen)); /* before it runs */
    exec_free(exec(&started, (const char *const[]){"/bin/program", "family", NULL}, true, true, &seen));
    while (processes_of(&started) > 1)
        assert_int_equal(loop_turn(fixture.loop, 20), 0);
    finish(&started, &seen);
    exec_free(NULL);
}

UNIT_TEST(attaches_to_a_container) {
    struct seen seen = {0};
    struct started started;
    struct exec *session = NULL;
    const struct exec_callbacks callbacks = {.on_output = on_output, .on_exit = on_exec_exit, .userdata = &seen};
    create((const char *const[]){"/bin/program", "cat", NULL}, true, 0, &seen, &started);
    start(&started, &seen);
    assert_int_equal(exec_attach(fixture.containers, started.id, &callbacks, &session), 0);
    assert_int_equal(exec_write(session, SLICE("attached\n")), 0);
    while (!strstr(seen.output, "attached"))
        assert_int_equal(loop_turn(fixture.loop, 30000), 0);
    exec_free(session);
    finish(&started, &seen);
}

UNIT_TEST(only_so_many_are_created_at_a_time) {
    const char *const args[] = {"/bin/program", "wait", NULL};
    const struct bundle_process process = {.args = args, .cwd = "/"};
    struct seen seen[3] = {0};
    struct started started[3];
    unsigned usual = fixture.containers->launches_max;
    fixture.containers->launches_max = 1;
    for (size_t i = 0; i < ARRAY_LEN(started); i++)
        begin_as(&process, false, 0, &seen[i], &started[i]);
    assert_int_equal(fixture.containers->launching, 1);
    container_free(TAKE(started[1].container)); /* one that waits may be given up */
    turn_until(&seen[0].created);
    assert_false(seen[2].created);
    turn_until(&seen[2].created);
    assert_int_equal(seen[2].error, 0);
    assert_false(seen[1].created);
    fixture.containers->launches_max = usual;
    finish(&started[0], &seen[0]);
    finish(&started[2], &seen[2]);
    assert_int_equal(fixture.containers->launching, 0);
    assert_int_equal(container_delete_id(fixture.containers, started[1].id, on_deleted, &seen[1]), 0);
    turn_until(&seen[1].deleted);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(runs_and_tells_the_exit_code),
                                       UNIT(writes_the_log_in_cri_format),
                                       UNIT(cannot_reach_the_host),
                                       UNIT(what_crun_made_is_looked_at_before_it_starts),
                                       UNIT(tells_an_out_of_memory_kill),
                                       UNIT(a_missing_program_is_a_clear_error),
                                       UNIT(a_crun_that_hangs_is_given_up),
                                       UNIT(stops_on_a_signal_and_is_adopted),
                                       UNIT(executes_commands_inside),
                                       UNIT(a_command_has_what_its_container_has),
                                       UNIT(a_command_that_cannot_run_says_why),
                                       UNIT(who_leaves_takes_the_whole_command_along),
                                       UNIT(attaches_to_a_container),
                                       UNIT(only_so_many_are_created_at_a_time)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
