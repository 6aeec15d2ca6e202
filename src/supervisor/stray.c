/* A role that was started by a supervisor killed before it could write that down. It holds the role's listening sockets, so the next supervisor must
 * find it: by its command line, which names the instance, its program and its user. Which sockets it got is in its environment, as it was handed
 * them. */
#include "supervisor/supervisor_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

#define ENVIRONMENT_BYTES_MAX (256 * KIB)

static bool is_of_user(pid_t pid, uid_t wanted) {
    char path[64];
    uint64_t uid;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    ptrdiff_t at = sys_read_file(AT_FDCWD, path, 16 * KIB, &text) < 0 ? -1 : slice_find(buffer_slice(&text), SLICE("\nUid:\t"));
    if (at < 0)
        return false;
    struct slice rest = slice_from(buffer_slice(&text), (size_t)at + strlen("\nUid:\t"));
    return slice_parse_u64(slice_cut(&rest, '\t'), UINT32_MAX, &uid) == 0 && uid == wanted;
}

static void adopt_sockets(struct supervisor *supervisor, pid_t pid) {
    char path[64];
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(ENVIRONMENT_BYTES_MAX);
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    if (sys_read_file(AT_FDCWD, path, ENVIRONMENT_BYTES_MAX, &text) < 0)
        return;
    for (struct slice rest = buffer_slice(&text); rest.len;) {
        struct slice value = slice_cut(&rest, '\0'), name = slice_cut(&value, '=');
        while (slice_is(name, SUPERVISOR_SOCKETS) && value.len) {
            struct slice number = slice_cut(&value, ','), socket = slice_cut(&number, '=');
            uint64_t fd;
            if (slice_parse_u64(number, INT32_MAX, &fd) == 0)
                record_adopt_socket(supervisor, socket, pid, (int)fd);
        }
    }
}

static void look_at(struct supervisor *supervisor, pid_t pid) {
    for (size_t i = 0; i < supervisor->options->roles_count; i++) {
        struct running *running = &supervisor->running[i];
        const struct supervisor_role *role = running->role;
        if (running->pid || replace_compare(pid, role) != SAME_ROLE || !is_of_user(pid, role->drop_privileges ? role->uid : geteuid()) ||
            process_start_ticks(pid, &running->start_ticks) < 0)
            continue;
        log_warning("%s (pid %d) runs and nothing was written about it", role->name, (int)pid);
        running->pid = pid;
        adopt_sockets(supervisor, pid);
    }
}

void stray_find(struct supervisor *supervisor) {
    DIR *folder = opendir("/proc");
    if (!folder)
        return;
    for (const struct dirent *entry; (entry = readdir(folder));) {
        uint64_t pid;
        if (slice_parse_u64(slice_of(entry->d_name), INT32_MAX, &pid) == 0)
            look_at(supervisor, (pid_t)pid);
    }
    closedir(folder);
}
