#include "base/base.h"

struct secret {
    size_t len;
    char bytes[];
};

struct secret *secret_new(struct slice bytes) {
    struct secret *secret = malloc(sizeof *secret + bytes.len + 1);
    if (!secret)
        return NULL;
    secret->len = bytes.len;
    if (bytes.len)
        memcpy(secret->bytes, bytes.data, bytes.len);
    secret->bytes[bytes.len] = '\0';
    return secret;
}

void secret_free(struct secret *secret) {
    if (!secret)
        return;
    explicit_bzero(secret->bytes, secret->len);
    free(secret);
}

struct slice secret_reveal(const struct secret *secret) {
    return (struct slice){secret->bytes, secret->len};
}

bool secret_equal(struct slice a, struct slice b) {
    if (a.len != b.len)
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < a.len; i++)
        difference |= (unsigned char)(a.data[i] ^ b.data[i]);
    return difference == 0;
}
