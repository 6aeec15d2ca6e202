/* The machine's time zones, read when first asked for and kept: a file of a new release of the database is seen after the next start. */
#include <fcntl.h>

#include "core/core_priv.h"
#include "sys/sys.h"

#define ZONES_MAX 1024 /* the database has some 600 names */

struct zones {
    struct map *known; /* name → struct zone */
};

struct zones *zones_new(void) {
    struct zones *zones = calloc(1, sizeof *zones);
    if (!zones)
        return NULL;
    zones->known = map_new();
    if (!zones->known)
        free(TAKE(zones));
    return zones;
}

void zones_free(struct zones *zones) {
    void *value;
    if (!zones)
        return;
    for (size_t at = 0; map_next(zones->known, &at, NULL, &value);)
        zone_free(value);
    map_free(zones->known);
    free(zones);
}

static int read_zone(const char *name, struct zone **ret) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(ZONE_FILE_BYTES_MAX);
    CLEANUP(fd_closep) int folder = open(SYS_ZONES_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = folder < 0 ? -errno : sys_read_file(folder, name, ZONE_FILE_BYTES_MAX - 1, &bytes);
    return r < 0 ? r : zone_parse(buffer_slice(&bytes), ret);
}

int zones_find(struct zones *zones, const char *name, const struct zone **ret) {
    struct slice key = slice_of(name);
    if (!zone_name_is_valid(key))
        return -ENOENT;
    *ret = slice_is(key, "UTC") ? NULL : map_find(zones->known, key);
    if (*ret || slice_is(key, "UTC"))
        return 0;
    CLEANUP(zone_freep) struct zone *zone = NULL;
    int r = map_count(zones->known) < ZONES_MAX ? read_zone(name, &zone) : -ENOSPC;
    if (r == 0)
        r = map_put(zones->known, key, zone, NULL);
    if (r == 0)
        *ret = TAKE(zone);
    return r;
}
