/* From a tar to a layer, in one pass: libarchive reads and writes the entries again (so any tar comes out in one dialect, without device nodes), each
 * block goes through the digest of the tar, gzip, the digest of the layer, and into the file. Level 1: a base image is compressed once and unpacked
 * from the local disk. */
#include "registry/layer_priv.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "http/http.h"
#include "sys/sys.h"

#define PIECE_BYTES (128 * KIB)
#define LAYER_BYTES_MAX ((int64_t)(16 * GIB))

struct compressor {
    int fd;
    int error; /* the first, negative errno */
    struct digest *tar_digest, *layer_digest;
    z_stream stream;
    bool stream_open;
    int64_t tar_bytes, layer_bytes;
    unsigned char out[PIECE_BYTES];
};

static void compressor_free(struct compressor *compressor) {
    if (!compressor)
        return;
    fd_closep(&compressor->fd);
    digest_free(compressor->tar_digest);
    digest_free(compressor->layer_digest);
    if (compressor->stream_open)
        deflateEnd(&compressor->stream);
    free(compressor);
}
DEFINE_CLEANUP(struct compressor, compressor_free)

static int open_temporary(void) {
    const char *folder = getenv("TMPDIR");
    int fd = open(folder && *folder ? folder : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

static int compressor_new(struct compressor **ret) {
    CLEANUP(compressor_freep) struct compressor *compressor = calloc(1, sizeof *compressor);
    if (!compressor)
        return -ENOMEM;
    compressor->fd = open_temporary();
    if (compressor->fd < 0)
        return compressor->fd;
    compressor->tar_digest = digest_new();
    compressor->layer_digest = digest_new();
    compressor->stream_open = deflateInit2(&compressor->stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    if (!compressor->tar_digest || !compressor->layer_digest || !compressor->stream_open)
        return -ENOMEM;
    *ret = TAKE(compressor);
    return 0;
}

static int deflate_piece(struct compressor *compressor, struct slice bytes, bool finish) {
    z_stream *stream = &compressor->stream;
    digest_update(compressor->tar_digest, bytes);
    compressor->tar_bytes += (int64_t)bytes.len;
    if (compressor->tar_bytes > LAYER_BYTES_MAX)
        return -EFBIG;
    stream->next_in = (unsigned char *)(uintptr_t)bytes.data;
    stream->avail_in = (unsigned)bytes.len;
    int r = 0, z;
    do {
        stream->next_out = compressor->out;
        stream->avail_out = sizeof compressor->out;
        z = deflate(stream, finish ? Z_FINISH : Z_NO_FLUSH);
        struct slice piece = slice_make(compressor->out, sizeof compressor->out - stream->avail_out);
        digest_update(compressor->layer_digest, piece);
        compressor->layer_bytes += (int64_t)piece.len;
        r = sys_write_all(compressor->fd, piece);
    } while (r == 0 && (finish ? z != Z_STREAM_END : stream->avail_out == 0));
    return r;
}

static la_ssize_t on_write(struct archive *archive, void *userdata, const void *bytes, size_t length) {
    struct compressor *compressor = userdata;
    size_t taken = MIN(length, PIECE_BYTES);
    int r = deflate_piece(compressor, slice_make(bytes, taken), false);
    if (r == 0)
        return (la_ssize_t)taken;
    compressor->error = compressor->error ? compressor->error : r;
    archive_set_error(archive, -r, "%s", strerror(-r));
    return -1;
}

/* --- the entries --- */

static int copy_data(struct archive *from, struct archive *to) {
    const void *bytes;
    size_t length;
    la_int64_t offset;
    for (;;) {
        int r = archive_read_data_block(from, &bytes, &length, &offset);
        if (r == ARCHIVE_EOF)
            return ARCHIVE_OK;
        if (r < ARCHIVE_WARN)
            return r;
        if (archive_write_data(to, bytes, length) < 0)
            return ARCHIVE_FATAL;
    }
}

static bool is_device(struct archive_entry *entry) {
    mode_t type = archive_entry_filetype(entry);
    return (type == AE_IFCHR || type == AE_IFBLK) && !archive_entry_hardlink(entry);
}

static int copy_entries(struct archive *from, struct archive *to, size_t *ret_entries) {
    struct archive_entry *entry;
    for (;;) {
        int r = archive_read_next_header(from, &entry);
        if (r == ARCHIVE_EOF)
            return ARCHIVE_OK;
        if (r < ARCHIVE_WARN)
            return r;
        if (is_device(entry))
            continue;
        if (archive_write_header(to, entry) < ARCHIVE_WARN)
            return ARCHIVE_FATAL;
        r = archive_entry_size(entry) > 0 ? copy_data(from, to) : ARCHIVE_OK;
        if (r < ARCHIVE_WARN)
            return r;
        ++*ret_entries;
    }
}

static int copy_archive(int tar_fd, struct compressor *compressor, size_t *ret_entries, struct diag *diag) {
    struct archive *from = archive_read_new(), *to = archive_write_new();
    int r = -ENOMEM;
    if (from && to) {
        bool ready =
            archive_read_support_format_tar(from) == ARCHIVE_OK && archive_read_support_filter_gzip(from) >= ARCHIVE_WARN &&
            archive_read_support_filter_zstd(from) >= ARCHIVE_WARN && archive_read_open_fd(from, tar_fd, PIECE_BYTES) == ARCHIVE_OK &&
            archive_write_set_format_pax_restricted(to) == ARCHIVE_OK && archive_write_set_bytes_per_block(to, (int)PIECE_BYTES) == ARCHIVE_OK &&
            archive_write_set_bytes_in_last_block(to, 1) == ARCHIVE_OK && archive_write_open(to, compressor, NULL, on_write, NULL) == ARCHIVE_OK;
        bool good = ready && copy_entries(from, to, ret_entries) == ARCHIVE_OK;
        good = archive_write_close(to) == ARCHIVE_OK && good;
        const char *reading = archive_error_string(from), *writing = archive_error_string(to);
        r = good ? 0 : compressor->error ? compressor->error : -EBADMSG;
        if (r < 0)
            diag_set(diag, r, "cannot make a layer of the root filesystem: %s", reading ? reading : writing ? writing : "it is no tar archive");
    }
    archive_read_free(from);
    archive_write_free(to);
    return r;
}

int layer_make(int tar_fd, struct layer *ret, struct diag *diag) {
    CLEANUP(compressor_freep) struct compressor *compressor = NULL;
    size_t entries = 0;
    int r = compressor_new(&compressor);
    if (r < 0)
        return diag_set(diag, r, "cannot make a temporary file for the image's layer: %s", strerror(-r));
    r = copy_archive(tar_fd, compressor, &entries, diag);
    if (r < 0)
        return r;
    if (entries == 0)
        return diag_set(diag, -ENODATA, "the root filesystem is empty");
    r = deflate_piece(compressor, (struct slice){0}, true);
    if (r < 0)
        return diag_set(diag, r, "cannot compress the image's layer: %s", strerror(-r));
    *ret = (struct layer){.size_bytes = compressor->layer_bytes, .tar_bytes = compressor->tar_bytes, .entries = entries};
    digest_finish_hex(compressor->tar_digest, ret->diff.hex);
    digest_finish_hex(compressor->layer_digest, ret->digest.hex);
    ret->fd = TAKE_FD(compressor->fd);
    return 0;
}

void layer_deinit(struct layer *layer) {
    fd_closep(&layer->fd);
    layer->fd = -1;
}
