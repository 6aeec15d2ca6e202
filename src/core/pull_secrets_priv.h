/* Credentials for other registries out of the cluster's secrets. */
#ifndef TIDEMILL_CORE_PULL_SECRETS_PRIV_H
#define TIDEMILL_CORE_PULL_SECRETS_PRIV_H

#include "registry/registry.h"
#include "store/store.h"

/* Adds what those secrets (kubernetes.io/dockerconfigjson and dockercfg) hold; the names of the others into `missing` ("a, b"). 0 or -ENOMEM. */
int pull_secrets_read(struct store *store, const char *namespace, const char *const *names, size_t count, struct docker_config *into,
                      struct buffer *missing);

#endif
