/* Certificate signing requests (PKCS #10, RFC 2986): reading what one asks for, and signing it.
 *
 * Only three things of a request reach a certificate: its subject, its alternative names (DNS names and addresses, made anew from their bytes) and
 * its key. Extensions it asks for, such as to be an authority, are not copied. The request must be signed by its own key, which proves that who asks
 * has it. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "http/pki_priv.h"

#define RSA_BITS_MIN 2048

static void request_freep(X509_REQ **request) {
    X509_REQ_free(*request);
}

static int failed(void) {
    ERR_clear_error();
    return -EINVAL;
}

/* --- reading --- */

/* One PEM block of the right type and nothing else that matters. */
static X509_REQ *read_request(struct slice pem, const char **ret_why) {
    CLEANUP(pki_bio_freep) BIO *bio = BIO_new_mem_buf(pem.data, (int)MIN(pem.len, CSR_BYTES_MAX));
    char *name = NULL, *header = NULL;
    unsigned char *bytes = NULL;
    long len = 0;
    X509_REQ *request = NULL;
    *ret_why = "PEM block type must be CERTIFICATE REQUEST";
    if (bio && pem.len <= CSR_BYTES_MAX && PEM_read_bio(bio, &name, &header, &bytes, &len) == 1 && !strcmp(name, PEM_STRING_X509_REQ)) {
        const unsigned char *at = bytes;
        request = d2i_X509_REQ(NULL, &at, len);
        if (request && at != bytes + len) {
            X509_REQ_free(request);
            request = NULL;
        }
        *ret_why = "the request is not a PKCS #10 structure";
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(bytes);
    ERR_clear_error();
    return request;
}

static bool has_good_signature(X509_REQ *request) {
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    bool ok = key && X509_REQ_verify(request, key) == 1;
    bool strong = key && (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA || EVP_PKEY_get_bits(key) >= RSA_BITS_MIN);
    ERR_clear_error();
    return ok && strong;
}

/* As UTF-8 without a NUL inside; NULL otherwise. */
static const char *text_of(struct arena *arena, const ASN1_STRING *string) {
    unsigned char *bytes = NULL;
    int len = ASN1_STRING_to_UTF8(&bytes, string);
    const char *copy = len >= 0 && !memchr(bytes, 0, (size_t)len) ? arena_dup(arena, slice_make(bytes, (size_t)len)) : NULL;
    OPENSSL_free(bytes);
    ERR_clear_error();
    return copy;
}

static int read_subject(struct arena *arena, X509_REQ *request, struct csr *ret) {
    const X509_NAME *name = X509_REQ_get_subject_name(request);
    int count = X509_NAME_entry_count(name);
    size_t organizations = 0;
    ret->common_name = "";
    ret->organizations = ARENA_ARRAY(arena, const char *, (size_t)MAX(count, 0) + 1);
    if (!ret->organizations)
        return -ENOMEM;
    for (int i = 0; i < count; i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        if (nid != NID_commonName && nid != NID_organizationName)
            continue;
        const char *text = text_of(arena, X509_NAME_ENTRY_get_data(entry));
        if (!text || (nid == NID_commonName && *ret->common_name))
            return -EINVAL; /* of two common names one would be judged, and perhaps the other one believed */
        if (nid == NID_commonName)
            ret->common_name = text;
        else
            ret->organizations[organizations++] = text;
    }
    return 0;
}

static const char *address_text(struct arena *arena, const ASN1_OCTET_STRING *bytes) {
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(bytes), family = len == 4 ? AF_INET : AF_INET6;
    if (len != 4 && len != 16)
        return NULL;
    return inet_ntop(family, ASN1_STRING_get0_data(bytes), text, sizeof text) ? arena_strdup(arena, text) : NULL;
}

static int read_name(struct arena *arena, const GENERAL_NAME *name, struct csr *ret, size_t counts[4]) {
    const char **lists[] = {ret->dns_names, ret->ip_addresses, ret->emails, ret->uris};
    static const int types[] = {GEN_DNS, GEN_IPADD, GEN_EMAIL, GEN_URI};
    int type = 0;
    const void *value = GENERAL_NAME_get0_value(name, &type);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i] != type)
            continue;
        const char *text = type == GEN_IPADD ? address_text(arena, value) : text_of(arena, value);
        if (!text)
            return -EINVAL;
        lists[i][counts[i]++] = text;
        return 0;
    }
    return -EINVAL; /* a kind of name that nobody here understands is not vouched for */
}

static GENERAL_NAMES *alternative_names(X509_REQ *request) {
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    GENERAL_NAMES *names = extensions ? X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL) : NULL;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    ERR_clear_error();
    return names;
}

static int read_names(struct arena *arena, X509_REQ *request, struct csr *ret) {
    const char ***lists[] = {&ret->dns_names, &ret->ip_addresses, &ret->emails, &ret->uris};
    size_t counts[4] = {0};
    GENERAL_NAMES *names = alternative_names(request);
    int count = names ? sk_GENERAL_NAME_num(names) : 0, r = count > CSR_NAMES_MAX ? -EINVAL : 0;
    for (size_t i = 0; i < ARRAY_LEN(lists) && r == 0; i++)
        r = (*lists[i] = ARENA_ARRAY(arena, const char *, (size_t)MAX(count, 0) + 1)) ? 0 : -ENOMEM;
    for (int i = 0; i < count && r == 0; i++)
        r = read_name(arena, sk_GENERAL_NAME_value(names, i), ret, counts);
    GENERAL_NAMES_free(names);
    return r;
}

int csr_parse(struct arena *arena, struct slice pem, struct csr *ret, const char **ret_why) {
    CLEANUP(request_freep) X509_REQ *request = read_request(pem, ret_why);
    if (!request)
        return -EINVAL;
    *ret_why = "the request's signature is wrong, or its key is too weak";
    if (!has_good_signature(request))
        return -EINVAL;
    *ret_why = "the request's subject or alternative names cannot be read";
    int r = read_subject(arena, request, ret);
    return r ? r : read_names(arena, request, ret);
}

/* --- signing --- */

static int set_validity(X509 *x509, X509 *issuer, const struct csr_signing *signing) {
    struct tm tm;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(issuer), &tm) != 1)
        return failed();
    int64_t end_s = MIN(signing->end_s, (int64_t)timegm(&tm));
    bool ok = end_s > signing->begin_s && ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)signing->begin_s) &&
              ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)end_s);
    return ok ? 0 : failed();
}

static int add_usages(X509 *x509, X509 *issuer, unsigned usages) {
    const char *key = usages & CSR_KEY_ENCIPHERMENT ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature";
    const char *extended = usages & CSR_CLIENT_AUTH && usages & CSR_SERVER_AUTH ? "clientAuth,serverAuth"
                           : usages & CSR_SERVER_AUTH                           ? "serverAuth"
                                                                                : "clientAuth";
    int r = pki_add_extension(x509, issuer, NID_key_usage, key);
    return r ? r : pki_add_extension(x509, issuer, NID_ext_key_usage, extended);
}

static int add_names(X509 *x509, X509_REQ *request) {
    GENERAL_NAMES *names = alternative_names(request);
    bool ok = !names || sk_GENERAL_NAME_num(names) == 0 || X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok ? 0 : failed();
}

static int fill(X509 *x509, X509 *issuer, X509_REQ *request, const struct csr_signing *signing) {
    bool ok = X509_set_version(x509, X509_VERSION_3) == 1 && X509_set_pubkey(x509, X509_REQ_get0_pubkey(request)) == 1 &&
              X509_set_subject_name(x509, X509_REQ_get_subject_name(request)) == 1 && X509_set_issuer_name(x509, X509_get_subject_name(issuer)) == 1;
    int r = ok ? pki_set_serial(x509) : failed();
    r = r ? r : set_validity(x509, issuer, signing);
    r = r ? r : pki_add_extension(x509, issuer, NID_basic_constraints, "critical,CA:FALSE");
    r = r ? r : add_usages(x509, issuer, signing->usages);
    r = r ? r : pki_add_extension(x509, issuer, NID_authority_key_identifier, "keyid");
    return r ? r : add_names(x509, request);
}

int csr_sign(const struct pki_pair *authority, struct slice pem, const struct csr_signing *signing, char **ret_pem) {
    const char *why;
    CLEANUP(request_freep) X509_REQ *request = read_request(pem, &why);
    CLEANUP(pki_x509_freep) X509 *issuer = pki_parse_certificate(authority->certificate_pem);
    CLEANUP(pki_pkey_freep) EVP_PKEY *issuer_key = pki_parse_key(secret_reveal(authority->key_pem));
    if (!request || !has_good_signature(request) || !issuer || !issuer_key)
        return failed();
    CLEANUP(pki_x509_freep) X509 *x509 = X509_new();
    CLEANUP(pki_bio_freep) BIO *out = BIO_new(BIO_s_mem());
    if (!x509 || !out)
        return -ENOMEM;
    int r = fill(x509, issuer, request, signing);
    if (r == 0 && (X509_sign(x509, issuer_key, EVP_sha256()) == 0 || PEM_write_bio_X509(out, x509) != 1))
        r = failed();
    return r ? r : pki_read_pem(out, ret_pem);
}
