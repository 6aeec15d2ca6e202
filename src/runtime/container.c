/* The life of one container.
 *
 *   create ─► conmon forks, runs `crun create`, reports the pid through the sync pipe ─► CREATED ─► `crun start` ─► RUNNING ─► conmon writes the exit
 * code and ends ─► EXITED
 *
 * Invariants
 *  1. conmon's end is the container's end: it writes <bundle>/<id> first. It is watched by pidfd, so neither polling nor a missed event is possible,
 * and a node that comes back looks at the file. When conmon dies without having written it (kill -9), the container is killed and its exit is
 * "unknown": nobody would read its output any more.
 *  2. A pid from a file counts only when /proc says that it is that process: conmon's command line holds the id, the container's parent is that
 * conmon.
 *  3. A start is noted in the bundle ("started") before it happens, and crun's exec.fifo goes after it. So a container without the note never ran and
 * may be made anew; one with both is let go (again, which does no harm); a crash in between neither loses nor repeats a start.
 *  4. conmon is born in its cgroup, or put there before it forks (start pipe), so that it is outside the pod's limits and the node's own group.
 *
 *  5. Two conmons a processor are creating at a time, the others wait in the order of their calls: with fifty at once the first are ready early, none
 * is ready later, and a small machine has memory for it.
 *
 * A start is `crun start` without crun: one byte into the FIFO that the container's first process waits at. Written before the FIFO is removed, so
 * that a crash in between is seen afterwards as what it is: nobody reads there any more. */
#include "runtime/container.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "codec/codec.h"
#include "runtime/bundle.h"
#include "runtime/container_priv.h"
#include "runtime/enter.h"
#include "runtime/mounts.h"
#include "runtime/rootfs.h"
#include "sys/sys.h"

#define COMMAND_TIMEOUT_MS 60000
#define CREATE_TIMEOUT_MS 120000
#define SYNC_BYTES_MAX (16 * KIB)
#define LAUNCHES_MIN 4

enum container_state { CONTAINER_CREATING, CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_FAILED };

struct container {
    struct list node;    /* containers->live */
    struct list waiting; /* containers->waiting */
    struct containers *containers;
    char id[CONTAINER_ID_LEN + 1];
    char *bundle, *log_path, *cgroup_path, *name;
    bool terminal, open_stdin, stdin_once, is_launching;
    enum container_state state;
    pid_t pid, conmon_pid;
    int pid_fd;
    container_done_fn *on_created, *on_started;
    container_exit_fn *on_exit;
    void *userdata;
    /* while creating */
    int sync_fd;
    struct loop_io *sync_io;
    struct buffer sync;
    struct loop_child *launcher, *conmon;
    struct loop_timer timeout;
    struct loop_defer report; /* an exit found at once: told in a later step */
    struct loop_defer started;
    int start_error;
};

/* --- the engine --- */

static void on_launch_next(void *userdata);

int containers_new(struct loop *loop, const struct containers_options *options, struct containers **ret, struct diag *diag) {
    CLEANUP(containers_freep) struct containers *containers = calloc(1, sizeof *containers);
    char path[PATH_MAX];
    if (!containers)
        return -ENOMEM;
    containers->loop = loop;
    list_init(&containers->live);
    list_init(&containers->entering);
    list_init(&containers->waiting);
    loop_defer_init(&containers->launch_next, loop, on_launch_next, containers);
    containers->launches_max = (unsigned)MAX(2 * sysconf(_SC_NPROCESSORS_ONLN), LAUNCHES_MIN);
    containers->enter_fd = -1;
    containers->cgroups = options->cgroups;
    containers->timeout_ms = options->timeout_ms;
    containers->dir = strdup(options->dir);
    containers->conmon_cgroup = options->conmon_cgroup ? strdup(options->conmon_cgroup) : NULL;
    if (!containers->dir || (options->conmon_cgroup && !containers->conmon_cgroup))
        return -ENOMEM;
    int r = program_find(&containers->crun, "crun", diag);
    if (r == 0)
        r = program_find(&containers->conmon, "conmon", diag);
    if (r < 0)
        return r;
    snprintf(containers->crun_root, PATH_MAX, "%s/crun", options->dir);
    snprintf(path, PATH_MAX, "%s/containers", options->dir);
    r = sys_mkdirs(path, 0700);
    if (r == 0)
        r = sys_mkdirs(containers->crun_root, 0700);
    if (r == 0)
        r = containers->enter_fd = enter_load();
    if (r >= 0 && containers->conmon_cgroup)
        r = cgroup_create(containers->cgroups, containers->conmon_cgroup, NULL);
    if (r < 0)
        return diag_set(diag, r, "cannot prepare %s: %s", options->dir, strerror(-r));
    if (containers->conmon_cgroup && cgroup_door_open(containers->cgroups, containers->conmon_cgroup, &containers->door) < 0)
        containers->door = (struct cgroup_door){0}; /* then each conmon is attached */
    *ret = TAKE(containers);
    return 0;
}

void containers_free(struct containers *containers) {
    if (!containers)
        return;
    enter_forget(containers);
    fd_closep(&containers->enter_fd);
    free(containers->dir);
    free(containers->conmon_cgroup);
    loop_defer_cancel(&containers->launch_next);
    cgroup_door_close(&containers->door);
    program_deinit(&containers->crun);
    free(containers);
}

void containers_bundle_path(const struct containers *containers, const char *id, char ret[4096]) {
    snprintf(ret, PATH_MAX, "%s/containers/%s", containers->dir, id);
}

static int list_folder(const char *folder, const char *unless_in, void (*fn)(void *userdata, const char *id), void *userdata) {
    DIR *dir = opendir(folder);
    if (!dir)
        return -errno;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[PATH_MAX];
        bool elsewhere = unless_in && snprintf(path, sizeof path, "%s/%s", unless_in, entry->d_name) > 0 && access(path, F_OK) == 0;
        if (entry->d_name[0] != '.' && !elsewhere)
            fn(userdata, entry->d_name);
    }
    closedir(dir);
    return 0;
}

int containers_list(const struct containers *containers, void (*fn)(void *userdata, const char *id), void *userdata) {
    char bundles[PATH_MAX];
    snprintf(bundles, PATH_MAX, "%s/containers", containers->dir);
    int r = list_folder(bundles, NULL, fn, userdata);
    return r < 0 ? r : list_folder(containers->crun_root, bundles, fn, userdata);
}

void container_new_id(char ret[CONTAINER_ID_LEN + 1]) {
    unsigned char bytes[CONTAINER_ID_LEN / 2];
    sys_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

/* --- the handle --- */

static void stop_creating(struct container *container) {
    if (container->is_launching) {
        container->is_launching = false;
        container->containers->launching--;
        loop_defer_schedule(&container->containers->launch_next);
    }
    loop_io_free(container->sync_io);
    container->sync_io = NULL;
    if (container->sync_fd >= 0)
        close(container->sync_fd);
    container->sync_fd = -1;
    loop_timer_cancel(&container->timeout);
}

void container_free(struct container *container) {
    if (!container)
        return;
    list_remove(&container->node);
    list_remove(&container->waiting);
    stop_creating(container);
    loop_child_free(container->launcher);
    loop_child_free(container->conmon);
    loop_defer_cancel(&container->started);
    loop_defer_cancel(&container->report);
    if (container->pid_fd >= 0)
        close(container->pid_fd);
    buffer_deinit(&container->sync);
    free(container->bundle);
    free(container->log_path);
    free(container->cgroup_path);
    free(container->name);
    free(container);
}
DEFINE_CLEANUP(struct container, container_free)

static void on_create_timeout(void *userdata);
static void on_report(void *userdata);
static void on_started(void *userdata);

static struct container *container_new(struct containers *containers, const struct container_options *options) {
    CLEANUP(container_freep) struct container *container = calloc(1, sizeof *container);
    char path[PATH_MAX];
    if (!container)
        return NULL;
    container->containers = containers;
    list_push(&containers->live, &container->node);
    list_init(&container->waiting);
    container->pid_fd = container->sync_fd = -1;
    container->sync = BUFFER_INIT(SYNC_BYTES_MAX);
    loop_timer_init(&container->timeout, containers->loop, on_create_timeout, container);
    loop_defer_init(&container->report, containers->loop, on_report, container);
    loop_defer_init(&container->started, containers->loop, on_started, container);
    snprintf(container->id, sizeof container->id, "%s", options->id);
    containers_bundle_path(containers, options->id, path);
    container->bundle = strdup(path);
    container->log_path = strdup(options->log_path);
    container->cgroup_path = strdup(options->cgroup_path);
    container->name = strdup(options->name);
    container->terminal = options->terminal;
    container->open_stdin = options->open_stdin;
    container->stdin_once = options->stdin_once;
    container->on_created = options->on_created;
    container->on_exit = options->on_exit;
    container->userdata = options->userdata;
    return container->bundle && container->log_path && container->cgroup_path && container->name ? TAKE(container) : NULL;
}

static int64_t file_time_ns(const struct container *container, const char *name) {
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", container->bundle, name);
    return stat(path, &st) < 0 ? sys_wall_ns() : (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

int64_t container_started_ns(const struct container *container) {
    return file_time_ns(container, "started");
}

pid_t container_pid(const struct container *container) {
    return container->pid;
}
const char *container_id(const struct container *container) {
    return container->id;
}
int container_pid_fd(const struct container *container) {
    return container->pid_fd;
}
const char *container_cgroup(const struct container *container) {
    return container->cgroup_path;
}
const struct container *container_find(const struct containers *containers, const char *id) {
    LIST_FOREACH(it, &containers->live) {
        const struct container *container = CONTAINER_OF(it, struct container, node);
        if (strcmp(container->id, id) == 0)
            return container;
    }
    return NULL;
}
bool container_is_started(const struct container *container) {
    return container->state == CONTAINER_RUNNING || container->state == CONTAINER_EXITED;
}
/* --- the end --- */

static int read_small(const struct container *container, const char *name, struct buffer *out) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", container->bundle, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return sys_read_file(AT_FDCWD, path, 4 * KIB - 1, out);
}

static bool read_exit(const struct container *container, struct container_exit *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
    int64_t code;
    *ret = (struct container_exit){.code = 137, .finished_ns = sys_wall_ns()};
    if (read_small(container, container->id, &text) < 0 || slice_parse_i64(slice_trim(buffer_slice(&text)), &code) < 0)
        return false;
    *ret = (struct container_exit){.is_known = true, .code = (int)code, .finished_ns = file_time_ns(container, container->id)};
    return true;
}

static bool was_oom_killed(const struct container *container) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
    return cgroup_oom_kills(container->containers->cgroups, container->cgroup_path) > 0 || read_small(container, "oom", &text) == 0;
}

static void on_report(void *userdata) {
    struct container *container = userdata;
    struct container_exit exit;
    container->state = CONTAINER_EXITED;
    if (!read_exit(container, &exit))
        container_kill(container);
    exit.oom_killed = was_oom_killed(container);
    if (container->on_exit)
        container->on_exit(container->userdata, &exit); /* may free the container */
}

static void on_conmon_exit(void *userdata, __attribute__((unused)) pid_t pid, __attribute__((unused)) int status) {
    struct container *container = userdata;
    loop_child_free(container->conmon);
    container->conmon = NULL;
    loop_defer_schedule(&container->report);
}

/* --- creating --- */

static void creation_failed(struct container *container, int error, const char *message) {
    stop_creating(container);
    rootfs_take_null_back();
    container->state = CONTAINER_FAILED;
    if (container->on_created)
        container->on_created(container->userdata, error, message);
}

static int read_pid(const struct container *container, const char *name, pid_t *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
    uint64_t pid;
    int r = read_small(container, name, &text);
    if (r == 0)
        r = slice_parse_u64(slice_trim(buffer_slice(&text)), INT32_MAX, &pid);
    if (r == 0)
        *ret = (pid_t)pid;
    return r;
}

/* When it is the container's id: the process is its conmon, or a crun at work on it. */
static bool command_line_has(pid_t pid, const char *text) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(64 * KIB);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    return sys_read_file(AT_FDCWD, path, 64 * KIB - 1, &bytes) == 0 && slice_find(buffer_slice(&bytes), slice_of(text)) >= 0;
}

/* Opens pidfds and watches; -ESRCH when conmon is gone. */
static int watch(struct container *container) {
    int r = read_pid(container, "conmon.pid", &container->conmon_pid);
    if (r < 0)
        return r;
    if (!command_line_has(container->conmon_pid, container->id))
        return -ESRCH;
    r = loop_child_new(container->containers->loop, container->conmon_pid, on_conmon_exit, container, &container->conmon);
    if (r < 0)
        return r;
    if (read_pid(container, "pid", &container->pid) == 0)
        container->pid_fd = (int)syscall(SYS_pidfd_open, container->pid, 0); /* conmon is its parent and lives: the pid is still its */
    return 0;
}

static void created(struct container *container) {
    stop_creating(container);
    int r = watch(container);
    if (r == -ESRCH || r == -ENOENT) { /* ended between create and now: cannot be, it was not started */
        creation_failed(container, -EPIPE, "conmon died right after creating the container");
        return;
    }
    if (r < 0) {
        creation_failed(container, r, strerror(-r));
        return;
    }
    container->state = CONTAINER_CREATED;
    if (container->on_created)
        container->on_created(container->userdata, 0, "");
}

/* conmon's word: {"data": pid} or {"data": -1, "message": why}. */
static void on_sync_message(struct container *container, struct slice line) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(256 * KIB);
    struct tree *root = NULL;
    if (!arena || json_parse(arena, line, &(struct json_options){.allow_duplicates = true}, &root, NULL) < 0) {
        creation_failed(container, -EPROTO, "conmon sent something that is no JSON");
        return;
    }
    if (tree_int_or(tree_find(root, "data"), -1) > 0)
        created(container);
    else
        creation_failed(container, -EIO, tree_text_or(tree_find(root, "message"), "crun could not create the container"));
}

static void on_sync(void *userdata, __attribute__((unused)) uint32_t events) {
    struct container *container = userdata;
    char bytes[2048];
    ssize_t n = read(container->sync_fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        buffer_append(&container->sync, bytes, (size_t)n);
    ptrdiff_t end = slice_index(buffer_slice(&container->sync), '\n');
    if (end >= 0)
        on_sync_message(container, slice_head(buffer_slice(&container->sync), (size_t)end));
    else if (n <= 0 || buffer_error(&container->sync))
        creation_failed(container, -EPIPE, "conmon ended without creating the container");
}

static void on_create_timeout(void *userdata) {
    creation_failed(userdata, -ETIMEDOUT, "context deadline exceeded: crun did not create the container in time");
}

static void on_launcher_exit(void *userdata, __attribute__((unused)) pid_t pid, __attribute__((unused)) int status) {
    struct container *container = userdata;
    loop_child_free(container->launcher);
    container->launcher = NULL;
}

struct launch {
    const char *argv[48];
    size_t count;
    char pid_file[PATH_MAX], conmon_pid_file[PATH_MAX], log[PATH_MAX + 16], root[PATH_MAX + 16];
    char sync_env[32], start_env[32];
};

static void add(struct launch *launch, const char *argument) {
    ASSERT(launch->count + 1 < ARRAY_LEN(launch->argv));
    launch->argv[launch->count++] = argument;
    launch->argv[launch->count] = NULL;
}

static void fill_launch(const struct container *container, struct launch *launch) {
    snprintf(launch->pid_file, PATH_MAX, "%s/pid", container->bundle);
    snprintf(launch->conmon_pid_file, PATH_MAX, "%s/conmon.pid", container->bundle);
    snprintf(launch->log, sizeof launch->log, "k8s-file:%s", container->log_path);
    snprintf(launch->root, sizeof launch->root, "--root=%s", container->containers->crun_root);
    const char *const fixed[] = {container->containers->conmon.path,
                                 "--api-version",
                                 "1",
                                 "-c",
                                 container->id,
                                 "-u",
                                 container->id,
                                 "-n",
                                 container->name,
                                 "-r",
                                 program_sealed(&container->containers->crun),
                                 "-b",
                                 container->bundle,
                                 "-p",
                                 launch->pid_file,
                                 "-P",
                                 launch->conmon_pid_file,
                                 "-l",
                                 launch->log,
                                 "--exit-dir",
                                 container->bundle,
                                 "--persist-dir",
                                 container->bundle,
                                 "--full-attach",
                                 "--log-level",
                                 "error",
                                 "--no-sync-log",
                                 "--runtime-arg",
                                 "--cgroup-manager=cgroupfs",
                                 "--runtime-arg",
                                 launch->root};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        add(launch, fixed[i]);
    if (container->terminal)
        add(launch, "-t");
    else if (container->open_stdin)
        add(launch, "-i");
    if (container->open_stdin && !container->stdin_once)
        add(launch, "--leave-stdin-open");
}

/* In the conmons' group; ret_inside false: it has to be attached. */
static int spawn_inside(struct containers *containers, struct loop_spawn_options *spawn, pid_t *ret_pid, bool *ret_inside) {
    bool entered = cgroup_door_enter(&containers->door);
    int r = loop_spawn(spawn, ret_pid);
    *ret_inside = entered || spawn->cgroup_fd > 0;
    if (r < 0 && spawn->cgroup_fd > 0) { /* an old kernel, or another processor */
        *ret_inside = false;
        spawn->cgroup_fd = 0;
        r = loop_spawn(spawn, ret_pid);
    }
    if (entered)
        cgroup_door_leave(&containers->door);
    return r;
}

static int launch_conmon(struct container *container) {
    struct containers *containers = container->containers;
    int sync[2], start[2];
    pid_t pid;
    if (pipe2(sync, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(start, O_CLOEXEC) < 0)
        return close(sync[0]), close(sync[1]), -errno;
    struct launch launch = {.count = 0};
    fill_launch(container, &launch);
    snprintf(launch.sync_env, sizeof launch.sync_env, "_OCI_SYNCPIPE=%d", sync[1]);
    snprintf(launch.start_env, sizeof launch.start_env, "_OCI_STARTPIPE=%d", start[0]);
    const char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", launch.sync_env, launch.start_env, NULL};
    const int pass[] = {sync[1], start[0], -1};
    struct loop_spawn_options spawn = {.argv = launch.argv,
                                       .envp = env,
                                       .cwd = "/",
                                       .stdin_fd = -1,
                                       .stdout_fd = -1,
                                       .stderr_fd = -1,
                                       .pass_fds = pass,
                                       .cgroup_fd = containers->door.folder,
                                       .new_session = true};
    bool inside = false;
    int r = spawn_inside(containers, &spawn, &pid, &inside);
    close(sync[1]);
    close(start[0]);
    if (r == 0) {
        if (containers->conmon_cgroup && !inside)
            cgroup_attach(containers->cgroups, containers->conmon_cgroup, pid); /* a conmon in the wrong group is no reason to run nothing */
        if (write(start[1], "\n", 1) < 0 && errno != EPIPE)                     /* a conmon that is dead already: the sync pipe tells */
            r = -errno;
        int watched = loop_child_new(containers->loop, pid, on_launcher_exit, container, &container->launcher);
        r = r < 0 ? r : watched;
    }
    close(start[1]);
    container->sync_fd = sync[0];
    if (r == 0)
        r = sys_set_nonblocking(container->sync_fd, true);
    if (r == 0)
        r = loop_io_new(containers->loop, container->sync_fd, EPOLLIN, on_sync, container, &container->sync_io);
    return r < 0 ? r : loop_timer_set(&container->timeout, containers->timeout_ms ? 2 * containers->timeout_ms : CREATE_TIMEOUT_MS);
}

/* The container's root, who is nobody here, passes through the folders that lead to its root file system, and owns its writable layer. */
static int let_in(const struct container *container, const struct container_options *options) {
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/containers", container->containers->dir);
    if (chmod(path, 0711) < 0 || chmod(container->containers->crun_root, 0711) < 0)
        return -errno;
    if (chown(container->bundle, 0, options->id_base) < 0 || chmod(container->bundle, 0710) < 0)
        return -errno;
    return chown(options->upper, options->id_base, options->id_base) < 0 ? -errno : 0;
}

static int mount_root(const struct container *container, const struct container_options *options, const char *path, struct diag *diag) {
    CLEANUP(fd_closep) int user = options->user_namespace ? open(options->user_namespace, O_RDONLY | O_CLOEXEC) : -1;
    if (options->user_namespace && user < 0)
        return -errno;
    int r = options->user_namespace ? let_in(container, options) : 0;
    if (r == 0)
        r = mounts_overlay(options->lower, options->lower_count, options->upper, options->work, path, user);
    return r == -EOPNOTSUPP ? diag_set(diag, r, "this kernel, or the file system of the images, cannot map users (hostUsers: false)") : r;
}

static int launch(struct container *container) {
    container->is_launching = true;
    container->containers->launching++;
    return launch_conmon(container);
}

static void on_launch_next(void *userdata) {
    struct containers *containers = userdata;
    for (struct list *node; containers->launching < containers->launches_max && (node = list_pop(&containers->waiting));) {
        struct container *container = CONTAINER_OF(node, struct container, waiting);
        int r = launch(container);
        if (r < 0)
            creation_failed(container, r, strerror(-r));
    }
}

static int launch_or_wait(struct container *container) {
    struct containers *containers = container->containers;
    if (containers->launching < containers->launches_max)
        return launch(container);
    list_push(&containers->waiting, &container->waiting);
    return 0;
}

static int prepare_bundle(const struct container *container, const struct container_options *options, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer config = BUFFER_INIT(BUNDLE_BYTES_MAX);
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/rootfs", container->bundle);
    int r = sys_mkdirs(path, 0700);
    if (r == 0)
        r = mount_root(container, options, path, diag);
    if (r == 0)
        r = rootfs_prepare(path, options->config_json, &config, diag);
    snprintf(path, PATH_MAX, "%s/config.json", container->bundle);
    return r < 0 ? r : sys_write_file_fast(AT_FDCWD, path, buffer_slice(&config), 0600);
}

int container_create(struct containers *containers, const struct container_options *options, struct container **ret, struct diag *diag) {
    CLEANUP(container_freep) struct container *container = container_new(containers, options);
    if (!container)
        return -ENOMEM;
    int r = prepare_bundle(container, options, diag);
    if (r == 0)
        r = launch_or_wait(container);
    if (r < 0)
        return r;
    *ret = TAKE(container);
    return 0;
}

int container_adopt(struct containers *containers, const struct container_options *options, struct container **ret) {
    CLEANUP(container_freep) struct container *container = container_new(containers, options);
    char path[PATH_MAX];
    if (!container)
        return -ENOMEM;
    if (access(container->bundle, F_OK) < 0)
        return -ENOENT;
    snprintf(path, PATH_MAX, "%s/%s/exec.fifo", containers->crun_root, container->id);
    bool has_fifo = access(path, F_OK) == 0;
    snprintf(path, PATH_MAX, "%s/%s/status", containers->crun_root, container->id);
    bool is_known = access(path, F_OK) == 0;
    snprintf(path, PATH_MAX, "%s/started", container->bundle);
    bool was_let_go = access(path, F_OK) == 0 || (is_known && !has_fifo);
    int r = watch(container);
    bool has_conmon = r == 0;
    if (r < 0 && r != -ESRCH && r != -ENOENT)
        return r;
    if (!was_let_go) /* making it anew is cheap, and sure: its conmon may still be at it, or may have ended because nobody heard that it was done */
        return -ENOENT;
    container->state = has_conmon && has_fifo ? CONTAINER_CREATED : CONTAINER_RUNNING;
    if (!has_conmon)
        loop_defer_schedule(&container->report);
    *ret = TAKE(container);
    return 0;
}

/* --- starting --- */

static void on_started(void *userdata) {
    struct container *container = userdata;
    container->on_started(container->userdata, container->start_error, container->start_error ? strerror(-container->start_error) : "");
}

static bool is_gone(const struct container *container) {
    struct pollfd poll_fd = {.fd = container->pid_fd, .events = POLLIN};
    return container->pid_fd < 0 || poll(&poll_fd, 1, 0) == 1;
}

/* Says on disk that it is let go before it is: after a crash in between it may have run, so it must not be made anew. */
static int note_start(const struct container *container) {
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/started", container->bundle);
    int r = sys_point("write");
    CLEANUP(fd_closep) int fd = r < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return r < 0 ? r : fd < 0 ? -errno : 0;
}

static int verify(const struct container *container, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer config = BUFFER_INIT(BUNDLE_BYTES_MAX);
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/config.json", container->bundle);
    int r = sys_read_file(AT_FDCWD, path, BUNDLE_BYTES_MAX - 1, &config);
    return r < 0 ? r : rootfs_verify(container->pid, buffer_slice(&config), diag);
}

/* ENXIO: nobody waits there. It was started before a crash could remove the FIFO, unless its first process is gone. */
static int let_go(const struct container *container, struct diag *diag) {
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/%s/exec.fifo", container->containers->crun_root, container->id);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno != ENXIO || is_gone(container)))
        return errno == ENXIO ? -ESRCH : -errno;
    rootfs_take_null_back();
    int r = fd < 0 ? 0 : verify(container, diag);
    if (r == 0 && fd >= 0)
        r = note_start(container);
    if (r == 0 && fd >= 0 && write(fd, "", 1) < 0)
        r = -errno;
    if (r == 0)
        sys_point("remove");
    return r == 0 && unlink(path) < 0 ? -errno : r;
}

int container_start(struct container *container, container_done_fn *on_started_fn, struct diag *diag) {
    container->on_started = on_started_fn;
    container->start_error = let_go(container, diag);
    if (container->start_error < 0 && diag->message[0])
        return container->start_error;
    if (container->start_error == 0 && container->state == CONTAINER_CREATED)
        container->state = CONTAINER_RUNNING;
    loop_defer_schedule(&container->started);
    return 0;
}

/* --- signals and conmon's control --- */

int container_signal(const struct container *container, int signal) {
    if (container->pid_fd < 0)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, container->pid_fd, signal, NULL, 0) < 0 ? -errno : 0;
}

int container_kill(const struct container *container) {
    int r = cgroup_exists(container->containers->cgroups, container->cgroup_path)
                ? cgroup_kill(container->containers->cgroups, container->cgroup_path)
                : 0;
    int killed = container_signal(container, SIGKILL); /* the first process of a PID namespace takes the others along */
    return r < 0 && killed < 0 ? r : 0;
}

static int write_control(const struct container *container, const char *text) {
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/ctl", container->bundle);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int container_reopen_log(const struct container *container) {
    return write_control(container, "2 0 0\n");
}

int container_resize(const struct container *container, unsigned columns, unsigned rows) {
    char text[64];
    snprintf(text, sizeof text, "1 %u %u\n", rows, columns);
    return write_control(container, text);
}

/* --- deleting --- */

struct deletion {
    struct containers *containers;
    char id[CONTAINER_ID_LEN + 1];
    container_done_fn *on_deleted;
    void *userdata;
    struct loop_command *command;
};

static int run_crun(struct containers *containers, const char *const *arguments, loop_command_fn *on_done, void *userdata,
                    struct loop_command **ret) {
    const char *argv[16] = {program_sealed(&containers->crun), "--cgroup-manager=cgroupfs", "--root", containers->crun_root};
    size_t count = 4;
    while (*arguments && count + 1 < ARRAY_LEN(argv))
        argv[count++] = *arguments++;
    const struct loop_command_options options = {.spawn = {.argv = argv, .cwd = "/", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1},
                                                 .output_max = 64 * KIB,
                                                 .timeout_ms = containers->timeout_ms ? containers->timeout_ms : COMMAND_TIMEOUT_MS};
    return loop_command_run(containers->loop, &options, on_done, userdata, ret);
}

/* The root file system, the bundle, and crun's state, which a creation that was cut short leaves in a way that crun does not know it. */
static int remove_files(const struct deletion *deletion) {
    char path[PATH_MAX];
    snprintf(path, PATH_MAX, "%s/containers/%s/rootfs", deletion->containers->dir, deletion->id);
    mounts_detach_layers(path);
    int r = mounts_remove_later(deletion->containers->loop, path);
    if (r == 0) {
        containers_bundle_path(deletion->containers, deletion->id, path);
        r = sys_remove_tree(AT_FDCWD, path);
    }
    snprintf(path, PATH_MAX, "%s/%s", deletion->containers->crun_root, deletion->id);
    return r < 0 ? r : sys_remove_tree(AT_FDCWD, path);
}

/* A crun that could not be asked leaves everything for another try. One that refuses does not understand its own state any more: that goes then, the
 * processes were killed before. */
static void on_delete_done(void *userdata, int status, __attribute__((unused)) struct slice out, struct slice err) {
    struct deletion *deletion = userdata;
    char message[CONTAINER_MESSAGE_MAX];
    snprintf(message, sizeof message, "%.*s", SLICE_ARG(slice_trim(slice_head(err, sizeof message - 1))));
    if (status > 0 && strstr(message, "No such file"))
        status = 0; /* crun does not know it: never created, or deleted before a crash */
    int r = status < 0 ? 0 : remove_files(deletion);
    if (status < 0)
        snprintf(message, sizeof message, "crun delete: %s", strerror(-status));
    if (r < 0 && status == 0) {
        status = r;
        snprintf(message, sizeof message, "cannot remove what is left of %s: %s", deletion->id, strerror(-r));
    }
    if (deletion->on_deleted)
        deletion->on_deleted(deletion->userdata, status > 0 ? -EIO : status, message);
    free(deletion);
}

/* crun has not finished creating it (or never began, or has deleted it). */
static bool is_being_created(const struct containers *containers, const char *id) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/status", containers->crun_root, id);
    return access(path, F_OK) < 0;
}

/* A conmon, a crun that it runs, or what that has forked, still creating the container for a process that died: it must not finish behind our back.
 * They are looked for among all processes, since a conmon is not in its group yet while it waits for our word. */
static void kill_creators(const struct containers *containers, const char *id) {
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        uint64_t pid;
        if (slice_parse_u64(slice_of(entry->d_name), INT32_MAX, &pid) == 0 && command_line_has((pid_t)pid, id) &&
            command_line_has((pid_t)pid, containers->crun_root))
            kill((pid_t)pid, SIGKILL);
    }
    if (dir)
        closedir(dir);
}

int container_delete_id(struct containers *containers, const char *id, container_done_fn *on_deleted, void *userdata) {
    struct deletion *deletion = calloc(1, sizeof *deletion);
    const char *const arguments[] = {"delete", "--force", id, NULL};
    if (!deletion)
        return -ENOMEM;
    *deletion = (struct deletion){.containers = containers, .on_deleted = on_deleted, .userdata = userdata};
    snprintf(deletion->id, sizeof deletion->id, "%s", id);
    if (is_being_created(containers, id))
        kill_creators(containers, id);
    int r = run_crun(containers, arguments, on_delete_done, deletion, &deletion->command);
    if (r < 0)
        free(deletion);
    return r;
}

int container_delete(struct container *container, container_done_fn *on_deleted, void *userdata) {
    container_kill(container); /* one that has ended may have left processes, where the PID namespace was not its own */
    int r = container_delete_id(container->containers, container->id, on_deleted, userdata);
    if (r == 0)
        container_free(container);
    return r;
}
