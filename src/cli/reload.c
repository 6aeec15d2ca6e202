/* `tidemill reload`: asks the supervisor to become the program that is installed now (src/supervisor/reload.c) and waits until every role is the new
 * one. */
#include "cli/functions_priv.h"
#include "cli/roles_priv.h"
#include "cli/settings_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor/supervisor.h"
#include "sys/sys.h"

#define RELOAD_TIMEOUT_MS 90000
#define RELOAD_LOOK_MS 20
#define COMMAND_BYTES_MAX (64 * KIB)
#define COMMAND_WORDS_MAX 256

const char *const *reload_command(struct arena *arena, const char *more) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(COMMAND_BYTES_MAX);
    const char **argv = ARENA_ARRAY(arena, const char *, COMMAND_WORDS_MAX + 2);
    const char *path = executable_own_path(arena);
    if (!argv || !path || sys_read_file(AT_FDCWD, "/proc/self/cmdline", COMMAND_BYTES_MAX, &text) < 0)
        return NULL;
    struct slice rest = buffer_slice(&text);
    size_t count = 0;
    for (slice_cut(&rest, '\0'), argv[count++] = path; rest.len; count++) {
        if (count == COMMAND_WORDS_MAX || !(argv[count] = arena_dup(arena, slice_cut(&rest, '\0'))))
            return NULL;
    }
    argv[count] = more;
    return argv;
}

/* 0: the file is there. */
static int wait_for_answer(int pid_fd, const char *path, struct buffer *ret, struct diag *diag) {
    int64_t deadline_ns = sys_monotonic_ns() + RELOAD_TIMEOUT_MS * INT64_C(1000000);
    struct pollfd gone = {.fd = pid_fd, .events = POLLIN};
    while (sys_monotonic_ns() < deadline_ns) {
        if (sys_read_file(AT_FDCWD, path, 4096, ret) == 0)
            return 0;
        if (poll(&gone, 1, RELOAD_LOOK_MS) > 0) {
            diag_set(diag, -ESRCH, "the supervisor has ended: its version knew no reload, or the new one could not go on; the log tells");
            return diag_hint(diag, -ESRCH,
                             "start it again with `tidemill up`, if systemd does not: it finds what runs, and replaces what is of another version");
        }
    }
    return diag_set(diag, -ETIMEDOUT, "not every role was replaced within %d s; the log tells why", RELOAD_TIMEOUT_MS / 1000);
}

static int reload(const struct settings *settings, struct diag *diag) {
    pid_t pid = 0;
    int r = running_supervisor(settings, &pid);
    CLEANUP(fd_closep) int pid_fd = r < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (pid_fd < 0) {
        diag_set(diag, -ESRCH, "no platform runs with %s", settings->run);
        return diag_hint(diag, -ESRCH, "start it with `tidemill up`, or name another instance with --run DIR");
    }
    if (geteuid() != 0) {
        diag_set(diag, -EPERM, "`tidemill reload` must run as root");
        return diag_hint(diag, -EPERM, "try `sudo tidemill reload`");
    }
    const char *path = settings_path(settings, settings->run, SUPERVISOR_RELOADED);
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(4096);
    if (unlink(path) < 0 && errno != ENOENT)
        return diag_set(diag, -errno, "cannot remove %s: %s", path, strerror(errno));
    if (syscall(SYS_pidfd_send_signal, pid_fd, SIGUSR2, NULL, 0) < 0)
        return diag_set(diag, -errno, "cannot ask the supervisor (pid %d): %s", (int)pid, strerror(errno));
    r = wait_for_answer(pid_fd, path, &answer, diag);
    struct slice text = slice_trim(buffer_slice(&answer));
    return r < 0 || slice_is(text, "ok") ? r : diag_set(diag, -ECANCELED, "%.*s", SLICE_ARG(text));
}

int run_reload(const struct invocation *invocation) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    if (settings_read_running(invocation, &settings, &diag) < 0)
        return terminal_error(&diag);
    int r = reload(&settings, &diag);
    settings_deinit(&settings);
    if (r < 0 || settings_read_running(invocation, &settings, &diag) < 0) /* they may be others now */
        return terminal_error(&diag);
    r = wait_until_ready(&settings, 0);
    settings_deinit(&settings);
    return r;
}
