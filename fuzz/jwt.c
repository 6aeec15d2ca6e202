/* Tokens: whatever stands there, what is not signed by a key of ours is refused. */
#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct jwt_key *key;
    if (!key) {
        struct secret *pem = NULL;
        ASSERT(jwt_key_generate(&pem) == 0 && jwt_key_parse(secret_reveal(pem), &key) == 0);
        secret_free(pem);
    }
    const struct jwt_key *const keys[] = {key, NULL};
    CLEANUP(buffer_deinit) struct buffer claims = BUFFER_INIT(JWT_BYTES_MAX);
    ASSERT(jwt_verify(keys, slice_make(data, size), &claims) != 0);
    return 0;
}
