/* The words of the OCI specifications: digests, repository names, tags, references and manifests. Pure parsing: whatever came through here unscathed
 * is safe as a path component beneath the content store; nothing else ever becomes one. */
#ifndef TIDEMILL_REGISTRY_OCI_H
#define TIDEMILL_REGISTRY_OCI_H

#include "base/base.h"
#include "codec/codec.h"

#define OCI_NAME_MAX 255
#define OCI_TAG_MAX 128
#define OCI_DIGEST_TEXT 72 /* "sha256:" + 64 + NUL */
#define OCI_MANIFEST_BYTES_MAX (4 * MIB)
#define OCI_DESCRIPTORS_MAX 2000 /* layers or manifests of one manifest */

#define OCI_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define OCI_TYPE_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"

/* A SHA-256 digest: 64 lower-case hex characters and NUL. */
struct oci_digest {
    char hex[65];
};
/* "sha256:<64 lower-case hex>". -EINVAL; -ENOTSUP for a well-formed digest of another algorithm. */
int oci_digest_parse(struct slice text, struct oci_digest *ret);
/* Into text; returns text. */
const char *oci_digest_format(const struct oci_digest *digest, char text[OCI_DIGEST_TEXT]);
bool oci_digest_equal(const struct oci_digest *a, const struct oci_digest *b);

/* A repository name as the distribution specification has it, at most OCI_NAME_MAX; a component "tags" is refused, since tags lie in a folder of that
 * name. */
bool oci_name_is_valid(struct slice name);
bool oci_tag_is_valid(struct slice tag);

/* "[registry/]name[:tag][@digest]" with Docker's defaults: no registry is docker.io, docker.io's one-word names are library/…, no tag and no digest
 * is "latest". */
struct oci_reference {
    char registry[OCI_NAME_MAX + 1]; /* "docker.io", "10.0.0.1:5000" */
    char name[OCI_NAME_MAX + 1];     /* "library/debian" */
    char tag[OCI_TAG_MAX + 1];       /* empty when only a digest was given */
    struct oci_digest digest;        /* hex[0] == 0: none */
};
int oci_reference_parse(struct slice text, struct oci_reference *ret, struct diag *diag);
/* The name under which the platform's own store keeps the image: "debian" and "org/app" for docker.io, "ghcr.io/org/app" for others, and just the
 * name when the reference's registry is one of `own` (addresses of the platform's registry, ends with NULL; may be NULL). -EINVAL when the result is
 * no valid name. */
int oci_reference_local_name(const struct oci_reference *reference, const char *const *own, char ret[OCI_NAME_MAX + 1]);

struct oci_descriptor {
    const char *media_type;
    struct oci_digest digest;
    int64_t size_bytes;
    bool foreign;                            /* has urls: the registry need not hold it */
    const char *architecture, *os, *variant; /* platform, of an index's entries; "" when absent */
};

/* What a registry needs of a manifest or index. Everything lives in the arena. */
struct oci_manifest {
    const char *media_type;
    const char *artifact_type; /* artifactType, or config.mediaType; "" when neither */
    bool is_index;
    bool has_config, has_subject;
    struct oci_descriptor config, subject;
    struct oci_descriptor *items; /* layers of a manifest, manifests of an index */
    size_t count;
    const struct tree *annotations; /* NULL when absent */
};
/* content_type: as declared by the sender (parameters allowed); empty: from the document. -EINVAL with diag. */
int oci_manifest_parse(struct arena *arena, struct slice bytes, struct slice content_type, struct oci_manifest *ret, struct diag *diag);

#endif
