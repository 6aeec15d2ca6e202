/* The platform's own certificate authority: ECDSA P-256, made at first start, certificates renewed online. */
#ifndef TIDEMILL_HTTP_PKI_H
#define TIDEMILL_HTTP_PKI_H

#include "base/base.h"

/* Texts in PEM, owned by the caller (free). */
struct pki_pair {
    char *certificate_pem;
    struct secret *key_pem;
};
void pki_pair_deinit(struct pki_pair *pair);

struct pki_subject {
    const char *common_name;
    const char *organization;        /* NULL: none */
    const char *const *dns_names;    /* ends with NULL; NULL: none */
    const char *const *ip_addresses; /* ends with NULL; NULL: none */
    bool server, client;             /* extended key usage */
    int64_t now_s, days;             /* validity: from an hour before now_s */
};
int pki_authority_new(const char *common_name, int64_t now_s, int64_t days, struct pki_pair *ret);
int pki_issue(const struct pki_pair *authority, const struct pki_subject *subject, struct pki_pair *ret);

/* --- signing requests (csr.c): PKCS #10, RFC 2986 --- */
#define CSR_BYTES_MAX (64 * KIB)
#define CSR_NAMES_MAX 100
/* What a request asks for, in the arena; lists end with NULL. */
struct csr {
    const char *common_name; /* "" when there is none */
    const char **organizations;
    const char **dns_names, **ip_addresses, **emails, **uris;
};
/* PEM → what it asks for, when its own signature is right. -EINVAL with a reason in upstream's words; -ENOMEM. */
int csr_parse(struct arena *arena, struct slice pem, struct csr *ret, const char **ret_why);
/* Usages, as extended key usage and key usage name them. */
enum csr_usage { CSR_CLIENT_AUTH = 1, CSR_SERVER_AUTH = 2, CSR_DIGITAL_SIGNATURE = 4, CSR_KEY_ENCIPHERMENT = 8 };
struct csr_signing {
    unsigned usages;
    int64_t begin_s, end_s; /* validity; the end is cut to the authority's */
};
/* The subject, names and key of the request under the authority's signature: a certificate in PEM, to be freed. Nothing else of the request is taken
 * over. */
int csr_sign(const struct pki_pair *authority, struct slice pem, const struct csr_signing *signing, char **ret_pem);

/* SHA-256 as 64 lower-case hex characters and NUL. */
void digest_sha256_hex(struct slice bytes, char ret[65]);
/* Streaming. */
struct digest;
struct digest *digest_new(void);
void digest_update(struct digest *digest, struct slice bytes);
void digest_finish_hex(struct digest *digest, char ret[65]);
void digest_free(struct digest *digest);
DEFINE_CLEANUP(struct digest, digest_free)

#endif
