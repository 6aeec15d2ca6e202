/* The platform's certificate authority: ECDSA on P-256, SHA-256, X.509 version 3. Everything stays in memory as PEM text; where it is stored is the
 * caller's affair.
 *
 * Validity starts an hour before `now` so that machines whose clocks are a little behind accept it. Serial numbers are 127 random bits. Names are
 * checked by the callers. */
#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "http/pki_priv.h"

#define PEM_BYTES_MAX (256 * KIB)
#define START_EARLIER_S 3600

void pki_x509_freep(X509 **x509) {
    X509_free(*x509);
}
void pki_pkey_freep(EVP_PKEY **key) {
    EVP_PKEY_free(*key);
}
void pki_bio_freep(BIO **bio) {
    BIO_free_all(*bio);
}

void pki_pair_deinit(struct pki_pair *pair) {
    free(pair->certificate_pem);
    secret_free(pair->key_pem);
    *pair = (struct pki_pair){0};
}

/* OpenSSL fails here only for want of memory or because of malformed names. */
static int failed(void) {
    ERR_clear_error();
    return -EINVAL;
}

int pki_set_serial(X509 *x509) {
    BIGNUM *number = BN_new();
    bool ok = number && BN_rand(number, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509));
    BN_free(number);
    return ok ? 0 : failed();
}

static int set_validity(X509 *x509, int64_t now_s, int64_t days) {
    bool ok = ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)(now_s - START_EARLIER_S)) &&
              ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)(now_s + days * 86400));
    return ok ? 0 : failed();
}

static int add_name(X509_NAME *name, int nid, const char *value) {
    if (!value)
        return 0;
    return X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1 ? 0 : failed();
}

int pki_add_extension(X509 *x509, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(x509, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok ? 0 : failed();
}

/* One alternative name, built from bytes: no text syntax in which a comma could hide a second one. */
static int push_alternative(GENERAL_NAMES *names, int type, const void *bytes, size_t len) {
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *string = type == GEN_DNS ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();
    if (!name || !string || ASN1_STRING_set(string, bytes, (int)len) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(string);
        return -ENOMEM;
    }
    GENERAL_NAME_set0_value(name, type, string);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return 0;
    GENERAL_NAME_free(name);
    return -ENOMEM;
}

static int push_address(GENERAL_NAMES *names, const char *text) {
    struct in6_addr address;
    if (inet_pton(AF_INET, text, &address) == 1)
        return push_alternative(names, GEN_IPADD, &address, 4);
    if (inet_pton(AF_INET6, text, &address) == 1)
        return push_alternative(names, GEN_IPADD, &address, 16);
    return -EINVAL;
}

static int add_alternatives(X509 *x509, const struct pki_subject *subject) {
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    int r = names ? 0 : -ENOMEM;
    for (const char *const *name = subject->dns_names; r == 0 && name && *name; name++)
        r = push_alternative(names, GEN_DNS, *name, strlen(*name));
    for (const char *const *address = subject->ip_addresses; r == 0 && address && *address; address++)
        r = push_address(names, *address);
    if (r == 0 && sk_GENERAL_NAME_num(names) > 0 && X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1)
        r = failed();
    GENERAL_NAMES_free(names);
    return r;
}

/* --- PEM --- */

int pki_read_pem(BIO *bio, char **ret) {
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    if (len <= 0 || (size_t)len > PEM_BYTES_MAX)
        return -EINVAL;
    *ret = strndup(data, (size_t)len);
    return *ret ? 0 : -ENOMEM;
}

static int pair_format(X509 *x509, EVP_PKEY *key, struct pki_pair *ret) {
    CLEANUP(pki_bio_freep) BIO *certificate = BIO_new(BIO_s_mem());
    CLEANUP(pki_bio_freep) BIO *private_key = BIO_new(BIO_s_secmem());
    CLEANUP(freep) char *text = NULL;
    char *data;
    if (!certificate || !private_key)
        return -ENOMEM;
    if (PEM_write_bio_X509(certificate, x509) != 1 || PEM_write_bio_PKCS8PrivateKey(private_key, key, NULL, NULL, 0, NULL, NULL) != 1)
        return failed();
    int r = pki_read_pem(certificate, &text);
    if (r < 0)
        return r;
    long len = BIO_get_mem_data(private_key, &data);
    struct secret *secret = len > 0 ? secret_new(slice_make(data, (size_t)len)) : NULL;
    if (!secret)
        return -ENOMEM;
    *ret = (struct pki_pair){TAKE(text), secret};
    return 0;
}

X509 *pki_parse_certificate(const char *pem) {
    CLEANUP(pki_bio_freep) BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x509 = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    return x509;
}

EVP_PKEY *pki_parse_key(struct slice pem) {
    CLEANUP(pki_bio_freep) BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    return key;
}

/* --- issuing --- */

/* What root and leaf have in common: version, serial, validity, subject, key. */
static int start_certificate(X509 *x509, EVP_PKEY *key, const char *common_name, const char *organization, int64_t now_s, int64_t days) {
    if (X509_set_version(x509, X509_VERSION_3) != 1 || X509_set_pubkey(x509, key) != 1)
        return failed();
    int r = pki_set_serial(x509);
    if (r == 0)
        r = set_validity(x509, now_s, days);
    if (r == 0)
        r = add_name(X509_get_subject_name(x509), NID_organizationName, organization);
    if (r == 0)
        r = add_name(X509_get_subject_name(x509), NID_commonName, common_name);
    return r;
}

int pki_authority_new(const char *common_name, int64_t now_s, int64_t days, struct pki_pair *ret) {
    CLEANUP(pki_pkey_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
    CLEANUP(pki_x509_freep) X509 *x509 = X509_new();
    if (!key || !x509)
        return -ENOMEM;
    int r = start_certificate(x509, key, common_name, NULL, now_s, days);
    if (r == 0 && X509_set_issuer_name(x509, X509_get_subject_name(x509)) != 1)
        r = failed();
    if (r == 0)
        r = pki_add_extension(x509, x509, NID_basic_constraints, "critical,CA:TRUE");
    if (r == 0)
        r = pki_add_extension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature");
    if (r == 0)
        r = pki_add_extension(x509, x509, NID_subject_key_identifier, "hash");
    if (r == 0 && X509_sign(x509, key, EVP_sha256()) == 0)
        r = failed();
    return r < 0 ? r : pair_format(x509, key, ret);
}

static int fill_leaf(X509 *x509, X509 *issuer, EVP_PKEY *key, const struct pki_subject *subject) {
    int r = start_certificate(x509, key, subject->common_name, subject->organization, subject->now_s, subject->days);
    if (r == 0 && X509_set_issuer_name(x509, X509_get_subject_name(issuer)) != 1)
        r = failed();
    if (r == 0)
        r = pki_add_extension(x509, issuer, NID_basic_constraints, "critical,CA:FALSE");
    if (r == 0)
        r = pki_add_extension(x509, issuer, NID_key_usage, "critical,digitalSignature");
    const char *usage = subject->server && subject->client ? "serverAuth,clientAuth" : subject->server ? "serverAuth" : "clientAuth";
    if (r == 0 && (subject->server || subject->client))
        r = pki_add_extension(x509, issuer, NID_ext_key_usage, usage);
    if (r == 0)
        r = pki_add_extension(x509, issuer, NID_subject_key_identifier, "hash");
    if (r == 0)
        r = pki_add_extension(x509, issuer, NID_authority_key_identifier, "keyid");
    return r < 0 ? r : add_alternatives(x509, subject);
}

int pki_issue(const struct pki_pair *authority, const struct pki_subject *subject, struct pki_pair *ret) {
    CLEANUP(pki_x509_freep) X509 *issuer = pki_parse_certificate(authority->certificate_pem);
    CLEANUP(pki_pkey_freep) EVP_PKEY *issuer_key = pki_parse_key(secret_reveal(authority->key_pem));
    if (!issuer || !issuer_key || X509_check_private_key(issuer, issuer_key) != 1)
        return failed();
    CLEANUP(pki_pkey_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
    CLEANUP(pki_x509_freep) X509 *x509 = X509_new();
    if (!key || !x509)
        return -ENOMEM;
    int r = fill_leaf(x509, issuer, key, subject);
    if (r == 0 && X509_sign(x509, issuer_key, EVP_sha256()) == 0)
        r = failed();
    return r < 0 ? r : pair_format(x509, key, ret);
}
