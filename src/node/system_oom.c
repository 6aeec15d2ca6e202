/* The machine is out of memory, and the kernel has killed somebody: told as kubelet tells it, as an event of the node. (A container that passes its
 * own limit is told by its own status.) The kernel's log is followed from where it is now on; what it says costs nothing while it says nothing. */
#include <sys/epoll.h>

#include "node/node_priv.h"

#define RECORD_BYTES 8192
#define RECORDS_PER_TURN 64

struct system_oom {
    struct node *node;
    int fd;
    struct loop_io *io;
};

static void on_records(void *userdata, __attribute__((unused)) uint32_t events) {
    struct system_oom *oom = userdata;
    char record[RECORD_BYTES];
    for (int i = 0; i < RECORDS_PER_TURN; i++) {
        struct kmsg_victim victim;
        ssize_t n = read(oom->fd, record, sizeof record); /* one record each */
        if (n < 0 && (errno == EPIPE || errno == EINVAL || errno == EINTR))
            continue; /* overwritten before it was read, or longer than this */
        if (n <= 0)
            return;
        if (!kmsg_parse_oom(slice_make(record, (size_t)n), &victim))
            continue;
        log_warning("the machine is out of memory: the kernel killed %s (%d)", victim.name, (int)victim.pid);
        event_node(oom->node, "Warning", "SystemOOM", "System OOM encountered, victim process: %s, pid: %d", victim.name, (int)victim.pid);
    }
}

void system_oom_start(struct node *node) {
    CLEANUP(freep) struct system_oom *oom = calloc(1, sizeof *oom);
    if (!oom)
        return;
    oom->node = node;
    oom->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (oom->fd < 0)
        return; /* a machine that does not show its log: nobody will tell */
    lseek(oom->fd, 0, SEEK_END);
    if (loop_io_new(node->loop, oom->fd, EPOLLIN, on_records, oom, &oom->io) < 0)
        close(oom->fd);
    else
        node->system_oom = TAKE(oom);
}

void system_oom_stop(struct node *node) {
    struct system_oom *oom = node->system_oom;
    node->system_oom = NULL;
    if (!oom)
        return;
    loop_io_free(oom->io);
    close(oom->fd);
    free(oom);
}
