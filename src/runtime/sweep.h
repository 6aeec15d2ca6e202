/* Which unpacked layers nobody needs any more, and how they go. */
#ifndef TIDEMILL_RUNTIME_SWEEP_H
#define TIDEMILL_RUNTIME_SWEEP_H

#include "base/base.h"

/* What is needed beside the tags of the content store; each list ends with NULL, and may be NULL. */
struct sweep_needs {
    const char *const *configs; /* digests of images' configurations or manifests, "sha256:…" */
    const char *const *chains;  /* chain IDs, "sha256:…" */
};
/* The names (64 hex digits, in the arena) of the folders in `layers` that no tag and none of `needs` reaches. -ENOENT with diag when one of
 * needs->configs is not in the store: then nothing can be said. Blocks on many small reads: for a worker thread. */
int sweep_find(struct arena *arena, const char *store, const char *layers, const struct sweep_needs *needs, char ***ret, size_t *ret_count,
               struct diag *diag);
/* The hexadecimal chain ID that a name in the layers' folder is about, within it: that of a layer, or of one that was set aside (image_check); NULL:
 * none. */
const char *sweep_chain(const char *name);
/* Takes a layer out of use at once: it is renamed to "tmp-…" (into ret), which the next start of the node removes should we die. Removing that folder
 * is the caller's. -ENOENT. */
#define SWEEP_NAME_BYTES 32
int sweep_retire(const char *layers, const char *name, char ret[SWEEP_NAME_BYTES]);

/* Calls fn with each tag of the content store, until it returns something else than 0, which is returned. Blocks on many small reads. */
typedef int sweep_tag_fn(void *userdata, const char *repository, const char *tag);
int sweep_each_tag(const char *store, sweep_tag_fn *fn, void *userdata);

#endif
