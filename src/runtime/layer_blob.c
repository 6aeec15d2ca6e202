/* From a stored blob to a folder: inflate.c (a thread: file, digest of the blob, decompression) → digest of the uncompressed stream → layer_apply.
 * Both streams are read to their ends, also behind the tar's end mark, before the digests are compared: until then the folder is nobody's layer. */
#include "http/http.h"
#include "runtime/inflate.h"
#include "runtime/layer.h"

/* What follows the tar's end mark is only digested, but still bounded. */
#define TRAILER_BYTES_MAX (16 * MIB)

struct blob {
    struct inflate *inflate;
    struct digest *uncompressed;
    bool is_damaged; /* as inflate_error tells */
};

static ssize_t on_tar_read(void *userdata, const void **ret_bytes) {
    struct blob *blob = userdata;
    ssize_t n = inflate_read(blob->inflate, ret_bytes);
    if (n > 0)
        digest_update(blob->uncompressed, slice_make(*ret_bytes, (size_t)n));
    blob->is_damaged = n == -EBADMSG;
    return n;
}

static int drain(struct blob *blob, uint64_t bytes_max, struct diag *diag) {
    const void *bytes;
    uint64_t total = 0;
    ssize_t n;
    while ((n = on_tar_read(blob, &bytes)) > 0)
        if ((total += (size_t)n) > bytes_max)
            return diag_set(diag, -EBADMSG, "the layer goes on for more than %" PRIu64 " MiB behind the end of its tar stream", bytes_max / MIB);
    return (int)n;
}

static int check(const char *hex, const char *expected, const char *what, struct diag *diag) {
    if (expected && strcmp(expected + 7, hex) != 0)
        return diag_set(diag, -EBADMSG, "the layer is damaged: its %s has the digest sha256:%s instead of %s", what, hex, expected);
    return 0;
}

static int read_all(int fd, const char *digest, const char *diff_id, const struct layer_options *options, bool applies, struct diag *diag) {
    CLEANUP(inflate_freep) struct inflate *inflate = NULL;
    CLEANUP(digest_freep) struct digest *uncompressed = digest_new();
    char hex[65];
    int r = uncompressed ? inflate_new(fd, options->more, options->more_userdata, &inflate) : -ENOMEM;
    if (r < 0)
        return r;
    struct blob blob = {.inflate = inflate, .uncompressed = uncompressed};
    r = applies ? layer_apply(on_tar_read, &blob, options, diag) : 0;
    r = r ? r : drain(&blob, applies ? TRAILER_BYTES_MAX : 2 * LAYER_BYTES_MAX, diag);
    if (blob.is_damaged)
        return diag_set(diag, r, "the layer is damaged: %s", inflate_error(inflate));
    if (r < 0)
        return r;
    inflate_digest(inflate, hex);
    r = check(hex, digest, "content", diag);
    digest_finish_hex(uncompressed, hex);
    return r < 0 ? r : check(hex, diff_id, "uncompressed content", diag);
}

int layer_apply_blob(int fd, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag) {
    return read_all(fd, digest, diff_id, options, true, diag);
}

int layer_check_blob(int fd, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag) {
    return read_all(fd, digest, diff_id, options, false, diag);
}
