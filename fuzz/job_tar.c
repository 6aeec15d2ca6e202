/* The unpacker of the job helper: archives come from the platform and from earlier jobs. Beneath a scratch folder; nothing may appear beside it. */
#include "job/tar.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static bool is_canary(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char outer[] = "/dev/shm/tidemill-fuzz-XXXXXX";
    char inner[64], canary[64];
    if (size > 64 * KIB || !mkdtemp(outer))
        return 0;
    snprintf(inner, sizeof inner, "%s/in", outer);
    snprintf(canary, sizeof canary, "%s/canary", outer);
    ASSERT(mkdir(inner, 0700) == 0);
    int fd = open(canary, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    fd = open(inner, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct tar_unpacker *unpacker = tar_unpacker_new(fd);
    struct slice rest = slice_make(data, size);
    int r = unpacker ? 0 : -ENOMEM;
    while (r == 0 && rest.len) {
        struct slice piece = slice_head(rest, 700);
        r = tar_unpacker_feed(unpacker, piece);
        rest = slice_from(rest, piece.len);
    }
    tar_unpacker_free(unpacker);
    close(fd);
    ASSERT(is_canary(canary));
    struct stat status;
    ASSERT(stat(outer, &status) == 0 && status.st_nlink == 3); /* itself, ".", and "in": no folder was made beside it */
    nftw(outer, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
