/* From a stored blob to the tar stream: file → (digest of the blob) → gunzip or unzstd → (digest of the uncompressed stream) → layer_apply.
 * libarchive runs twice: an outer reader with the filters and the "raw" format gives the uncompressed bytes, so that their digest can be taken, and
 * an inner one reads the tar. Both streams are read to their ends, also behind the tar's end mark, before the digests are compared. */
#include <archive.h>
#include <archive_entry.h>

#include "http/http.h"
#include "runtime/layer.h"

#define READ_BYTES (256 * KIB)
/* What follows the tar's end mark is only digested, but still bounded. */
#define TRAILER_BYTES_MAX (16 * MIB)

struct blob {
    int fd;
    char *block;
    struct archive *archive;
    struct digest *compressed, *uncompressed;
};

static la_ssize_t on_file_read(struct archive *archive, void *userdata, const void **ret_bytes) {
    struct blob *blob = userdata;
    ssize_t n = read(blob->fd, blob->block, READ_BYTES);
    if (n < 0) {
        archive_set_error(archive, errno, "cannot read the blob: %s", strerror(errno));
        return ARCHIVE_FATAL;
    }
    digest_update(blob->compressed, slice_make(blob->block, (size_t)n));
    *ret_bytes = blob->block;
    return n;
}

static ssize_t on_tar_read(void *userdata, const void **ret_bytes) {
    struct blob *blob = userdata;
    size_t len = 0;
    la_int64_t offset;
    int r;
    do /* an empty block is no end */
        r = archive_read_data_block(blob->archive, ret_bytes, &len, &offset);
    while (r == ARCHIVE_OK && len == 0);
    if (r == ARCHIVE_EOF)
        return 0;
    if (r != ARCHIVE_OK)
        return -EBADMSG;
    digest_update(blob->uncompressed, slice_make(*ret_bytes, len));
    return (ssize_t)len;
}

static int drain(struct blob *blob, struct diag *diag) {
    const void *bytes;
    size_t total = 0;
    ssize_t n;
    while ((n = on_tar_read(blob, &bytes)) > 0)
        if ((total += (size_t)n) > TRAILER_BYTES_MAX)
            return diag_set(diag, -EBADMSG, "the layer goes on for more than 16 MiB behind the end of its tar stream");
    if (n < 0)
        return diag_set(diag, (int)n, "the layer is damaged: %s", archive_error_string(blob->archive));
    while ((n = read(blob->fd, blob->block, READ_BYTES)) > 0) {
        digest_update(blob->compressed, slice_make(blob->block, (size_t)n));
        if ((total += (size_t)n) > TRAILER_BYTES_MAX)
            return diag_set(diag, -EBADMSG, "the layer goes on for more than 16 MiB behind its compressed stream");
    }
    return n < 0 ? -errno : 0;
}

static int check(struct digest *digest, const char *expected, const char *what, struct diag *diag) {
    char hex[65];
    digest_finish_hex(digest, hex);
    if (expected && strcmp(expected + 7, hex) != 0)
        return diag_set(diag, -EBADMSG, "the layer is damaged: its %s has the digest sha256:%s instead of %s", what, hex, expected);
    return 0;
}

static int apply(struct blob *blob, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag) {
    struct archive_entry *entry;
    archive_read_support_filter_gzip(blob->archive);
    archive_read_support_filter_zstd(blob->archive);
    archive_read_support_format_raw(blob->archive);
    archive_read_support_format_empty(blob->archive);
    if (archive_read_open(blob->archive, blob, NULL, on_file_read, NULL) != ARCHIVE_OK)
        return diag_set(diag, -EBADMSG, "cannot read the layer: %s", archive_error_string(blob->archive));
    int r = archive_read_next_header(blob->archive, &entry);
    if (r != ARCHIVE_OK && r != ARCHIVE_EOF)
        return diag_set(diag, -EBADMSG, "cannot read the layer: %s", archive_error_string(blob->archive));
    r = r == ARCHIVE_EOF ? 0 : layer_apply(on_tar_read, blob, options, diag);
    if (r == 0)
        r = drain(blob, diag);
    if (r == 0)
        r = check(blob->compressed, digest, "content", diag);
    return r < 0 ? r : check(blob->uncompressed, diff_id, "uncompressed content", diag);
}

int layer_apply_blob(int fd, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag) {
    struct blob blob = {
        .fd = fd, .block = malloc(READ_BYTES), .archive = archive_read_new(), .compressed = digest_new(), .uncompressed = digest_new()};
    int r = -ENOMEM;
    if (blob.block && blob.archive && blob.compressed && blob.uncompressed)
        r = apply(&blob, digest, diff_id, options, diag);
    archive_read_free(blob.archive);
    digest_free(blob.compressed);
    digest_free(blob.uncompressed);
    free(blob.block);
    return r;
}
