#include "runtime/program.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "sys/sys.h"

#define PROGRAM_BYTES_MAX (64 * MIB)
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

int program_find(struct program *program, const char *name, struct diag *diag) {
    const char *search = getenv("PATH");
    const struct slice lists[] = {slice_of(search ? search : ""), SLICE("/usr/bin:/usr/local/bin:/usr/sbin:/usr/local/sbin:/bin")};
    *program = (struct program){.fd = -1};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (struct slice rest = lists[i]; rest.data;) {
            struct slice folder = slice_cut(&rest, ':');
            snprintf(program->path, sizeof program->path, "%.*s/%s", SLICE_ARG(folder), name);
            if (folder.len && folder.data[0] == '/' && access(program->path, X_OK) == 0)
                return 0;
        }
    diag_hint(diag, 0, "apt install %s", name);
    return diag_set(diag, -ENOENT, "the program %s is not installed", name);
}

void program_deinit(struct program *program) {
    if (program->copy[0])
        close(program->fd);
    program->copy[0] = 0;
}

static int fill_sealed(int from, off_t size, int to) {
    for (off_t left = size; left > 0;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)left);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        left -= n;
    }
    return fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0 ? -errno : 0;
}

/* MFD_EXEC is asked for where memory files cannot be executed by default, and unknown before Linux 6.3. */
int program_open_memory(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

int program_seal(const char *name, struct slice bytes) {
    CLEANUP(fd_closep) int fd = program_open_memory(name);
    int r = fd < 0 ? fd : sys_write_all(fd, bytes);
    if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

static int copy(const char *path, const struct stat *st) {
    CLEANUP(fd_closep) int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0 || !S_ISREG(st->st_mode) || (uint64_t)st->st_size > PROGRAM_BYTES_MAX)
        return -EINVAL;
    CLEANUP(fd_closep) int to = program_open_memory("crun");
    int r = to < 0 ? to : fill_sealed(from, st->st_size, to);
    return r < 0 ? r : TAKE_FD(to);
}

/* Under the same number, so that a path handed out a moment ago is good. */
static void take_copy(struct program *program, int fd) {
    if (program->copy[0]) {
        dup3(fd, program->fd, O_CLOEXEC);
        close(fd);
        return;
    }
    program->fd = fd;
    snprintf(program->copy, sizeof program->copy, "/proc/%d/fd/%d", (int)getpid(), fd);
}

const char *program_sealed(struct program *program) {
    struct stat st;
    if (stat(program->path, &st) == 0) {
        int64_t changed_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
        bool same = program->device == st.st_dev && program->inode == st.st_ino && program->changed_ns == changed_ns;
        int fd = same ? -1 : copy(program->path, &st);
        program->device = st.st_dev;
        program->inode = st.st_ino;
        program->changed_ns = changed_ns;
        if (fd >= 0)
            take_copy(program, fd);
    }
    return program->copy[0] ? program->copy : program->path;
}
