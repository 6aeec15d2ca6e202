/* The state file, one line a fact:
 *     role NAME PID START_TICKS
 *     socket NAME PID FD
 *     retiring NAME PID START_TICKS
 * Written whole after each start of a role, without fsync: after a reboot it means nothing (start ticks differ). Adoption trusts a line only when the
 * process with that pid has that start time; the file lies in a folder only root may write. */
#include "supervisor/supervisor_priv.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/sys.h"

#define RECORD_BYTES_MAX (64 * KIB)

int process_start_ticks(pid_t pid, uint64_t *ret) {
    char path[64];
    CLEANUP(buffer_deinit) struct buffer stat = BUFFER_INIT(4096);
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int r = sys_read_file(AT_FDCWD, path, 4096, &stat);
    if (r < 0)
        return r == -ENOENT ? -ESRCH : r;
    /* The name in parentheses may hold blanks: count fields from the last ')'. Field 22 is the start time, the first one after ')' is field 3. */
    struct slice rest = buffer_slice(&stat);
    for (ptrdiff_t close; (close = slice_index(rest, ')')) >= 0;)
        rest = slice_from(rest, (size_t)close + 1);
    rest = slice_trim(rest);
    bool zombie = rest.len && (rest.data[0] == 'Z' || rest.data[0] == 'X');
    for (int field = 3; field < 22; field++)
        slice_cut(&rest, ' ');
    if (zombie)
        return -ESRCH;
    return slice_parse_u64(slice_cut(&rest, ' '), UINT64_MAX, ret);
}

static void format_path(const struct supervisor *supervisor, char *path, size_t size) {
    snprintf(path, size, "%s/supervisor.state", supervisor->options->run_dir);
}

static bool has_socket(const struct supervisor_role *role, const char *name) {
    for (const char *const *socket_name = role->socket_names; *socket_name; socket_name++)
        if (strcmp(*socket_name, name) == 0)
            return true;
    return false;
}

int record_write(const struct supervisor *supervisor) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(RECORD_BYTES_MAX);
    for (size_t i = 0; i < supervisor->options->roles_count; i++) {
        const struct running *running = &supervisor->running[i];
        if (running->retiring)
            buffer_printf(&out, "retiring %s %d %" PRIu64 "\n", running->role->name, (int)running->retiring, running->retiring_ticks);
        if (!running->pid)
            continue;
        buffer_printf(&out, "role %s %d %" PRIu64 "\n", running->role->name, (int)running->pid, running->start_ticks);
        for (size_t s = 0; s < supervisor->options->sockets_count; s++)
            if (running->numbers[s] >= 0 && has_socket(running->role, supervisor->options->sockets[s].name))
                buffer_printf(&out, "socket %s %d %d\n", supervisor->options->sockets[s].name, (int)running->pid, running->numbers[s]);
    }
    if (buffer_error(&out))
        return buffer_error(&out); /* half a record would lose living roles */
    char path[PATH_MAX];
    format_path(supervisor, path, sizeof path);
    return sys_write_file_fast(AT_FDCWD, path, buffer_slice(&out), 0600);
}

static int adopt_role(struct supervisor *supervisor, struct slice name, pid_t pid, uint64_t ticks, bool retiring) {
    uint64_t now_ticks = 0;
    int r = process_start_ticks(pid, &now_ticks);
    if (r < 0 && r != -ESRCH)
        return r;
    if (r < 0 || now_ticks != ticks)
        return 0;
    for (size_t i = 0; !retiring && i < supervisor->options->roles_count; i++) {
        struct running *running = &supervisor->running[i];
        if (!slice_is(name, running->role->name))
            continue;
        running->pid = pid;
        running->start_ticks = ticks;
        return 0;
    }
    log_info("%.*s (pid %d) %s, ending it", SLICE_ARG(name), (int)pid, retiring ? "has a successor" : "is no role of this version");
    kill(pid, SIGTERM);
    return 0;
}

/* Copies a descriptor out of a living role; in there it keeps its number, by which the next supervisor finds it. */
void record_adopt_socket(struct supervisor *supervisor, struct slice name, pid_t pid, int fd) {
    struct running *holder = NULL;
    for (size_t i = 0; i < supervisor->options->roles_count; i++)
        if (supervisor->running[i].pid == pid)
            holder = &supervisor->running[i];
    for (size_t s = 0; holder && s < supervisor->options->sockets_count; s++) {
        if (!slice_is(name, supervisor->options->sockets[s].name))
            continue;
        holder->numbers[s] = fd;
        if (supervisor->fds[s] >= 0)
            continue;
        CLEANUP(fd_closep) int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (pid_fd < 0)
            return;
        int copy = (int)syscall(SYS_pidfd_getfd, pid_fd, fd, 0);
        if (copy >= 0)
            supervisor->fds[s] = copy;
    }
}

void record_leave_socket(struct supervisor *supervisor, int fd) {
    struct sys_address bound = {.len = sizeof bound.storage};
    char text[200];
    int r = getsockname(fd, (struct sockaddr *)(void *)&bound.storage, &bound.len);
    close(fd);
    const char *port = r < 0 || bound.storage.ss_family == AF_UNIX ? NULL : strrchr(sys_address_format(&bound, text, sizeof text), ':');
    if (port && supervisor->left_ports_count < ARRAY_LEN(supervisor->left_ports))
        snprintf(supervisor->left_ports[supervisor->left_ports_count++], sizeof supervisor->left_ports[0], "%.6s", port);
}

void record_drop_moved_sockets(struct supervisor *supervisor) {
    for (size_t s = 0; s < supervisor->options->sockets_count; s++) {
        struct sys_address bound = {.len = sizeof bound.storage}, wanted;
        char bound_text[200], wanted_text[200];
        if (supervisor->fds[s] < 0 || getsockname(supervisor->fds[s], (struct sockaddr *)(void *)&bound.storage, &bound.len) < 0 ||
            sys_address_parse(supervisor->options->sockets[s].address, &wanted) < 0)
            continue;
        sys_address_format(&bound, bound_text, sizeof bound_text);
        if (strcmp(bound_text, sys_address_format(&wanted, wanted_text, sizeof wanted_text)) == 0)
            continue;
        log_info("%s moves from %s to %s", supervisor->options->sockets[s].name, bound_text, wanted_text);
        record_leave_socket(supervisor, TAKE_FD(supervisor->fds[s]));
    }
}

int record_adopt(struct supervisor *supervisor) {
    char path[PATH_MAX];
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RECORD_BYTES_MAX);
    format_path(supervisor, path, sizeof path);
    int r = sys_read_file(AT_FDCWD, path, RECORD_BYTES_MAX, &text);
    if (r < 0 && r != -ENOENT && r != -EFBIG)
        return r;
    r = 0;
    struct slice rest = buffer_slice(&text);
    while (rest.data && r >= 0) {
        struct slice line = slice_cut(&rest, '\n');
        struct slice word = slice_cut(&line, ' '), name = slice_cut(&line, ' ');
        uint64_t pid, number;
        if (slice_parse_u64(slice_cut(&line, ' '), INT32_MAX, &pid) < 0 || slice_parse_u64(line, UINT64_MAX, &number) < 0 || pid == 0)
            continue;
        if (slice_is(word, "role") || slice_is(word, "retiring"))
            r = adopt_role(supervisor, name, (pid_t)pid, number, slice_is(word, "retiring"));
        else if (slice_is(word, "socket") && number <= INT32_MAX)
            record_adopt_socket(supervisor, name, (pid_t)pid, (int)number);
    }
    return r;
}
