/* A layer is known by the digests of what is in it and below it, and an image's configuration may name any. Who only knows them, say from another's
 * configuration, must not get what they stand for: an image may use an unpacked layer when the blob that its manifest names has that content. That is
 * so for the blob it was unpacked from; of another one (the same content, compressed by somebody else) it is found out once, by reading all of it.
 *
 * The digests of such blobs are kept as an attribute of the folder, one behind the other, the latest first. Two writers at a time may lose one: then
 * it is found out again. */
#include "runtime/layer_proof.h"

#include <sys/xattr.h>

#define ATTRIBUTE "trusted.tidemill.blobs"
#define HEX_LEN 64

static bool has(const char *list, ssize_t len, const char *hex) {
    for (ssize_t at = 0; at + HEX_LEN <= len; at += HEX_LEN)
        if (memcmp(list + at, hex, HEX_LEN) == 0)
            return true;
    return false;
}

int layer_prove(int folder, const char *digest) {
    char list[(LAYER_PROOFS_MAX + 1) * HEX_LEN], *kept = list + HEX_LEN;
    ssize_t len = fgetxattr(folder, ATTRIBUTE, kept, LAYER_PROOFS_MAX * HEX_LEN);
    len = len < 0 ? 0 : len - len % HEX_LEN;
    if (has(kept, len, digest + 7))
        return 0;
    memcpy(list, digest + 7, HEX_LEN);
    if (fsetxattr(folder, ATTRIBUTE, list, MIN((size_t)len + HEX_LEN, (size_t)LAYER_PROOFS_MAX * HEX_LEN), 0) == 0)
        return 0;
    return errno == EPERM ? -ENOTSUP : -errno;
}

bool layer_is_proven(const char *path, const char *digest) {
    char list[LAYER_PROOFS_MAX * HEX_LEN];
    ssize_t len = lgetxattr(path, ATTRIBUTE, list, sizeof list);
    return len < 0 ? errno == ENODATA || errno == ENOTSUP : has(list, len, digest + 7);
}
