/* SHA-256 by OpenSSL. A digest cannot fail but for memory, which is treated as a bug of the caller's sizing: contexts are tiny. */
#include <openssl/evp.h>

#include "http/pki.h"

struct digest {
    EVP_MD_CTX *context;
};

static void hex(const unsigned char *bytes, char ret[65]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 32; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[64] = '\0';
}

void digest_sha256_hex(struct slice bytes, char ret[65]) {
    unsigned char sum[32];
    int r = EVP_Digest(bytes.data ? bytes.data : "", bytes.len, sum, NULL, EVP_sha256(), NULL);
    ASSERT(r == 1);
    hex(sum, ret);
}

struct digest *digest_new(void) {
    CLEANUP(freep) struct digest *digest = calloc(1, sizeof *digest);
    if (!digest)
        return NULL;
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(digest->context);
        return NULL;
    }
    return TAKE(digest);
}

void digest_update(struct digest *digest, struct slice bytes) {
    int r = EVP_DigestUpdate(digest->context, bytes.data, bytes.len);
    ASSERT(r == 1);
}

void digest_finish_hex(struct digest *digest, char ret[65]) {
    unsigned char sum[32];
    int r = EVP_DigestFinal_ex(digest->context, sum, NULL);
    ASSERT(r == 1);
    hex(sum, ret);
}

void digest_free(struct digest *digest) {
    if (!digest)
        return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}
