/* Which images the cluster refers to, and which of an application's images are too many. Without I/O. */
#ifndef TIDEMILL_CORE_IMAGES_PRIV_H
#define TIDEMILL_CORE_IMAGES_PRIV_H

#include "base/base.h"
#include "registry/registry.h"
#include "store/store.h"

/* What objects refer to. */
struct images_used {
    struct arena *arena;
    struct map *names;   /* "name:tag" → who ("ReplicaSet hello/hello-7d9f", in the arena) */
    struct map *digests; /* hex → anything */
    VECTOR(struct oci_digest) digests_list;
    const char *holder; /* of the object being read */
    int error;
};
int images_used_init(struct images_used *used, struct arena *arena);
void images_used_deinit(struct images_used *used);
/* Every "image" and every "sha256:…" in an object's JSON, in whatever field: too much kept is harmless. */
void images_used_scan(struct images_used *used, struct slice json, const char *holder);
/* All committed objects but events, configuration maps and secrets. 0 or -ENOMEM. */
int images_used_collect(struct images_used *used, struct store *store);
/* Who refers to it, or NULL. */
const char *images_used_by(const struct images_used *used, const char *name, const char *tag, const struct oci_digest *digest);

struct image_tag {
    const char *repository, *tag;
    struct oci_digest digest;
    int64_t time_ns;
    /* only where pulled images are looked through */
    bool is_pulled, is_needed;
    uint64_t bytes;  /* compressed */
    int64_t used_ns; /* when somebody was last seen to refer to it; 0: never */
};
/* Sorts by repository, then the newest first; equal times by tag. */
void images_sort(struct image_tag *tags, size_t count);
/* Position of a tag among its repository's builds, from 0; tags must be sorted. "latest" is no build: it has the position of none, 0. */
size_t images_rank(const struct image_tag *tags, size_t index);

/* Which pulled images go, by index, so that about `bytes` are freed: of those that nobody needs and that were pulled before that time, who was of use
 * the longest ago first. ret has room for all. */
size_t images_choose(const struct image_tag *tags, size_t count, uint64_t bytes, int64_t pulled_before_ns, size_t *ret);

#endif
