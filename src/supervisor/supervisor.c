/* States of a role: down → (start) → up → (ends) → waiting for its back-off → up …; once stopping, an ended role stays down, and when all are down
 * the loop stops. Invariants:
 *   1. A listening socket, once open, stays open as long as the supervisor or its role lives.
 *   2. A role that dies is started again at once; from the fourth time in a row that it dies within HEALTHY_MS on after 100 ms, doubling to 5 s.
 * Never given up.
 *   3. The state file names every role that runs: it is written right after each start. A role that we started and died before recording is found
 * by its command line (stray.c). */
#include "supervisor/supervisor_priv.h"

#include <limits.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/sys.h"

#define BACKOFF_MS_MIN 100
#define BACKOFF_MS_MAX 5000
#define HEALTHY_MS 10000
#define QUICK_DEATHS_FREE 3 /* so many deaths before HEALTHY_MS in a row are answered at once */
#define LISTEN_BACKLOG 4096
#define DYING_NS 300000000
#define DYING_LOOK_NS 20000000
#define SUPERVISOR_OOM_SCORE "-990"

#define PROXY_BYTES_MAX 1024

static int describe_sockets(const struct supervisor *supervisor, const struct supervisor_role *role, struct buffer *out, int *pass_fds) {
    size_t count = 0;
    buffer_append_text(out, SUPERVISOR_SOCKETS "=");
    for (const char *const *name = role->socket_names; *name; name++)
        for (size_t s = 0; s < supervisor->options->sockets_count; s++) {
            if (strcmp(*name, supervisor->options->sockets[s].name) != 0)
                continue;
            buffer_printf(out, "%s%s=%d", count ? "," : "", *name, supervisor->fds[s]);
            pass_fds[count++] = supervisor->fds[s];
        }
    pass_fds[count] = -1;
    return buffer_error(out);
}

int supervisor_socket_inherited(const char *name) {
    const char *text = getenv(SUPERVISOR_SOCKETS);
    struct slice rest = slice_of(text ? text : "");
    while (rest.len) {
        struct slice value = slice_cut(&rest, ',');
        struct slice key = slice_cut(&value, '=');
        uint64_t fd;
        if (slice_is(key, name) && slice_parse_u64(value, INT_MAX, &fd) == 0) {
            fcntl((int)fd, F_SETFD, FD_CLOEXEC);
            return (int)fd;
        }
    }
    return -1;
}

bool all_down(const struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->options->roles_count; i++)
        if (supervisor->running[i].pid || supervisor->running[i].retiring)
            return false;
    return true;
}

static void on_restart(void *userdata) {
    role_start(userdata);
}

static const char *describe_status(int status, char *text, size_t size) {
    if (status == -1)
        snprintf(text, size, "ended");
    else if (WIFSIGNALED(status))
        snprintf(text, size, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
    return text;
}

static void on_exit_of_role(void *userdata, pid_t pid, int status) {
    struct running *running = userdata;
    struct supervisor *supervisor = running->supervisor;
    char text[100];
    loop_child_free(TAKE(running->child));
    running->pid = 0;
    describe_status(status, text, sizeof text);
    if (supervisor->stopping) {
        log_info("%s (pid %d) %s", running->role->name, (int)pid, text);
        if (all_down(supervisor))
            loop_stop(supervisor->loop);
        return;
    }
    if (running->outdated) {
        replace_ended(running);
        return;
    }
    int64_t lived_ms = (loop_now_ns(supervisor->loop) - running->started_ns) / 1000000;
    bool healthy = lived_ms >= HEALTHY_MS;
    running->quick_deaths = healthy ? 0 : running->quick_deaths + 1;
    if (running->quick_deaths <= QUICK_DEATHS_FREE)
        running->backoff_ms = 0;
    else
        running->backoff_ms = MIN(MAX(running->backoff_ms * 2, (int64_t)BACKOFF_MS_MIN), (int64_t)BACKOFF_MS_MAX);
    int64_t delay_ms = running->backoff_ms;
    log_warning("%s (pid %d) %s after %" PRId64 " ms, starting it again in %" PRId64 " ms", running->role->name, (int)pid, text, lived_ms, delay_ms);
    loop_timer_set(&running->restart, delay_ms);
}

static void watch(struct running *running) {
    int r = loop_child_new(running->supervisor->loop, running->pid, on_exit_of_role, running, &running->child);
    if (r == -ESRCH) { /* adopted, and gone since */
        running->pid = 0;
        running->outdated = false;
        loop_timer_set(&running->restart, 0);
    } else if (r < 0)
        log_error("cannot watch %s (pid %d): %s", running->role->name, (int)running->pid, strerror(-r));
}

/* What else of our own environment the roles see: how the internet is reached from here. */
static const char *const passed_on[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy",   "NO_PROXY",
                                        "no_proxy",   "ALL_PROXY",  "all_proxy",   "SSL_CERT_FILE", "SSL_CERT_DIR"};

static void fill_environment(const char **environment, char (*texts)[PROXY_BYTES_MAX]) {
    for (size_t i = 0; i < ARRAY_LEN(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (value && snprintf(texts[i], PROXY_BYTES_MAX, "%s=%s", passed_on[i], value) < PROXY_BYTES_MAX)
            *environment++ = texts[i];
    }
    *environment = NULL;
}

static int spawn(struct running *running) {
    const struct supervisor_role *role = running->role;
    CLEANUP(buffer_deinit) struct buffer sockets = BUFFER_INIT(4096);
    int pass_fds[SUPERVISOR_SOCKETS_MAX + 1];
    int r = describe_sockets(running->supervisor, role, &sockets, pass_fds);
    if (r < 0)
        return r;
    const char *path = getenv("PATH");
    CLEANUP(buffer_deinit) struct buffer path_variable = BUFFER_INIT(8192);
    buffer_printf(&path_variable, "PATH=%s", path && path[0] ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    char texts[ARRAY_LEN(passed_on)][PROXY_BYTES_MAX];
    const char *environment[ARRAY_LEN(passed_on) + 5] = {path_variable.data, sockets.data, "LANG=C.UTF-8", "HOME=/"};
    fill_environment(environment + 4, texts);
    const struct loop_spawn_options options = {.argv = role->argv,
                                               .envp = environment,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1,
                                               .pass_fds = pass_fds,
                                               .uid = role->uid,
                                               .gid = role->gid,
                                               .drop_privileges = role->drop_privileges,
                                               .oom_score_adj = role->oom_score_adj,
                                               .new_session = true};
    return loop_spawn(&options, &running->pid);
}

void role_start(struct running *running) {
    struct supervisor *supervisor = running->supervisor;
    if (supervisor->stopping)
        return;
    int r = spawn(running);
    if (r < 0) {
        running->pid = 0;
        running->backoff_ms = MIN(MAX(running->backoff_ms * 2, (int64_t)BACKOFF_MS_MIN), (int64_t)BACKOFF_MS_MAX);
        log_error("cannot start %s: %s, trying again in %" PRId64 " ms", running->role->name, strerror(-r), running->backoff_ms);
        loop_timer_set(&running->restart, running->backoff_ms);
        return;
    }
    running->started_ns = loop_now_ns(supervisor->loop);
    memcpy(running->numbers, supervisor->fds, sizeof running->numbers);
    process_start_ticks(running->pid, &running->start_ticks);
    watch(running);
    r = record_write(supervisor);
    if (r < 0)
        log_warning("cannot write the state file: %s; a supervisor started after our death will not find %s", strerror(-r), running->role->name);
}

static void on_kill(void *userdata) {
    struct supervisor *supervisor = userdata;
    supervisor->killed = true;
    for (size_t i = 0; i < supervisor->options->roles_count; i++) {
        const struct running *running = &supervisor->running[i];
        if (running->pid || running->retiring)
            log_warning("%s did not stop within %d s, killing it", running->role->name, STOP_MS / 1000);
        if (running->pid)
            kill(running->pid, SIGKILL);
        if (running->retiring)
            kill(running->retiring, SIGKILL);
    }
}

static void on_signal(void *userdata, int signal) {
    struct supervisor *supervisor = userdata;
    if (supervisor->stopping) {
        if (signal == SIGINT && !supervisor->killed)
            on_kill(supervisor);
        return;
    }
    if (signal == SIGUSR2) {
        reload_begin(supervisor);
        return;
    }
    log_info("stopping on %s", strsignal(signal));
    supervisor->stopping = true;
    for (size_t i = supervisor->options->roles_count; i > 0; i--) {
        struct running *running = &supervisor->running[i - 1];
        loop_timer_cancel(&running->restart);
        loop_timer_cancel(&running->patience);
        if (running->pid && !(running->outdated && running->told)) /* twice would mean at once */
            kill(running->pid, SIGTERM);
        if (running->retiring && !running->told)
            kill(running->retiring, SIGTERM);
    }
    loop_timer_set(&supervisor->kill_timer, STOP_MS);
    if (all_down(supervisor))
        loop_stop(supervisor->loop);
}

/* Who was killed a moment ago may have left a child that is about to become a role: then its socket is taken over. */
static int listen_or_adopt(struct supervisor *supervisor, size_t s, const struct sys_address *address, mode_t mode) {
    int r = sys_listen(address, LISTEN_BACKLOG, mode);
    for (int64_t end_ns = sys_monotonic_ns() + DYING_NS; r == -EADDRINUSE && sys_monotonic_ns() < end_ns;) {
        nanosleep(&(struct timespec){.tv_nsec = DYING_LOOK_NS}, NULL);
        stray_find(supervisor);
        r = supervisor->fds[s] >= 0 ? supervisor->fds[s] : sys_listen(address, LISTEN_BACKLOG, mode);
    }
    return r;
}

static bool is_left_port(const struct supervisor *supervisor, const char *address) {
    const char *port = strrchr(address, ':');
    for (size_t i = 0; port && i < supervisor->left_ports_count; i++)
        if (strcmp(port, supervisor->left_ports[i]) == 0)
            return true;
    return false;
}

/* Another address of the same port, or a port that changes hands, is free when those roles let go that have the old ones: it cannot wait for their
 * turn. For what another program has, nobody is ended. */
static int listen_instead(struct supervisor *supervisor, const struct supervisor_socket *wanted, const struct sys_address *address) {
    int r = -EADDRINUSE;
    bool waits = is_left_port(supervisor, wanted->address) && replace_all_at_once(supervisor);
    for (int64_t end_ns = sys_monotonic_ns() + STOP_MS * INT64_C(1000000); waits && r == -EADDRINUSE && sys_monotonic_ns() < end_ns;) {
        nanosleep(&(struct timespec){.tv_nsec = DYING_LOOK_NS}, NULL);
        r = sys_listen(address, LISTEN_BACKLOG, wanted->mode);
    }
    return r;
}

static int open_sockets(struct supervisor *supervisor, struct diag *diag) {
    for (size_t s = 0; s < supervisor->options->sockets_count; s++) {
        const struct supervisor_socket *wanted = &supervisor->options->sockets[s];
        struct sys_address address;
        if (supervisor->fds[s] >= 0)
            continue;
        int r = sys_address_parse(wanted->address, &address);
        if (r < 0)
            return diag_set(diag, r, "the address \"%s\" of %s cannot be read: expected HOST:PORT or unix:PATH", wanted->address, wanted->name);
        r = listen_or_adopt(supervisor, s, &address, wanted->mode);
        if (r == -EADDRINUSE)
            r = listen_instead(supervisor, wanted, &address);
        if (r < 0) {
            diag_set(diag, r, "cannot listen on %s for %s: %s", wanted->address, wanted->name, strerror(-r));
            return r == -EADDRINUSE ? diag_hint(diag, r, "another program uses that port: stop it, or choose another with --%s-listen", wanted->name)
                                    : r;
        }
        supervisor->fds[s] = r;
        if (strncmp(wanted->address, "unix:", 5) == 0 && chown(wanted->address + 5, wanted->owner, wanted->group) < 0)
            return diag_set(diag, -errno, "cannot change the owner of %s: %s", wanted->address + 5, strerror(errno));
    }
    return 0;
}

int supervisor_lock(const char *path, struct diag *diag) {
    int lock = sys_lock_file(path);
    if (lock == -EBUSY) {
        diag_set(diag, lock, "another tidemill holds %s", path);
        return diag_hint(diag, lock, "stop it with `tidemill down`, or give this instance a state folder of its own with --state");
    }
    if (lock < 0)
        return diag_set(diag, lock, "cannot lock %s: %s", path, strerror(-lock));
    return lock;
}

static int write_pid(const struct supervisor_options *options) {
    char path[PATH_MAX], text[32];
    snprintf(path, sizeof path, "%s/supervisor.pid", options->run_dir);
    snprintf(text, sizeof text, "%d\n", (int)getpid());
    return sys_write_file_fast(AT_FDCWD, path, slice_of(text), 0644);
}

static void start_all(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->options->roles_count; i++) {
        struct running *running = &supervisor->running[i];
        if (running->pid) {
            log_info("%s (pid %d) still runs, adopted", running->role->name, (int)running->pid);
            running->started_ns = loop_now_ns(supervisor->loop);
            watch(running);
        } else {
            role_start(running);
        }
    }
    record_write(supervisor);
    if (supervisor->options->on_started)
        supervisor->options->on_started(supervisor->options->userdata);
    replace_next(supervisor);
}

static void forget(struct supervisor *supervisor) {
    char path[PATH_MAX];
    static const char *const files[] = {"supervisor.state", "supervisor.pid", SUPERVISOR_RELOADED};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", supervisor->options->run_dir, files[i]);
        unlink(path);
    }
    for (size_t s = 0; s < supervisor->options->sockets_count; s++) {
        if (supervisor->fds[s] >= 0)
            close(supervisor->fds[s]);
        if (strncmp(supervisor->options->sockets[s].address, "unix:", 5) == 0)
            unlink(supervisor->options->sockets[s].address + 5);
    }
}

/* From the kernel when memory is out: without the right to it, nothing changes. */
static void protect(void) {
    (void)sys_write_existing(AT_FDCWD, "/proc/self/oom_score_adj", SLICE(SUPERVISOR_OOM_SCORE));
}

static void prepare_role(struct supervisor *supervisor, size_t i) {
    struct running *running = &supervisor->running[i];
    *running = (struct running){.supervisor = supervisor, .role = &supervisor->options->roles[i]};
    for (size_t s = 0; s < SUPERVISOR_SOCKETS_MAX; s++)
        running->numbers[s] = -1;
}

int supervisor_run(const struct supervisor_options *options, struct diag *diag) {
    ASSERT(options->roles_count <= SUPERVISOR_ROLES_MAX && options->sockets_count <= SUPERVISOR_SOCKETS_MAX);
    struct supervisor supervisor = {.options = options};
    for (size_t s = 0; s < SUPERVISOR_SOCKETS_MAX; s++)
        supervisor.fds[s] = -1;
    reload_inherit(&supervisor);
    for (size_t i = 0; i < options->roles_count; i++)
        prepare_role(&supervisor, i);
    protect();
    int r = record_adopt(&supervisor);
    if (r < 0)
        return diag_set(diag, r, "cannot read %s/supervisor.state: %s", options->run_dir, strerror(-r));
    stray_find(&supervisor);
    record_drop_moved_sockets(&supervisor);
    replace_find(&supervisor);
    r = open_sockets(&supervisor, diag);
    if (r < 0)
        return r;
    r = loop_new(&supervisor.loop);
    if (r < 0)
        return diag_set(diag, r, "cannot start the event loop: %s", strerror(-r));
    for (size_t i = 0; i < options->roles_count; i++) {
        loop_timer_init(&supervisor.running[i].restart, supervisor.loop, on_restart, &supervisor.running[i]);
        loop_timer_init(&supervisor.running[i].patience, supervisor.loop, replace_on_patience, &supervisor.running[i]);
    }
    loop_timer_init(&supervisor.kill_timer, supervisor.loop, on_kill, &supervisor);
    loop_timer_init(&supervisor.check_timer, supervisor.loop, reload_on_check_timeout, &supervisor);
    struct loop_signal *signals = NULL;
    r = loop_signal_new(supervisor.loop, (const int[]){SIGTERM, SIGINT, SIGUSR2, 0}, on_signal, &supervisor, &signals);
    if (r == 0)
        r = write_pid(options);
    if (r == 0) {
        start_all(&supervisor);
        r = loop_run(supervisor.loop);
        forget(&supervisor);
    }
    loop_timer_cancel(&supervisor.kill_timer);
    loop_timer_cancel(&supervisor.check_timer);
    loop_child_free(supervisor.check);
    loop_signal_free(signals);
    loop_free(supervisor.loop);
    return r < 0 ? diag_set(diag, r, "the supervisor failed: %s", strerror(-r)) : 0;
}
