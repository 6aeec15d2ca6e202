/* Which file the roles are started from. Roles that drop root's privileges must be able to reach it by path; a program that was built below a closed
 * folder, such as /root with mode 0700, is copied beneath the state folder first, with its helper. The copy is made anew at a start of another
 * version. */
#include "cli/roles_priv.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/sys.h"

#define EXECUTABLE_BYTES_MAX (64 * MIB)

const char *executable_closed_folder(struct arena *arena, const char *path) {
    for (size_t len = 1; path[0] == '/' && path[len - 1]; len++) {
        struct stat info;
        if (path[len] != '/' && path[len])
            continue;
        const char *part = arena_dup(arena, slice_make(path, len));
        if (part && stat(part, &info) == 0 && S_ISDIR(info.st_mode) && !(info.st_mode & S_IXOTH))
            return part;
    }
    return NULL;
}

const char *executable_own_path(struct arena *arena) {
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
    return len < 0 ? NULL : arena_dup(arena, slice_make(path, (size_t)len));
}

/* The helper lies beside this program in the build tree, and in PREFIX/lib/tidemill when installed. */
const char *executable_helper(struct arena *arena) {
    static const char *const places[] = {"tidemill-job", "src/job/tidemill-job", "../lib/tidemill/tidemill-job"};
    const char *path = executable_own_path(arena), *slash = path ? strrchr(path, '/') : NULL;
    for (size_t i = 0; slash && i < ARRAY_LEN(places); i++) {
        const char *candidate = arena_printf(arena, "%.*s/%s", (int)(slash - path), path, places[i]);
        if (candidate && access(candidate, X_OK) == 0)
            return candidate;
    }
    return NULL;
}

/* The same bytes stay the same file: by it the supervisor knows whether a role is up to date. */
static int copy(const char *from, const char *to) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(EXECUTABLE_BYTES_MAX), there = BUFFER_INIT(EXECUTABLE_BYTES_MAX);
    int r = sys_read_file(AT_FDCWD, from, EXECUTABLE_BYTES_MAX, &bytes);
    if (r == 0 && sys_read_file(AT_FDCWD, to, EXECUTABLE_BYTES_MAX, &there) == 0 && slice_equal(buffer_slice(&bytes), buffer_slice(&there)))
        return 0;
    return r < 0 ? r : sys_write_file_fast(AT_FDCWD, to, buffer_slice(&bytes), 0755);
}

const char *executable_for_roles(const struct settings *settings, struct diag *diag) {
    const char *path = executable_own_path(settings->arena), *helper = executable_helper(settings->arena);
    if (!path) {
        diag_set(diag, -ENOENT, "cannot find the path of this program: is /proc mounted?");
        return NULL;
    }
    if (!executable_closed_folder(settings->arena, path))
        return path;
    const char *folder = settings_path(settings, settings->state, "bin"), *target = settings_path(settings, folder, "tidemill");
    int r = sys_mkdirs(folder, 0755);
    if (r == 0)
        r = copy(path, target);
    if (r == 0 && helper)
        r = copy(helper, settings_path(settings, folder, "tidemill-job"));
    if (r == 0)
        return target;
    diag_set(diag, r, "cannot copy the program to %s: %s", folder, strerror(-r));
    return NULL;
}
