/* `tidemill down`: asks the supervisor to stop and waits. Containers keep running, so that an upgrade interrupts nothing; --all ends them too and
 * removes what the node made in the kernel (bridge, firewall table, control groups, namespaces). */
#include "cli/functions_priv.h"
#include "cli/settings_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/roles_priv.h"
#include "sys/sys.h"

#define DOWN_TIMEOUT_MS 30000

int running_supervisor(const struct settings *settings, pid_t *ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    uint64_t pid;
    int r = sys_read_file(AT_FDCWD, settings_path(settings, settings->run, "supervisor.pid"), 63, &text);
    if (r < 0)
        return r;
    r = slice_parse_u64(slice_trim(buffer_slice(&text)), INT32_MAX, &pid);
    *ret = (pid_t)pid;
    return r;
}

/* 0 when it ended; -ESRCH when it was not running. */
static int stop_supervisor(pid_t pid, struct diag *diag) {
    CLEANUP(fd_closep) int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pid_fd < 0)
        return -ESRCH;
    if (geteuid() != 0) {
        diag_set(diag, -EPERM, "`tidemill down` must run as root");
        return diag_hint(diag, -EPERM, "try `sudo tidemill down`");
    }
    if (syscall(SYS_pidfd_send_signal, pid_fd, SIGTERM, NULL, 0) < 0)
        return diag_set(diag, -errno, "cannot stop the supervisor (pid %d): %s", (int)pid, strerror(errno));
    struct pollfd gone = {.fd = pid_fd, .events = POLLIN};
    if (poll(&gone, 1, DOWN_TIMEOUT_MS) <= 0)
        return diag_set(diag, -ETIMEDOUT, "the supervisor (pid %d) did not stop within %d s", (int)pid, DOWN_TIMEOUT_MS / 1000);
    return 0;
}

static int down(const struct invocation *invocation, const struct settings *settings, struct diag *diag) {
    pid_t pid = 0;
    int r = running_supervisor(settings, &pid);
    if (r == 0)
        r = stop_supervisor(pid, diag);
    bool was_down = r == -ENOENT || r == -ESRCH;
    if (r < 0 && !was_down)
        return r;
    bool all = invocation_bool(invocation, "all");
    if (all)
        r = roles_purge_node(settings, diag);
    if (all && r < 0)
        return r;
    if (was_down && !all) {
        diag_set(diag, -ESRCH, "no platform runs with %s", settings->run);
        return diag_hint(diag, -ESRCH, "name another instance with --run DIR");
    }
    printf("tidemill is down%s.\n", all ? ", its containers too" : "; containers keep running, `tidemill up` finds them again");
    return 0;
}

int run_down(const struct invocation *invocation) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    int r = settings_read_running(invocation, &settings, &diag);
    if (r < 0)
        return terminal_error(&diag);
    r = down(invocation, &settings, &diag);
    settings_deinit(&settings);
    return r < 0 ? terminal_error(&diag) : 0;
}
