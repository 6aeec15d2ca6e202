/* Credentials for registries as docker keeps them: {"auths": {"host[/path]": {"auth": …}}} of config.json and of secrets of type
 * kubernetes.io/dockerconfigjson, and the bare map of the old .dockercfg. Pure. Which entry is for which image is decided as a kubelet does. */
#ifndef TIDEMILL_REGISTRY_DOCKER_CONFIG_H
#define TIDEMILL_REGISTRY_DOCKER_CONFIG_H

#include "base/base.h"

#define DOCKER_CONFIG_BYTES_MAX MIB /* as a secret may have */
#define DOCKER_CONFIG_ENTRIES_MAX 1000
#define DOCKER_PAIR_BYTES_MAX (64 * KIB)

struct docker_credential {
    char *key;                     /* "ghcr.io", "*.example.com:5000/team" */
    char *user;                    /* "" with a token alone */
    struct secret *password;       /* NULL with a token alone */
    struct secret *identity_token; /* of OAuth 2: changed for a short one at the registry's token server */
    struct secret *registry_token; /* used as it is */
};
struct docker_config {
    VECTOR(struct docker_credential) items;
};
/* Adds what the document has; entries without credentials are passed over. -EINVAL with diag, -ENOMEM. */
int docker_config_read(struct docker_config *config, struct slice json, struct diag *diag);
/* A document with one entry. An error when user and password are larger than DOCKER_PAIR_BYTES_MAX together, or `out` is full. */
int docker_config_format(struct buffer *out, const char *registry, const char *user, struct slice password);
/* key: a registry, as in the document. */
int docker_config_add(struct docker_config *config, const char *key, struct slice user, struct slice password);
/* Whether a key of the document, as it is written, stands for that registry as a whole. */
bool docker_config_key_is(struct slice key, const char *registry);
void docker_config_deinit(struct docker_config *config);
/* Those for an image, the most specific first: hosts match with "*" and "?" part by part, ports exactly, paths as a prefix; docker.io's may be kept
 * under index.docker.io, as docker does. At most `max`, borrowed. */
size_t docker_config_find(const struct docker_config *config, const char *registry, const char *name, const struct docker_credential **ret,
                          size_t max);

#endif
