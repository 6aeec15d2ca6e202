/* SIGUSR2: the supervisor becomes the program that lies where its own did, with the same process id, so that whoever watches it (systemd) sees no
 * end. First the new one is asked, in a process of its own, whether it would start with our settings; if not, all stays and that is told. Then
 * execve(2): the listening sockets stay open, their numbers are in the environment, and the new program finds the roles in the state file like any
 * supervisor after another, and replaces them (replace.c).
 *
 * One at a time. Who asks while the new program is being tried gets it; who asks while roles are replaced may have brought yet another one, so that
 * it begins anew then. Both find the same answer.
 *
 * Not SIGHUP, which a closing terminal sends. A version that knows no reload dies of the signal, and the next supervisor adopts and replaces all the
 * same. */
#include "supervisor/supervisor_priv.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/sys.h"

#define CHECK_TIMEOUT_MS 30000

void reload_tell(const struct supervisor *supervisor, const char *text) {
    char path[PATH_MAX], line[256];
    snprintf(path, sizeof path, "%s/" SUPERVISOR_RELOADED, supervisor->options->run_dir);
    snprintf(line, sizeof line, "%s\n", text);
    int r = sys_write_file_fast(AT_FDCWD, path, slice_of(line), 0644);
    if (r < 0)
        log_warning("cannot write %s: %s", path, strerror(-r));
}

static int leave_sockets(const struct supervisor *supervisor) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4096);
    for (size_t s = 0; s < supervisor->options->sockets_count; s++) {
        if (supervisor->fds[s] < 0)
            continue;
        buffer_printf(&text, "%s%s=%d", text.len ? "," : "", supervisor->options->sockets[s].name, supervisor->fds[s]);
        if (fcntl(supervisor->fds[s], F_SETFD, 0) < 0)
            return -errno;
    }
    if (buffer_error(&text))
        return buffer_error(&text);
    return text.len && setenv(SUPERVISOR_SOCKETS, text.data, 1) < 0 ? -errno : 0;
}

static void become(struct supervisor *supervisor) {
    char text[200];
    int r = leave_sockets(supervisor);
    if (r == 0 && chdir(supervisor->options->reload_dir) < 0)
        r = -errno;
    if (r == 0) {
        log_info("becoming %s", supervisor->options->reload_argv[0]);
        execv(supervisor->options->reload_argv[0], (char *const *)(uintptr_t)supervisor->options->reload_argv);
        r = -errno;
    }
    if (chdir("/") < 0)
        log_error("cannot change to the folder /: %s", strerror(errno));
    unsetenv(SUPERVISOR_SOCKETS);
    for (size_t s = 0; s < supervisor->options->sockets_count; s++)
        if (supervisor->fds[s] >= 0)
            fcntl(supervisor->fds[s], F_SETFD, FD_CLOEXEC);
    snprintf(text, sizeof text, "cannot become the new program: %s", strerror(-r));
    log_error("%s", text);
    reload_tell(supervisor, text);
}

static void on_checked(void *userdata, pid_t pid, int status) {
    struct supervisor *supervisor = userdata;
    (void)pid;
    loop_child_free(TAKE(supervisor->check));
    loop_timer_cancel(&supervisor->check_timer);
    if (supervisor->stopping)
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        become(supervisor);
        return;
    }
    log_error("the new program would not start; all stays as it is");
    reload_tell(supervisor, "the new program would not start; the platform's log tells why. All stays as it is");
}

/* Ours and not waited for yet: nobody else has its number. */
void reload_on_check_timeout(void *userdata) {
    struct supervisor *supervisor = userdata;
    log_error("the new program does not say whether it would start");
    kill(supervisor->check_pid, SIGKILL);
}

void reload_begin(struct supervisor *supervisor) {
    if (!supervisor->options->reload_argv) {
        reload_tell(supervisor, "this supervisor cannot reload");
        return;
    }
    supervisor->reload_again = supervisor->replacing;
    if (supervisor->check || supervisor->replacing)
        return;
    const struct loop_spawn_options options = {.argv = supervisor->options->check_argv,
                                               .envp = (const char *const *)(uintptr_t)environ,
                                               .cwd = supervisor->options->reload_dir,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1};
    char text[200];
    int r = loop_spawn(&options, &supervisor->check_pid);
    if (r == 0)
        r = loop_child_new(supervisor->loop, supervisor->check_pid, on_checked, supervisor, &supervisor->check);
    if (r == 0) {
        int64_t timeout_ms = supervisor->options->check_timeout_ms;
        loop_timer_set(&supervisor->check_timer, timeout_ms ? timeout_ms : CHECK_TIMEOUT_MS);
        return;
    }
    snprintf(text, sizeof text, "cannot try %s: %s", supervisor->options->check_argv[0], strerror(-r));
    log_error("%s", text);
    reload_tell(supervisor, text);
}

bool supervisor_is_reloaded(void) {
    return getenv(SUPERVISOR_SOCKETS) != NULL;
}

/* Which the settings know no more is closed: it would hold its port for good. */
void reload_inherit(struct supervisor *supervisor) {
    const char *text = getenv(SUPERVISOR_SOCKETS);
    for (size_t s = 0; s < supervisor->options->sockets_count; s++)
        supervisor->fds[s] = supervisor_socket_inherited(supervisor->options->sockets[s].name);
    for (struct slice rest = slice_of(text ? text : ""); rest.len;) {
        struct slice value = slice_cut(&rest, ','), name = slice_cut(&value, '=');
        uint64_t fd;
        bool known = slice_parse_u64(value, INT_MAX, &fd) < 0;
        for (size_t s = 0; s < supervisor->options->sockets_count && !known; s++)
            known = slice_is(name, supervisor->options->sockets[s].name);
        if (!known)
            record_leave_socket(supervisor, (int)fd);
    }
    unsetenv(SUPERVISOR_SOCKETS);
}
