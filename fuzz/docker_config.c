/* What people and registries write about credentials: docker's configuration, WWW-Authenticate, the file of registries. The first byte chooses. */
#include "registry/challenge.h"
#include "registry/docker_config.h"
#include "registry/sites.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_config(struct slice text) {
    struct docker_config config = {0};
    const struct docker_credential *found[4];
    docker_config_read(&config, text, NULL);
    for (size_t i = 0; i < config.items.count; i++) {
        const struct docker_credential *item = &config.items.items[i];
        ASSERT(item->key && item->user && (item->password || item->identity_token || item->registry_token));
    }
    ASSERT(docker_config_find(&config, "ghcr.io:443", "team/app", found, ARRAY_LEN(found)) <= ARRAY_LEN(found));
    docker_config_deinit(&config);
}

static void read_sites(struct slice text) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * MIB);
    struct sites sites;
    if (arena && sites_parse(arena, text, "f", &sites, NULL) == 0)
        for (size_t i = 0; i < sites.count; i++)
            ASSERT(sites.items[i].registry && sites.items[i].mirrors_count <= SITE_MIRRORS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    struct slice text = slice_make(data + 1, size - 1);
    struct challenges challenges = {0};
    if (data[0] % 3 == 0)
        read_config(text);
    else if (data[0] % 3 == 1)
        challenges_read(text, &challenges);
    else
        read_sites(text);
    ASSERT(strlen(challenges.realm) < sizeof challenges.realm && strlen(challenges.scope) < sizeof challenges.scope);
    return 0;
}
