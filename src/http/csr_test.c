/* Signing requests, made here with OpenSSL as a user's tools make them. */
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "unit.h"

#include "http/http.h"
#include "http/pki_testing_priv.h"

#define NOW_S INT64_C(1800000000)

/* A request for O=organization, CN=name (two of them: "a,b") with the alternative names ("DNS:a,IP:1.2.3.4") and, when asked, the wish to be an
 * authority. */
static char *request_of(const char *name, const char *organization, const char *names, bool authority, bool break_it) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *request = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "O", MBSTRING_UTF8, (const unsigned char *)organization, -1, -1, 0);
    for (struct slice rest = slice_of(name), one; (one = slice_cut(&rest, ',')).len;)
        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_UTF8, (const unsigned char *)one.data, (int)one.len, -1, 0);
    if (names)
        sk_X509_EXTENSION_push(extensions, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names));
    if (authority)
        sk_X509_EXTENSION_push(extensions, X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE"));
    X509_REQ_add_extensions(request, extensions);
    X509_REQ_set_pubkey(request, key);
    assert_true(X509_REQ_sign(request, key, EVP_sha256()) > 0);
    if (break_it) {
        EVP_PKEY *other = EVP_EC_gen("P-256");
        X509_REQ_set_pubkey(request, other);
        EVP_PKEY_free(other);
    }
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    PEM_write_bio_X509_REQ(bio, request);
    long len = BIO_get_mem_data(bio, &data);
    char *copy = strndup(data, (size_t)len);
    BIO_free(bio);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    return copy;
}

UNIT_TEST(reads_what_is_asked_for) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(freep) char *pem = request_of("ann", "team", "DNS:a.example,IP:10.0.0.1,DNS:b.example,email:x@example", false, false);
    struct csr csr;
    const char *why;
    assert_int_equal(csr_parse(arena, slice_of(pem), &csr, &why), 0);
    assert_string_equal(csr.common_name, "ann");
    assert_string_equal(csr.organizations[0], "team");
    assert_null(csr.organizations[1]);
    assert_string_equal(csr.dns_names[1], "b.example");
    assert_string_equal(csr.ip_addresses[0], "10.0.0.1");
    assert_string_equal(csr.emails[0], "x@example");
    assert_null(csr.uris[0]);
}

/* The server takes the first one of a certificate's, the signer would have judged the last. */
UNIT_TEST(refuses_two_common_names) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(freep) char *pem = request_of("boss,system:node:a", "system:nodes", NULL, false, false);
    struct csr csr;
    const char *why;
    assert_int_equal(csr_parse(arena, slice_of(pem), &csr, &why), -EINVAL);
    assert_string_equal(why, "the request's subject or alternative names cannot be read");
}

UNIT_TEST(refuses_what_is_none) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(freep) char *broken = request_of("ann", "team", NULL, false, true);
    struct csr csr;
    const char *why;
    assert_int_equal(csr_parse(arena, slice_of(broken), &csr, &why), -EINVAL);
    assert_string_equal(why, "the request's signature is wrong, or its key is too weak");
    static const char *const bad[] = {"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                                      "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(csr_parse(arena, slice_of(bad[i]), &csr, &why), -EINVAL);
}

UNIT_TEST(signs_no_more_than_it_should) {
    CLEANUP(freep) char *pem = request_of("ann", "team", "DNS:a.example", true, false), *signed_pem = NULL;
    struct pki_pair authority;
    const struct csr_signing signing = {
        .usages = CSR_CLIENT_AUTH | CSR_DIGITAL_SIGNATURE, .begin_s = NOW_S, .end_s = NOW_S + INT64_C(100) * 365 * 86400};
    assert_int_equal(pki_authority_new("ca", NOW_S, 365, &authority), 0);
    assert_int_equal(csr_sign(&authority, slice_of(pem), &signing, &signed_pem), 0);
    assert_int_equal(expiry_of(signed_pem), expiry_of(authority.certificate_pem)); /* not longer than who vouches for it */
    BIO *bio = BIO_new_mem_buf(signed_pem, -1);
    X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(x509);
    assert_int_equal(X509_check_ca(x509), 0);
    assert_int_equal(X509_get_extended_key_usage(x509), XKU_SSL_CLIENT);
    assert_int_equal(X509_check_host(x509, "a.example", 0, 0, NULL), 1);
    X509_free(x509);
    BIO_free(bio);
    pki_pair_deinit(&authority);
}

UNIT_MAIN(UNIT(reads_what_is_asked_for), UNIT(refuses_two_common_names), UNIT(refuses_what_is_none), UNIT(signs_no_more_than_it_should))
