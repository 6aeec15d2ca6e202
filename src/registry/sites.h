/* What the machine's owner says about other registries: mirrors, own certificate authorities, those without TLS. A small YAML file:
 *
 *   docker.io:
 *     mirrors: [https://mirror.example, http://10.0.0.5:5000/hub]     # asked in this order, before the registry itself
 *   registry.corp:5000:
 *     ca: /etc/tidemill/corp.pem
 *   lab.corp:
 *     insecure: true                                                  # plain HTTP, or certificates that nobody checks
 *
 * "*" stands for all registries that are not named. A mirror's path is put before the image's name. Pure. */
#ifndef TIDEMILL_REGISTRY_SITES_H
#define TIDEMILL_REGISTRY_SITES_H

#include "base/base.h"

#define SITES_BYTES_MAX (64 * KIB)
#define SITE_MIRRORS_MAX 8

struct site {
    const char *registry; /* "docker.io", "*" */
    bool insecure;
    const char *ca; /* path of PEM certificates; NULL: the system's */
    const char *mirrors[SITE_MIRRORS_MAX];
    size_t mirrors_count;
};
struct sites {
    struct site *items;
    size_t count;
};
/* In the arena. `file` is for messages. -EINVAL with diag. */
int sites_parse(struct arena *arena, struct slice yaml, const char *file, struct sites *ret, struct diag *diag);
/* That registry's, or "*", or one that says nothing; never NULL. */
const struct site *sites_find(const struct sites *sites, const char *registry);

#endif
