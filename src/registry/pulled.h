/* What came from other registries: of each manifest its name there, and by which credentials it was given.
 *
 *   <store>/repositories/<name>/_pulled/<hex>   {"repoDigest": "docker.io/library/nginx@sha256:…", "credentials": ["…"]}
 *
 * One for each manifest, written before the manifest's link. No record: the image is the platform's own. No credentials: anybody got it. Otherwise
 * who shows one of these got it before; all others ask the registry. A credential is kept as a digest that only this store's key makes. Read by the
 * node too (runtime/image.c). */
#ifndef TIDEMILL_REGISTRY_PULLED_H
#define TIDEMILL_REGISTRY_PULLED_H

#include "registry/content.h"
#include "registry/docker_config.h"

#define PULLED_CREDENTIALS_MAX 64 /* of one manifest; beyond it the oldest is forgotten */

struct pulled_key {
    unsigned char bytes[32];
};
/* Reads the store's key, or makes one. */
int pulled_key_open(struct content *content, struct pulled_key *ret);

/* credential: what the registry wanted; NULL: nothing. A record that has none stays open to all. */
int pulled_note(struct content *content, const struct pulled_key *key, const char *name, const struct oci_digest *digest, const char *repo_digest,
                const char *registry, const struct docker_credential *credential);
/* Was it pulled as part of what has the digest `top` there? */
bool pulled_is_of(struct content *content, const char *name, const struct oci_digest *digest, const struct oci_digest *top);
/* Its name and digest there ("docker.io/library/nginx@sha256:…", in the arena); NULL: it is the platform's own. */
const char *pulled_origin(struct content *content, struct arena *arena, const char *name, const struct oci_digest *digest);
/* The repository of that registry which it was pulled from ("library/nginx", in the arena); NULL: it was not. */
const char *pulled_repository(struct content *content, struct arena *arena, const char *name, const struct oci_digest *digest, const char *registry);
/* Was it had by credentials only? Then it is not shown to everybody. */
bool pulled_is_private(struct content *content, const char *name, const struct oci_digest *digest);
/* Is the manifest here, and did not come from elsewhere? */
bool pulled_is_ours(struct content *content, const char *name, const struct oci_digest *digest);
/* Has the repository any record? */
bool pulled_has_any(struct content *content, const char *name);
/* It was pushed here as well: it is ours from now on. */
void pulled_forget(struct content *content, const char *name, const struct oci_digest *digest);
enum pulled_verdict {
    PULLED_OURS, /* it did not come from elsewhere */
    PULLED_PUBLIC,
    PULLED_ALLOWED, /* by one of these credentials */
    PULLED_UNKNOWN, /* the registry must be asked */
};
enum pulled_verdict pulled_check(struct content *content, const struct pulled_key *key, const char *name, const struct oci_digest *digest,
                                 const struct oci_reference *reference, const struct docker_config *const credentials[2]);

#endif
