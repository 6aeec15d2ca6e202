/* Cutting logs without polling: a quiet log has a one-shot inotify watch; its first change starts a timer; when that ends the size is looked at, the
 * log rotated if it is too large, and the watch set again. So an idle container wakes nobody and a busy one wakes the node once per CHECK_MS, however
 * much it writes. */
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "node/node_priv.h"

#define CHECK_MS 1000

static struct unit *find_unit(const struct node *node, int watch) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, &key, &value);) {
        struct pod *pod = value;
        for (size_t i = 0; i < pod->units_count; i++)
            if (pod->units[i]->log_watch == watch)
                return pod->units[i];
    }
    return NULL;
}

static void on_inotify(void *userdata, __attribute__((unused)) uint32_t events) {
    struct node *node = userdata;
    char bytes[4 * KIB] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;
    while ((n = read(node->rotation_fd, bytes, sizeof bytes)) > 0) {
        for (char *at = bytes; at < bytes + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;
            struct unit *unit = event->mask & IN_MODIFY ? find_unit(node, event->wd) : NULL;
            if (unit) {
                unit->log_watch = -1; /* one-shot */
                loop_timer_set(&unit->log_timer, CHECK_MS);
            }
            at += sizeof *event + event->len;
        }
    }
}

static void on_check(void *userdata) {
    struct unit *unit = userdata;
    struct stat st;
    char path[PATH_MAX];
    unit_log_path(unit, unit->restart_count, path);
    if (unit->stage != UNIT_RUNNING || !unit->container)
        return;
    if (stat(path, &st) == 0 && (size_t)st.st_size >= LOG_ROTATE_BYTES && log_rotate(path) == 0)
        container_reopen_log(unit->container);
    rotation_watch(unit);
}

void rotation_watch(struct unit *unit) {
    char path[PATH_MAX];
    unit_log_path(unit, unit->restart_count, path);
    loop_timer_init(&unit->log_timer, unit->pod->node->loop, on_check, unit);
    unit->log_watch = inotify_add_watch(unit->pod->node->rotation_fd, path, IN_MODIFY | IN_ONESHOT);
    if (unit->log_watch < 0) /* just rotated: the writer has not made the new file yet */
        loop_timer_set(&unit->log_timer, CHECK_MS);
}

void rotation_forget(struct unit *unit) {
    loop_timer_cancel(&unit->log_timer);
    if (unit->log_watch >= 0)
        inotify_rm_watch(unit->pod->node->rotation_fd, unit->log_watch);
    unit->log_watch = -1;
}

int rotation_start(struct node *node) {
    node->rotation_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (node->rotation_fd < 0)
        return -errno;
    return loop_io_new(node->loop, node->rotation_fd, EPOLLIN, on_inotify, node, &node->rotation_io);
}

void rotation_stop(struct node *node) {
    loop_io_free(node->rotation_io);
    if (node->rotation_fd >= 0)
        close(node->rotation_fd);
    node->rotation_io = NULL;
    node->rotation_fd = -1;
}
