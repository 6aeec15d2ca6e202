/* The door to the operating system for everything that is no event: clock, random bytes, files, sockets. Negative errno on failure, as everywhere. */
#ifndef TIDEMILL_SYS_H
#define TIDEMILL_SYS_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/base.h"

int64_t sys_monotonic_ns(void);
int64_t sys_wall_ns(void);
/* GOARCH of this machine ("amd64", "arm64", …) and its variant ("", "v8"); ret_variant may be NULL. */
const char *sys_architecture(const char **ret_variant);
/* The id of this boot, 36 characters and NUL; "" when the kernel does not tell. */
void sys_boot_id(char ret[37]);
/* Cryptographic; never fails (getrandom). */
void sys_random(void *bytes, size_t len);
/* A random version 4 UUID, 36 characters and NUL. */
void sys_uuid(char ret[37]);
/* `len` random characters of [a-z0-9] without look-alikes (Kubernetes' bcdfghjklmnpqrstvwxz2456789), plus NUL. */
void sys_random_name(char *ret, size_t len);

/* The machine's time zones: files by their names ("Europe/Berlin"). */
#define SYS_ZONES_FOLDER "/usr/share/zoneinfo"

/* The whole file, at most bytes_max (-EFBIG); appended to `out`. dir_fd AT_FDCWD or a folder. */
int sys_read_file(int dir_fd, const char *path, size_t bytes_max, struct buffer *out);
/* Replaces the file atomically and durably: temporary file beside it, fsync, rename, fsync of the folder. */
int sys_write_file(int dir_fd, const char *path, struct slice bytes, mode_t mode);
/* As above without the fsyncs: for files that are rebuilt after a crash. */
int sys_write_file_fast(int dir_fd, const char *path, struct slice bytes, mode_t mode);
/* Writes to an existing file such as one of /proc or a cgroup. */
int sys_write_existing(int dir_fd, const char *path, struct slice bytes);
/* mkdir -p; existing folders are fine. */
int sys_mkdirs(const char *path, mode_t mode);
/* rm -rf beneath dir_fd without following links or crossing into mounts (-EBUSY); absent is fine. */
int sys_remove_tree(int dir_fd, const char *path);
/* The same, on a worker thread; -ECANCELED soon after somebody sets *stop, with a part of it left. stop may be NULL. */
int sys_remove_tree_until(int dir_fd, const char *path, const atomic_bool *stop);
/* The disk space that a file or tree takes, without following links or crossing into other file systems; what cannot be read counts nothing. */
uint64_t sys_tree_bytes(const char *path);
struct sys_usage {
    uint64_t bytes, entries; /* each name counts, also a second one of the same file */
};
void sys_tree_usage(const char *path, struct sys_usage *ret);
/* The same, less of it when somebody sets *stop meanwhile. stop may be NULL. */
void sys_tree_usage_until(const char *path, const atomic_bool *stop, struct sys_usage *ret);
/* openat2 with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS: never leaves dir_fd (-EXDEV). Returns a descriptor. */
int sys_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);
/* openat2 with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: absolute links and ".." are resolved inside dir_fd as in a chroot. */
int sys_open_in_root(int dir_fd, const char *path, int flags, mode_t mode);
/* An exclusive lock file that dies with the process; returns the descriptor, -EBUSY when another process holds it. */
int sys_lock_file(const char *path);
int sys_write_all(int fd, struct slice bytes);
int sys_set_nonblocking(int fd, bool on);

/* "127.0.0.1:8080", "[::1]:80", ":80" (any address), "unix:/path". */
struct sys_address {
    struct sockaddr_storage storage;
    socklen_t len;
};
int sys_address_parse(const char *text, struct sys_address *ret);
/* Into text; returns text. */
char *sys_address_format(const struct sys_address *address, char *text, size_t size);
/* A listening, non-blocking, CLOEXEC socket: SO_REUSEADDR, IP_FREEBIND (so that a bridge's address may come later); a unix path
 * whose owner is dead is replaced (-EADDRINUSE when it lives, -EEXIST when it is no socket). mode: of a unix socket. */
int sys_listen(const struct sys_address *address, int backlog, mode_t mode);
/* A non-blocking socket whose connect is under way (-EINPROGRESS is no error). */
int sys_connect(const struct sys_address *address);
/* The uid, gid and pid of the other end of a unix socket. */
int sys_peer_credentials(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);
/* TCP_NODELAY and keep-alive; ignored for unix sockets. */
void sys_tune_tcp(int fd);

/* A thread to be joined that no signal reaches: those are the loop's. Its own threads inherit that. */
int sys_thread_start(pthread_t *ret, void *(*main)(void *), void *argument);

/* Fault injection for tests: the `after`-th next system call that can fail, within this folder and this thread, fails with -error; 0 switches it
 * off. */
void sys_fault_set(int after, int error);
/* Before an operation that changes the world: "write", "rename", "remove", "mkdir", "mount", "unmount", "netlink", "nftables", "spawn", "spawned"
 * (which cannot fail), "send", "cgroup". 0; or, when a test wants it so, a negative errno to fail with instead of carrying it out (or no return at
 * all). See fault.c. */
int sys_point(const char *operation);

#endif
