/* Making an image from a root filesystem and pushing it to the platform's registry: for processes other than core, so that the store has one writer.
 */
#ifndef TIDEMILL_REGISTRY_PUBLISH_H
#define TIDEMILL_REGISTRY_PUBLISH_H

#include "registry/oci.h"

/* Where the registry answers and as whom we speak; all borrowed. */
struct registry_endpoint {
    const char *address;       /* "http://127.0.0.1:5000", or "unix:/run/tidemill/api.sock" (root needs no credentials there) */
    const char *authorization; /* value of the Authorization header; NULL: none */
};

struct registry_import_options {
    struct registry_endpoint endpoint;
    const char *name, *tag;
    const char *const *command;                            /* what the image runs by default; ends with NULL; NULL: none */
    const char *const *environment;                        /* "NAME=value"; ends with NULL; NULL: a usual PATH */
    const char *annotation;                                /* kept in the manifest as tidemill.dev/source; NULL: none */
    int64_t created_s;                                     /* seconds since 1970, for config and annotations */
    void (*on_progress)(void *userdata, const char *line); /* for a person; may be NULL */
    void *userdata;
};
/* Reads an uncompressed tar from tar_fd (file, pipe) to its end, makes an image of one gzip layer and tags it. Blocks, with an event loop of its own.
 * Equal tars give equal layers. The temporary file goes to $TMPDIR or /var/tmp. 0, or negative errno with diag. */
int registry_image_import_rootfs(const struct registry_import_options *options, int tar_fd, struct oci_digest *ret, struct diag *diag);

/* What an image says of itself: the annotation above and when it was made; -ENOENT when there is no such image. Blocks. */
struct registry_image_facts {
    char annotation[128];
    int64_t created_s;
    struct oci_digest digest;
};
int registry_image_inspect(const struct registry_endpoint *endpoint, const char *name, const char *tag, struct registry_image_facts *ret,
                           struct diag *diag);

#endif
