/* Sockets and their addresses as people write them. Names are not resolved here (http/ does, once, at the creation of a client): an address is a
 * number. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "sys/sys_priv.h"

static int parse_unix(const char *path, struct sys_address *ret) {
    struct sockaddr_un *address = (struct sockaddr_un *)&ret->storage;
    size_t len = strlen(path);
    if (len == 0)
        return -EINVAL;
    if (len >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, len + 1);
    ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

/* Any address: the IPv6 wildcard takes IPv4 as well, but not on machines without IPv6; so the IPv4 one. */
static int parse_host(struct slice host, uint16_t port, struct sys_address *ret) {
    char text[INET6_ADDRSTRLEN + 2];
    struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->storage;
    if (host.len >= sizeof text)
        return -EINVAL;
    bool bracketed = host.len >= 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    if (bracketed)
        host = slice_make(host.data + 1, host.len - 2);
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(host));
    if (bracketed) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        ret->len = sizeof *v6;
        return inet_pton(AF_INET6, text, &v6->sin6_addr) == 1 ? 0 : -EINVAL;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    ret->len = sizeof *v4;
    return host.len == 0 || inet_pton(AF_INET, text, &v4->sin_addr) == 1 ? 0 : -EINVAL;
}

int sys_address_parse(const char *text, struct sys_address *ret) {
    struct sys_address parsed = {.len = 0};
    uint64_t port = 0;
    int r;
    if (strncmp(text, "unix:", 5) == 0) {
        r = parse_unix(text + 5, &parsed);
    } else {
        const char *colon = strrchr(text, ':');
        if (!colon || slice_parse_u64(slice_of(colon + 1), UINT16_MAX, &port) < 0)
            return -EINVAL;
        r = parse_host(slice_make(text, (size_t)(colon - text)), (uint16_t)port, &parsed);
    }
    if (r == 0)
        *ret = parsed;
    return r;
}

char *sys_address_format(const struct sys_address *address, char *text, size_t size) {
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
    const struct sockaddr_un *local = (const struct sockaddr_un *)&address->storage;
    switch (address->storage.ss_family) {
    case AF_INET:
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, size, "%s:%u", host, ntohs(v4->sin_port));
        return text;
    case AF_INET6:
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, ntohs(v6->sin6_port));
        return text;
    case AF_UNIX:
        if (address->len <= offsetof(struct sockaddr_un, sun_path) || local->sun_path[0] == '\0')
            snprintf(text, size, "unix");
        else
            snprintf(text, size, "unix:%.*s", (int)sizeof local->sun_path, local->sun_path);
        return text;
    default: snprintf(text, size, "?"); return text;
    }
}

#define DYING_LOOKS 15
#define DYING_LOOK_NS 20000000

static int open_socket(const struct sys_address *address) {
    int r = sys_fault_check();
    if (r < 0)
        return r;
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

/* 1: somebody listens there; 0: nobody does. */
static int is_answered(const struct sys_address *address) {
    CLEANUP(fd_closep) int probe = open_socket(address);
    if (probe < 0)
        return probe;
    return connect(probe, (const struct sockaddr *)&address->storage, address->len) == 0 || errno == EAGAIN;
}

/* Binds a unix socket. A path left behind by a dead process (connecting is refused) is replaced; a living one is -EADDRINUSE, anything but a socket
 * is left alone. One that was killed a moment ago may still be dying, or a child of its that was about to start another program. */
static int bind_unix(int fd, const struct sys_address *address, mode_t mode) {
    const char *path = ((const struct sockaddr_un *)&address->storage)->sun_path;
    struct stat status;
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode))
            return -EEXIST;
        int r = is_answered(address);
        for (int i = 0; r == 1 && i < DYING_LOOKS; i++) {
            nanosleep(&(struct timespec){.tv_nsec = DYING_LOOK_NS}, NULL);
            r = is_answered(address);
        }
        if (r != 0)
            return r < 0 ? r : -EADDRINUSE;
        if (unlink(path) < 0 && errno != ENOENT)
            return -errno;
    }
    if (bind(fd, (const struct sockaddr *)&address->storage, address->len) < 0)
        return -errno;
    return chmod(path, mode) < 0 ? -errno : 0;
}

static int bind_inet(int fd, const struct sys_address *address) {
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) < 0)
        return -errno;
    return bind(fd, (const struct sockaddr *)&address->storage, address->len) < 0 ? -errno : 0;
}

int sys_listen(const struct sys_address *address, int backlog, mode_t mode) {
    CLEANUP(fd_closep) int fd = open_socket(address);
    if (fd < 0)
        return fd;
    int r = address->storage.ss_family == AF_UNIX ? bind_unix(fd, address, mode) : bind_inet(fd, address);
    if (r == 0)
        r = sys_fault_check();
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

int sys_connect(const struct sys_address *address) {
    CLEANUP(fd_closep) int fd = open_socket(address);
    if (fd < 0)
        return fd;
    int r = sys_fault_check();
    if (r < 0)
        return r;
    while (connect(fd, (const struct sockaddr *)&address->storage, address->len) < 0) {
        if (errno == EINPROGRESS)
            break;
        if (errno != EINTR)
            return -errno;
    }
    return TAKE_FD(fd);
}

int sys_peer_credentials(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid) {
    struct ucred credentials;
    socklen_t len = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
        return -errno;
    *ret_uid = credentials.uid;
    *ret_gid = credentials.gid;
    *ret_pid = credentials.pid;
    return 0;
}

void sys_tune_tcp(int fd) {
    int one = 1, idle_s = 60, interval_s = 15, count = 4;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
        return; /* a unix socket */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}
