/* Tokens that were tampered with in the ways that tokens are tampered with. */
#include <stdio.h>

#include "unit.h"

#include "codec/codec.h"
#include "http/http.h"

#define CLAIMS "{\"sub\":\"me\",\"exp\":1}"

static struct jwt_key *new_key(void) {
    struct secret *pem = NULL;
    struct jwt_key *key = NULL;
    assert_int_equal(jwt_key_generate(&pem), 0);
    assert_int_equal(jwt_key_parse(secret_reveal(pem), &key), 0);
    secret_free(pem);
    return key;
}

static int verify(const struct jwt_key *key, const char *token, char *claims, size_t size) {
    const struct jwt_key *keys[] = {key, NULL};
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(JWT_BYTES_MAX);
    int r = jwt_verify(keys, slice_of(token), &out);
    snprintf(claims, size, "%s", r == 0 ? out.data : "");
    return r;
}

UNIT_TEST(signs_and_verifies) {
    struct jwt_key *key = new_key();
    char claims[100];
    for (int i = 0; i < 50; i++) { /* r and s with leading zeros come about once in 128 */
        CLEANUP(buffer_deinit) struct buffer token = BUFFER_INIT(JWT_BYTES_MAX);
        assert_int_equal(jwt_sign(key, SLICE(CLAIMS), &token), 0);
        assert_int_equal(verify(key, token.data, claims, sizeof claims), 0);
        assert_string_equal(claims, CLAIMS);
    }
    jwt_key_free(key);
}

/* A token of three parts, the last as given or, NULL, that of a good signature over other bytes. */
static void join(char *ret, size_t size, const char *header, const char *claims, const char *signature) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(JWT_BYTES_MAX);
    base64url_encode(&out, slice_of(header));
    buffer_append_text(&out, ".");
    base64url_encode(&out, slice_of(claims));
    buffer_printf(&out, ".%s", signature);
    snprintf(ret, size, "%s", out.data);
}

UNIT_TEST(refuses_forgeries) {
    struct jwt_key *key = new_key(), *other = new_key();
    CLEANUP(buffer_deinit) struct buffer token = BUFFER_INIT(JWT_BYTES_MAX);
    char claims[100], header[200], forged[1000];
    assert_int_equal(jwt_sign(key, SLICE(CLAIMS), &token), 0);
    const char *signature = strrchr(token.data, '.') + 1;
    assert_int_equal(verify(other, token.data, claims, sizeof claims), -EACCES);
    /* other claims under a good signature */
    snprintf(header, sizeof header, "{\"alg\":\"ES256\",\"kid\":\"%s\"}", jwt_key_id(key));
    join(forged, sizeof forged, header, "{\"sub\":\"root\"}", signature);
    assert_int_equal(verify(key, forged, claims, sizeof claims), -EACCES);
    /* no signature, or another algorithm */
    static const char *const algorithms[] = {"none", "None", "HS256", "RS256", "es256", ""};
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        snprintf(header, sizeof header, "{\"alg\":\"%s\",\"kid\":\"%s\"}", algorithms[i], jwt_key_id(key));
        join(forged, sizeof forged, header, CLAIMS, i % 2 ? signature : "");
        assert_int_equal(verify(key, forged, claims, sizeof claims), -EINVAL);
    }
    /* a signature of zeros verifies under broken implementations */
    snprintf(header, sizeof header, "{\"alg\":\"ES256\",\"kid\":\"%s\"}", jwt_key_id(key));
    char zeros[87];
    memset(zeros, 'A', sizeof zeros - 1);
    zeros[sizeof zeros - 1] = '\0';
    join(forged, sizeof forged, header, CLAIMS, zeros);
    assert_int_equal(verify(key, forged, claims, sizeof claims), -EACCES);
    jwt_key_free(key);
    jwt_key_free(other);
}

UNIT_TEST(refuses_garbage) {
    struct jwt_key *key = new_key();
    char claims[100], *long_one = calloc(1, JWT_BYTES_MAX + 2);
    static const char *const bad[] = {"", ".", "..", "a.b.c", "a.b", "e30.e30.e30", "e30.e30.e30.e30", "W10.e30.AA", "\xff.\xff.\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(verify(key, bad[i], claims, sizeof claims), -EINVAL);
    memset(long_one, 'a', JWT_BYTES_MAX + 1);
    assert_int_equal(verify(key, long_one, claims, sizeof claims), -EINVAL);
    free(long_one);
    jwt_key_free(key);
}

UNIT_TEST(shows_its_public_half) {
    struct jwt_key *key = new_key(), *none = NULL;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(jwt_key_format(key, &text), 0);
    assert_int_equal(json_parse(arena, buffer_slice(&text), NULL, &tree, &diag), 0);
    assert_string_equal(tree_text_or(tree_find(tree, "kid"), ""), jwt_key_id(key));
    assert_int_equal(strlen(jwt_key_id(key)), 43);
    assert_int_equal(strlen(tree_text_or(tree_find(tree, "x"), "")), 43);
    assert_null(tree_find(tree, "d"));
    assert_int_equal(jwt_key_parse(SLICE("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), &none), -EINVAL);
    jwt_key_free(key);
}

UNIT_MAIN(UNIT(signs_and_verifies), UNIT(refuses_forgeries), UNIT(refuses_garbage), UNIT(shows_its_public_half))
