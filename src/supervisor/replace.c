/* After an upgrade, a step back or a change of settings, the roles that a new supervisor finds are not those that it would start. They are replaced
 * one after another, in the order of their start, and no port closes: the supervisor holds every listening socket, and who comes meanwhile waits in
 * the kernel's queue.
 *
 *   1. A role is outdated when its file is not the one that its name leads to now, or when its command line differs.
 *   2. An outdated role is told to end (SIGTERM), killed after STOP_MS, and its successor starts when it is gone: two would want the same locks.
 *   3. One that `overlaps` (the gateway) has its successor beside it at once. Both take connections for OVERLAP_MS, in which the new one learns what
 * it has to know; then the old one is told, takes no more, and ends when what it has is finished.
 *   4. The next role's turn comes when the successor has started. A successor that dies is started again as any role.
 *   5. Out of turn are all when a port of the new settings is free only without them. */
#include "supervisor/supervisor_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"

#define OVERLAP_MS 3000
#define COMMAND_BYTES_MAX (64 * KIB)

enum same replace_compare(pid_t pid, const struct supervisor_role *role) {
    char path[64];
    struct stat runs, wanted;
    CLEANUP(buffer_deinit) struct buffer command = BUFFER_INIT(COMMAND_BYTES_MAX), ours = BUFFER_INIT(COMMAND_BYTES_MAX);
    for (const char *const *word = role->argv; *word; word++)
        buffer_append(&ours, *word, strlen(*word) + 1);
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    if (buffer_error(&ours) || sys_read_file(AT_FDCWD, path, COMMAND_BYTES_MAX, &command) < 0)
        return UNKNOWN_ROLE;
    if (!slice_equal(buffer_slice(&command), buffer_slice(&ours)))
        return OTHER_ROLE;
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    if (stat(path, &runs) < 0 || stat(role->argv[0], &wanted) < 0)
        return UNKNOWN_ROLE;
    return runs.st_dev == wanted.st_dev && runs.st_ino == wanted.st_ino ? SAME_ROLE : OTHER_ROLE;
}

void replace_find(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->options->roles_count; i++) {
        struct running *running = &supervisor->running[i];
        running->outdated = running->pid && replace_compare(running->pid, running->role) == OTHER_ROLE; /* what cannot be told stays */
        supervisor->replacing = supervisor->replacing || running->outdated;
    }
}

static void finish(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->options->roles_count; i++)
        if (supervisor->running[i].outdated || supervisor->running[i].retiring)
            return;
    if (supervisor->replacing)
        log_info("every role is the new one");
    supervisor->replacing = false;
    if (supervisor->reload_again)
        reload_begin(supervisor);
    else
        reload_tell(supervisor, "ok");
}

/* First a request, then no more patience. */
void replace_on_patience(void *userdata) {
    struct running *running = userdata;
    pid_t pid = running->retiring ? running->retiring : running->outdated ? running->pid : 0;
    if (!pid)
        return;
    if (running->told)
        log_warning("%s (pid %d) did not stop within %d s, killing it", running->role->name, (int)pid, STOP_MS / 1000);
    kill(pid, running->told ? SIGKILL : SIGTERM);
    running->told = true;
    loop_timer_set(&running->patience, STOP_MS);
}

static void on_retired(void *userdata, pid_t pid, int status) {
    (void)status;
    struct running *running = userdata;
    log_info("%s (pid %d), replaced, has ended", running->role->name, (int)pid);
    loop_child_free(TAKE(running->retiring_child));
    running->retiring = 0;
    loop_timer_cancel(&running->patience);
    if (running->supervisor->stopping && all_down(running->supervisor))
        loop_stop(running->supervisor->loop);
    else if (!running->supervisor->stopping)
        finish(running->supervisor);
}

/* The successor starts beside the one before. */
static void overlap(struct running *running) {
    loop_child_free(TAKE(running->child));
    running->retiring = running->pid;
    running->retiring_ticks = running->start_ticks;
    running->pid = 0;
    running->outdated = false;
    if (loop_child_new(running->supervisor->loop, running->retiring, on_retired, running, &running->retiring_child) < 0)
        running->retiring = 0; /* gone by itself */
    else
        loop_timer_set(&running->patience, running->told ? STOP_MS : OVERLAP_MS);
    role_start(running);
}

void replace_next(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->options->roles_count && !supervisor->stopping; i++) {
        struct running *running = &supervisor->running[i];
        if (!running->outdated)
            continue;
        log_info("replacing %s (pid %d)", running->role->name, (int)running->pid);
        if (!running->role->overlaps) {
            if (running->told)
                loop_timer_set(&running->patience, STOP_MS);
            else
                replace_on_patience(running);
            return;
        }
        overlap(running);
    }
    finish(supervisor);
}

bool replace_all_at_once(struct supervisor *supervisor) {
    bool found = false;
    for (size_t i = 0; i < supervisor->options->roles_count; i++) {
        struct running *running = &supervisor->running[i];
        if (running->outdated && !running->told)
            kill(running->pid, SIGTERM);
        running->told = running->outdated;
        found = found || running->outdated;
    }
    return found;
}

void replace_ended(struct running *running) {
    running->outdated = false;
    running->quick_deaths = 0;
    running->backoff_ms = 0;
    loop_timer_cancel(&running->patience);
    role_start(running);
    replace_next(running->supervisor);
}
