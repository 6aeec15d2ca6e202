/* Signing requests: reading one keeps within its bounds, and what can be read can be signed or is refused. */
#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct pki_pair authority;
    static const struct csr_signing signing = {.usages = CSR_CLIENT_AUTH, .begin_s = 1800000000, .end_s = 1800003600};
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(freep) char *pem = NULL;
    struct csr csr;
    const char *why = NULL;
    if (!authority.certificate_pem)
        ASSERT(pki_authority_new("ca", 1800000000, 365, &authority) == 0);
    if (csr_parse(arena, slice_make(data, size), &csr, &why) == 0)
        csr_sign(&authority, slice_make(data, size), &signing, &pem);
    else
        ASSERT(why);
    return 0;
}
