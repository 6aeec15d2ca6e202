/* Packing a folder.
 *
 * 1. Equal trees give equal bytes: sorted names, owner 0, no access times. Builders cache by content.
 * 2. Nothing is followed: every step is openat with O_NOFOLLOW from the folder's descriptor, so a link in the sources cannot make us read outside.
 * 3. A file that shrinks while it is read is filled up with zeros and one that grows is cut, since its size was already announced. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/tar_priv.h"

#define PIECE_BYTES (64 * KIB)
#define OCTAL_SIZE_MAX 077777777777LL

unsigned tar_checksum(const struct tar_header *header) {
    const unsigned char *bytes = (const unsigned char *)header;
    size_t from = offsetof(struct tar_header, checksum), to = from + sizeof header->checksum;
    unsigned sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= from && i < to ? ' ' : bytes[i];
    return sum;
}

static int emit(struct tar_packer *packer, const void *bytes, size_t length) {
    packer->bytes += length;
    return packer->bytes > TAR_BYTES_MAX ? -EFBIG : packer->sink(packer->userdata, slice_make(bytes, length));
}

static int emit_padding(struct tar_packer *packer, uint64_t length) {
    static const char zeros[TAR_BLOCK];
    size_t rest = (size_t)(length % TAR_BLOCK);
    return rest ? emit(packer, zeros, TAR_BLOCK - rest) : 0;
}

/* --- headers --- */

static void put_octal(char *field, size_t size, uint64_t value) {
    for (size_t i = size - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
    field[size - 1] = 0;
}

static int emit_header(struct tar_packer *packer, const char *name, const char *link, const struct stat *status, char type, uint64_t size) {
    struct tar_header header = {.type = type, .magic = "ustar", .version = {'0', '0'}};
    memcpy(header.name, name, MIN(strlen(name), sizeof header.name));
    memcpy(header.link, link, MIN(strlen(link), sizeof header.link));
    put_octal(header.mode, sizeof header.mode, status ? status->st_mode & 07777 : 0644);
    put_octal(header.uid, sizeof header.uid, 0);
    put_octal(header.gid, sizeof header.gid, 0);
    put_octal(header.size, sizeof header.size, size <= OCTAL_SIZE_MAX ? size : 0);
    put_octal(header.mtime, sizeof header.mtime, status && status->st_mtime > 0 ? (uint64_t)status->st_mtime : 0);
    put_octal(header.checksum, 7, tar_checksum(&header));
    header.checksum[7] = ' ';
    return emit(packer, &header, sizeof header);
}

/* "length key=value\n", where length counts itself. */
static void add_record(struct buffer *out, const char *key, const char *value) {
    size_t body = strlen(key) + strlen(value) + 3, length = body, digits;
    do {
        digits = (size_t)snprintf(NULL, 0, "%zu", length);
        if (length == body + digits)
            break;
        length = body + digits;
    } while (true);
    buffer_printf(out, "%zu %s=%s\n", length, key, value);
}

/* An extended header in front of what does not fit into the plain one. */
static int emit_extended(struct tar_packer *packer, const char *name, const char *link, uint64_t size) {
    CLEANUP(buffer_deinit) struct buffer records = BUFFER_INIT(TAR_EXTENDED_BYTES_MAX);
    char number[24];
    if (strlen(name) > 100)
        add_record(&records, "path", name);
    if (strlen(link) > 100)
        add_record(&records, "linkpath", link);
    snprintf(number, sizeof number, "%" PRIu64, size);
    if (size > OCTAL_SIZE_MAX)
        add_record(&records, "size", number);
    if (buffer_error(&records) || records.len == 0)
        return buffer_error(&records);
    int r = emit_header(packer, "pax", "", NULL, 'x', records.len);
    r = r ? r : emit(packer, records.data, records.len);
    return r ? r : emit_padding(packer, records.len);
}

static int emit_entry(struct tar_packer *packer, const char *name, const char *link, const struct stat *status, char type, uint64_t size) {
    if (++packer->entries > TAR_ENTRIES_MAX)
        return -E2BIG;
    int r = emit_extended(packer, name, link, size);
    return r ? r : emit_header(packer, name, link, status, type, size);
}

/* --- contents --- */

static int emit_file(struct tar_packer *packer, int fd, uint64_t size) {
    char piece[PIECE_BYTES];
    for (uint64_t left = size; left > 0;) {
        size_t wanted = (size_t)MIN(left, (uint64_t)sizeof piece);
        ssize_t n = read(fd, piece, wanted);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            memset(piece, 0, wanted);
            n = (ssize_t)wanted;
        }
        int r = emit(packer, piece, (size_t)n);
        if (r < 0)
            return r;
        left -= (uint64_t)n;
    }
    return emit_padding(packer, size);
}

static int pack_file(struct tar_packer *packer, int folder_fd, const char *leaf, const char *name) {
    CLEANUP(fd_closep) int fd = openat(folder_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return 0; /* it became something else meanwhile */
    int r = emit_entry(packer, name, "", &status, '0', (uint64_t)status.st_size);
    return r ? r : emit_file(packer, fd, (uint64_t)status.st_size);
}

static int pack_link(struct tar_packer *packer, int folder_fd, const char *leaf, const char *name, const struct stat *status) {
    char target[TAR_PATH_MAX];
    ssize_t n = readlinkat(folder_fd, leaf, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = 0;
    return emit_entry(packer, name, target, status, '2', 0);
}

static int pack_folder(struct tar_packer *packer, int folder_fd, const char *name, int depth);

static int pack_item(struct tar_packer *packer, int folder_fd, const char *leaf, const char *name, int depth) {
    struct stat status;
    if (fstatat(folder_fd, leaf, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    bool is_folder = S_ISDIR(status.st_mode);
    enum tar_choice choice = packer->choose ? packer->choose(packer->userdata, slice_of(name), is_folder) : TAR_TAKE;
    if (choice != TAR_TAKE && !(is_folder && choice == TAR_SKIP))
        return 0;
    if (S_ISREG(status.st_mode))
        return pack_file(packer, folder_fd, leaf, name);
    if (S_ISLNK(status.st_mode))
        return pack_link(packer, folder_fd, leaf, name, &status);
    if (!is_folder)
        return 0;
    CLEANUP(fd_closep) int fd = openat(folder_fd, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char slashed[TAR_PATH_MAX + 2];
    snprintf(slashed, sizeof slashed, "%s/", name);
    int r = choice == TAR_TAKE ? emit_entry(packer, slashed, "", &status, '5', 0) : 0;
    return r ? r : pack_folder(packer, fd, name, depth + 1);
}

static int is_real_name(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int compare_names(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* name: of the folder inside the archive, empty at the top. */
static int pack_folder(struct tar_packer *packer, int folder_fd, const char *name, int depth) {
    struct dirent **entries = NULL;
    char inner[TAR_PATH_MAX];
    if (depth > TAR_DEPTH_MAX)
        return -ELOOP;
    int count = scandirat(folder_fd, ".", &entries, is_real_name, compare_names);
    int r = count < 0 ? -errno : 0;
    for (int i = 0; i < count; i++) {
        int length = snprintf(inner, sizeof inner, "%s%s%s", name, *name ? "/" : "", entries[i]->d_name);
        if (r == 0)
            r = (size_t)length >= sizeof inner ? -ENAMETOOLONG : pack_item(packer, folder_fd, entries[i]->d_name, inner, depth);
        if (r < 0 && !packer->failed_path[0])
            snprintf(packer->failed_path, sizeof packer->failed_path, "%.200s", inner);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int tar_pack(struct tar_packer *packer, int folder_fd) {
    return pack_folder(packer, folder_fd, "", 0);
}

int tar_pack_path(struct tar_packer *packer, int folder_fd, const char *path, const char *name) {
    char plain[TAR_PATH_MAX];
    size_t length = strlen(name);
    while (length > 1 && name[length - 1] == '/')
        length--;
    snprintf(plain, sizeof plain, "%.*s", (int)MIN(length, sizeof plain - 1), name);
    int r = length >= TAR_PATH_MAX ? -ENAMETOOLONG : pack_item(packer, folder_fd, path, plain, 0);
    if (r < 0 && !packer->failed_path[0])
        snprintf(packer->failed_path, sizeof packer->failed_path, "%.200s", name);
    return r;
}

int tar_pack_end(struct tar_packer *packer) {
    static const char zeros[2 * TAR_BLOCK];
    return emit(packer, zeros, sizeof zeros);
}
