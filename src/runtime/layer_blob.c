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

static int drain(struct blob *blob, struct diag *diag) {
    const void *bytes;
    size_t total = 0;
    ssize_t n;
    while ((n = on_tar_read(blob, &bytes)) > 0)
        if ((total += (size_t)n) > TRAILER_BYTES_MAX)
            return diag_set(diag, -EBADMSG, "the layer goes on for more than 16 MiB behind the end of its tar stream");
    return (int)n;
}

static int check(const char *hex, const char *expected, const char *what, struct diag *diag) {
    if (expected && strcmp(expected + 7, hex) != 0)
        return diag_set(diag, -EBADMSG, "the layer is damaged: its %s has the digest sha256:%s instead of %s", what, hex, expected);
    return 0;
}

int layer_apply_blob(int fd, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag) {
    CLEANUP(inflate_freep) struct inflate *inflate = NULL;
    CLEANUP(digest_freep) struct digest *uncompressed = digest_new();
    char hex[65];
    int r = uncompressed ? inflate_new(fd, options->more, options->more_userdata, &inflate) : -ENOMEM;
    if (r < 0)
        return r;
    struct blob blob = {.inflate = inflate, .uncompressed = uncompressed};
    r = layer_apply(on_tar_read, &blob, options, diag);
    r = r ? r : drain(&blob, diag);
    if (blob.is_damaged)
        return diag_set(diag, r, "the layer is damaged: %s", inflate_error(inflate));
    if (r < 0)
        return r;
    inflate_digest(inflate, hex);
    r = check(hex, digest, "content", diag);
    digest_finish_hex(uncompressed, hex);
    return r < 0 ? r : check(hex, diff_id, "uncompressed content", diag);
}
