/* ES256 alone: an algorithm that is not negotiated cannot be downgraded ("none") or confused (a public key taken for an HMAC secret). The header must
 * be an object with "alg" ES256 and the "kid" of a key we have; anything else is refused before any arithmetic. A signature in a JWT is r ‖ s, 64
 * bytes, where OpenSSL has the DER form.
 *
 * P-256 rather than RSA: keys are made in less than a millisecond, at the first start of a small machine, and tokens are a third of the size. */
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "codec/codec.h"
#include "http/jwt.h"

#define NUMBER_BYTES 32 /* of P-256 */
#define HEADER_BYTES_MAX KIB

struct jwt_key {
    EVP_PKEY *pkey;
    char id[48];
};

static int failed(void) {
    ERR_clear_error();
    return -EINVAL;
}

/* --- keys --- */

int jwt_key_generate(struct secret **ret_pem) {
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_secmem());
    char *data = NULL;
    int r = -ENOMEM;
    if (pkey && bio && PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) == 1) {
        long len = BIO_get_mem_data(bio, &data);
        *ret_pem = len > 0 ? secret_new(slice_make(data, (size_t)len)) : NULL;
        r = *ret_pem ? 0 : -ENOMEM;
    }
    ERR_clear_error();
    BIO_free_all(bio);
    EVP_PKEY_free(pkey);
    return r;
}

static int set_id(struct jwt_key *key) {
    unsigned char *der = NULL, digest[32];
    int len = i2d_PUBKEY(key->pkey, &der);
    bool ok = len > 0 && EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    if (!ok)
        return failed();
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(sizeof key->id - 1);
    int error = base64url_encode(&text, slice_make(digest, sizeof digest));
    if (!error)
        memcpy(key->id, text.data, text.len + 1);
    return error;
}

int jwt_key_parse(struct slice pem, struct jwt_key **ret) {
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    struct jwt_key *key = calloc(1, sizeof *key);
    char curve[32] = "";
    int r = bio && key ? 0 : -ENOMEM;
    if (r == 0 && !(key->pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL)))
        r = failed();
    if (r == 0 &&
        (EVP_PKEY_get_utf8_string_param(key->pkey, OSSL_PKEY_PARAM_GROUP_NAME, curve, sizeof curve, NULL) != 1 || strcmp(curve, "prime256v1")))
        r = failed();
    if (r == 0)
        r = set_id(key);
    BIO_free(bio);
    if (r == 0)
        *ret = key;
    else
        jwt_key_free(key);
    return r;
}

void jwt_key_free(struct jwt_key *key) {
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

const char *jwt_key_id(const struct jwt_key *key) {
    return key->id;
}

static int put_number(const struct jwt_key *key, const char *parameter, struct buffer *out) {
    BIGNUM *number = NULL;
    unsigned char bytes[NUMBER_BYTES];
    bool ok = EVP_PKEY_get_bn_param(key->pkey, parameter, &number) == 1 && BN_bn2binpad(number, bytes, sizeof bytes) == (int)sizeof bytes;
    BN_free(number);
    return ok ? base64url_encode(out, slice_make(bytes, sizeof bytes)) : failed();
}

int jwt_key_format(const struct jwt_key *key, struct buffer *out) {
    buffer_printf(out, "{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\",\"alg\":\"ES256\",\"x\":\"", key->id);
    int r = put_number(key, OSSL_PKEY_PARAM_EC_PUB_X, out);
    buffer_append_text(out, "\",\"y\":\"");
    r = r ? r : put_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, out);
    return r ? r : buffer_append_text(out, "\"}");
}

/* --- signatures --- */

static int put_signature(const unsigned char *der, size_t len, struct buffer *out) {
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)len);
    unsigned char bytes[2 * NUMBER_BYTES];
    bool ok = signature && BN_bn2binpad(ECDSA_SIG_get0_r(signature), bytes, NUMBER_BYTES) == NUMBER_BYTES &&
              BN_bn2binpad(ECDSA_SIG_get0_s(signature), bytes + NUMBER_BYTES, NUMBER_BYTES) == NUMBER_BYTES;
    ECDSA_SIG_free(signature);
    return ok ? base64url_encode(out, slice_make(bytes, sizeof bytes)) : failed();
}

int jwt_sign(const struct jwt_key *key, struct slice claims, struct buffer *out) {
    char header[128];
    unsigned char der[128];
    size_t begin = out->len, len = sizeof der;
    int head_len = snprintf(header, sizeof header, "{\"alg\":\"ES256\",\"kid\":\"%s\"}", key->id);
    base64url_encode(out, slice_make(header, (size_t)head_len));
    buffer_append_text(out, ".");
    int r = base64url_encode(out, claims);
    if (r)
        return r;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
              EVP_DigestSign(context, der, &len, (const unsigned char *)out->data + begin, out->len - begin) == 1;
    EVP_MD_CTX_free(context);
    buffer_append_text(out, ".");
    return ok ? put_signature(der, len, out) : failed();
}

/* r ‖ s as DER, to be freed with OPENSSL_free; 0: malformed. */
static int signature_der(const unsigned char *bytes, unsigned char **ret) {
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes, NUMBER_BYTES, NULL), *s = BN_bin2bn(bytes + NUMBER_BYTES, NUMBER_BYTES, NULL);
    int len = 0;
    if (signature && r && s && ECDSA_SIG_set0(signature, r, s) == 1) {
        len = i2d_ECDSA_SIG(signature, ret);
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(signature);
    return MAX(len, 0);
}

static bool is_signed(const struct jwt_key *key, struct slice what, const unsigned char *signature) {
    unsigned char *der = NULL;
    int len = signature_der(signature, &der);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = len > 0 && context && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
              EVP_DigestVerify(context, der, (size_t)len, (const unsigned char *)what.data, what.len) == 1;
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

/* --- verifying --- */

/* The key that the header names, if the header is one of ours. */
static int find_key(const struct jwt_key *const *keys, struct slice encoded, const struct jwt_key **ret) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(HEADER_BYTES_MAX);
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct tree *header = NULL;
    struct diag diag = DIAG_INIT;
    if (!arena)
        return -ENOMEM;
    if (base64url_decode(&text, encoded) || json_parse(arena, buffer_slice(&text), NULL, &header, &diag) || header->type != TREE_MAP ||
        strcmp(tree_text_or(tree_find(header, "alg"), ""), "ES256"))
        return -EINVAL;
    const char *id = tree_text_or(tree_find(header, "kid"), "");
    for (; keys && *keys; keys++) {
        if (strcmp((*keys)->id, id))
            continue;
        *ret = *keys;
        return 0;
    }
    return -EACCES;
}

int jwt_verify(const struct jwt_key *const *keys, struct slice token, struct buffer *ret_claims) {
    struct slice rest = token;
    struct slice header = slice_cut(&rest, '.'), claims = slice_cut(&rest, '.');
    const struct jwt_key *key = NULL;
    if (token.len > JWT_BYTES_MAX || !header.len || !claims.len || !rest.len || slice_index(rest, '.') >= 0)
        return -EINVAL;
    CLEANUP(buffer_deinit) struct buffer signature = BUFFER_INIT(4 * NUMBER_BYTES);
    int r = find_key(keys, header, &key);
    if (r)
        return r;
    if (base64url_decode(&signature, rest) || signature.len != (size_t)2 * NUMBER_BYTES)
        return -EINVAL;
    if (!is_signed(key, slice_head(token, header.len + 1 + claims.len), (const unsigned char *)signature.data))
        return -EACCES;
    return base64url_decode(ret_claims, claims);
}
