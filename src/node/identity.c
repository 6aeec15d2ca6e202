/* Users of an image: its /etc/passwd and /etc/group, read through the layers from the highest down, never through the host's name service. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define FILE_BYTES_MAX (1 * MIB)

/* Opens the file as the highest layer that has it (or hides it). */
static int read_from_layers(const char *const *layers, size_t count, const char *path, struct buffer *out) {
    for (size_t i = 0; i < count; i++) {
        struct stat st;
        CLEANUP(fd_closep) int root = open(layers[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
        CLEANUP(fd_closep) int fd = root < 0 ? -1 : sys_open_in_root(root, path, O_PATH | O_CLOEXEC, 0);
        if (fd < 0 || fstat(fd, &st) < 0)
            continue;
        if (!S_ISREG(st.st_mode))
            return -ENOENT;
        char self[64];
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        return sys_read_file(AT_FDCWD, self, FILE_BYTES_MAX, out);
    }
    return -ENOENT;
}

/* The fields of a line "a:b:c". */
static size_t split(struct slice line, struct slice *fields, size_t max) {
    size_t count = 0;
    while (line.data && count < max)
        fields[count++] = slice_cut(&line, ':');
    return count;
}

static bool number_of(struct slice text, uint32_t *ret) {
    uint64_t value;
    if (slice_parse_u64(text, UINT32_MAX - 1, &value) < 0)
        return false;
    *ret = (uint32_t)value;
    return true;
}

/* Looks a user up by name or number; what is found fills uid, gid and home, and *name, by which groups know it. */
static bool find_user(struct slice passwd, struct slice user, struct identity *identity, struct slice *name) {
    uint32_t wanted, uid, gid;
    bool by_number = number_of(user, &wanted);
    for (struct slice rest = passwd; rest.data;) {
        struct slice fields[7];
        size_t count = split(slice_cut(&rest, '\n'), fields, ARRAY_LEN(fields));
        if (count < 6 || !number_of(fields[2], &uid) || !number_of(fields[3], &gid))
            continue;
        if (by_number ? uid != wanted : !slice_equal(fields[0], user))
            continue;
        identity->uid = uid;
        identity->gid = gid;
        *name = fields[0];
        snprintf(identity->home, sizeof identity->home, "%.*s", SLICE_ARG(fields[5]));
        return true;
    }
    if (by_number)
        identity->uid = wanted;
    return by_number;
}

static bool find_group(struct slice groups, struct slice group, gid_t *ret) {
    uint32_t gid;
    if (number_of(group, &gid)) {
        *ret = gid;
        return true;
    }
    for (struct slice rest = groups; rest.data;) {
        struct slice fields[4];
        size_t count = split(slice_cut(&rest, '\n'), fields, ARRAY_LEN(fields));
        if (count < 3 || !slice_equal(fields[0], group) || !number_of(fields[2], &gid))
            continue;
        *ret = gid;
        return true;
    }
    return false;
}

static bool is_member(struct slice members, struct slice name) {
    while (members.data)
        if (slice_equal(slice_cut(&members, ','), name))
            return true;
    return false;
}

static void add_groups(struct slice groups, struct slice name, struct identity *identity) {
    uint32_t gid;
    for (struct slice rest = groups; rest.data && identity->groups_count < ARRAY_LEN(identity->groups);) {
        struct slice fields[4];
        size_t count = split(slice_cut(&rest, '\n'), fields, ARRAY_LEN(fields));
        if (count == 4 && is_member(slice_trim(fields[3]), name) && number_of(fields[2], &gid))
            identity->groups[identity->groups_count++] = gid;
    }
}

bool identity_has_group(const struct identity *identity, gid_t group) {
    for (size_t i = 0; i < identity->groups_count; i++)
        if (identity->groups[i] == group)
            return true;
    return false;
}

int identity_resolve(const char *const *layers, size_t count, const char *user, struct identity *ret, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer passwd = BUFFER_INIT(FILE_BYTES_MAX + 1);
    CLEANUP(buffer_deinit) struct buffer groups = BUFFER_INIT(FILE_BYTES_MAX + 1);
    struct identity identity = {.home = "/"};
    struct slice rest = slice_of(*user ? user : "0");
    struct slice name = slice_cut(&rest, ':');
    read_from_layers(layers, count, "etc/passwd", &passwd); /* an image without one has numbers only */
    read_from_layers(layers, count, "etc/group", &groups);
    if (!find_user(buffer_slice(&passwd), name, &identity, &name))
        return diag_set(diag, -ENOENT, "unable to find user %.*s: no matching entries in passwd file", SLICE_ARG(name));
    if (identity.uid == 0 && strcmp(identity.home, "/") == 0)
        snprintf(identity.home, sizeof identity.home, "/root");
    if (rest.len && !find_group(buffer_slice(&groups), rest, &identity.gid))
        return diag_set(diag, -ENOENT, "unable to find group %.*s: no matching entries in group file", SLICE_ARG(rest));
    if (!rest.len)
        add_groups(buffer_slice(&groups), name, &identity);
    *ret = identity;
    return 0;
}
