/* Writing the two documents of a one-layer image. */
#ifndef TIDEMILL_REGISTRY_IMAGE_PRIV_H
#define TIDEMILL_REGISTRY_IMAGE_PRIV_H

#include "registry/publish.h"

#define IMAGE_DOCUMENT_BYTES_MAX (256 * KIB)
#define IMAGE_ANNOTATION_SOURCE "tidemill.dev/source"
#define IMAGE_ANNOTATION_CREATED "org.opencontainers.image.created"

struct image_facts {
    struct oci_digest layer;      /* of the compressed layer */
    struct oci_digest layer_diff; /* of the tar inside */
    int64_t layer_size_bytes;
    const char *const *command;
    const char *const *environment; /* NULL: a usual PATH */
    const char *annotation;         /* NULL: none */
    const char *created_by;
    int64_t created_s;
};
int image_format_config(struct buffer *out, const struct image_facts *facts);
int image_format_manifest(struct buffer *out, const struct image_facts *facts, struct slice config);

#endif
