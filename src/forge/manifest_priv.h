/* Manifests as a pipeline brings them: files in a tar, variables in them, several documents each. No I/O. */
#ifndef TIDEMILL_FORGE_MANIFEST_PRIV_H
#define TIDEMILL_FORGE_MANIFEST_PRIV_H

#include "kube/kube.h"
#include "forge/pipeline.h"

#define MANIFESTS_MAX 500
#define MANIFEST_FILE_BYTES_MAX (2 * MIB)

struct manifest {
    const char *file;
    const struct kube_kind *kind;
    const char *name;
    struct tree *object; /* metadata.namespace is set */
    /* while it is applied */
    int64_t generation;
    bool rolled_out;
    char progress[100];
};
struct manifests {
    struct manifest *items;
    size_t count;
};
struct manifest_source {
    const char *namespace;                      /* of what names none; any other is refused */
    const struct pipeline_variables *variables; /* NULL: none */
};
/* Appends the documents of a file. -EINVAL with diag (file and line, what is wrong); -ENOMEM. */
int manifests_read_text(struct arena *arena, const struct manifest_source *source, const char *file, struct slice text, struct manifests *ret,
                        struct diag *diag);
/* Of all files of a tar that end in .yaml, .yml or .json, in the order of their names. */
int manifests_read_tar(struct arena *arena, const struct manifest_source *source, struct slice tar, struct manifests *ret, struct diag *diag);
/* -EPERM with diag when the object would reach beyond its application: the host's files, namespaces, ports; see manifest_policy.c. */
int manifest_check_policy(const struct kube_object *object, struct diag *diag);

#endif
