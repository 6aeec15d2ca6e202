/* Tar layers: whatever the bytes, nothing outside the layer's folder may change. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "runtime/runtime.h"
#include "sys/sys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reader {
    struct slice rest;
};

static ssize_t on_read(void *userdata, const void **ret_bytes) {
    struct reader *reader = userdata;
    size_t n = MIN(reader->rest.len, (size_t)700);
    *ret_bytes = reader->rest.data;
    reader->rest = slice_from(reader->rest, n);
    return (ssize_t)n;
}

/* Made once: DIR/outside/secret is the canary. */
static const char *area(void) {
    static char dir[64];
    char path[96];
    if (dir[0])
        return dir;
    snprintf(dir, sizeof dir, "/dev/shm/fuzz-layer-XXXXXX");
    ASSERT(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/outside", dir);
    ASSERT(mkdir(path, 0755) == 0);
    snprintf(path, sizeof path, "%s/outside/secret", dir);
    ASSERT(sys_write_file_fast(AT_FDCWD, path, SLICE("secret"), 0600) == 0);
    snprintf(path, sizeof path, "%s/lower", dir);
    ASSERT(mkdir(path, 0755) == 0);
    snprintf(path, sizeof path, "%s/lower/a", dir);
    ASSERT(symlink("../outside", path) == 0);
    return dir;
}

static void check_canary(const char *dir) {
    char path[96], text[16] = "";
    int entries = 0;
    snprintf(path, sizeof path, "%s/outside", dir);
    DIR *folder = opendir(path);
    ASSERT(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        entries++;
    closedir(folder);
    ASSERT(entries == 3);
    snprintf(path, sizeof path, "%s/outside/secret", dir);
    struct stat st;
    ASSERT(stat(path, &st) == 0 && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ASSERT(fd >= 0 && read(fd, text, sizeof text - 1) == 6 && strcmp(text, "secret") == 0);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *dir = area();
    char path[96];
    struct reader reader = {.rest = slice_make(data, size)};
    struct diag diag = DIAG_INIT;
    snprintf(path, sizeof path, "%s/root", dir);
    if (mkdir(path, 0755) < 0)
        return 0;
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/lower", dir);
    int lower = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct layer_options options = {
        .root_fd = root, .lower_fds = &lower, .lower_count = 1, .keep_owner = false, .bytes_max = 256 * KIB, .entries_max = 200};
    layer_apply(on_read, &reader, &options, &diag);
    close(root);
    close(lower);
    snprintf(path, sizeof path, "%s/root", dir);
    ASSERT(sys_remove_tree(AT_FDCWD, path) == 0);
    check_canary(dir);
    return 0;
}
