/* JSON Web Tokens (RFC 7519) with one algorithm, ES256 (ECDSA on P-256, SHA-256): what service accounts prove themselves with. Pure: no clock, no
 * store; what the claims mean is the caller's affair. */
#ifndef TIDEMILL_HTTP_JWT_H
#define TIDEMILL_HTTP_JWT_H

#include "base/base.h"

#define JWT_BYTES_MAX (16 * KIB)

/* A signing key and the id by which tokens name it: base64url of the SHA-256 of its public half (SubjectPublicKeyInfo). */
struct jwt_key;
/* A new private key in PEM (PKCS #8). */
int jwt_key_generate(struct secret **ret_pem);
/* -EINVAL when it is no private key on P-256. */
int jwt_key_parse(struct slice pem, struct jwt_key **ret);
void jwt_key_free(struct jwt_key *key); /* NULL is fine */
const char *jwt_key_id(const struct jwt_key *key);
/* The public half as a JSON Web Key (RFC 7517). */
int jwt_key_format(const struct jwt_key *key, struct buffer *out);

/* Appends the token; `claims` is a JSON object. */
int jwt_sign(const struct jwt_key *key, struct slice claims, struct buffer *out);
/* Appends the claims of a token that one of the keys has signed. -EINVAL: no such token (malformed, too long, another algorithm); -EACCES: an unknown
 * key, or the signature is wrong. A malformed one costs no signature check. `keys` ends with NULL. */
int jwt_verify(const struct jwt_key *const *keys, struct slice token, struct buffer *ret_claims);

#endif
