/* The pod that builds an image: buildah from the host's /usr, confined to what is mounted. See build_pod.c for what it may and may not see. */
#ifndef TIDEMILL_REGISTRY_BUILD_POD_H
#define TIDEMILL_REGISTRY_BUILD_POD_H

#include "base/base.h"

#define BUILDER_IMAGE_NAME "tidemill/builder"

struct build_options {
    const char *name, *namespace; /* of the pod */
    const char *const *labels;    /* "key=value", ends with NULL; NULL: none */
    const char *builder_image;    /* NULL: BUILDER_IMAGE_NAME ":" and the version that registry_ensure_builder_image made */
    const char *work_folder;  /* on the host, made by the caller for this build alone: context.tar, and auth.json when pushing needs credentials */
    const char *cache_folder; /* on the host: buildah's storage, kept between builds; one build at a time may use it */
    const char *dockerfile;   /* path inside the context; NULL: Dockerfile */
    const char *target;       /* stage; NULL: the last */
    const char *image;        /* "name:tag" to push, without registry */
    const char *registry;     /* "10.42.0.1:5000" as pods reach it */
    const char *const *build_arguments;   /* "KEY=value", ends with NULL; NULL: none */
    const char *cpu_limit, *memory_limit; /* quantities; NULL: "2" and "1Gi" */
    int64_t deadline_s;                   /* 0: 3,600 */
};
/* A Pod (v1) as JSON in the arena; NULL at the arena's limit. The container's log is the build's output; its exit code is buildah's. */
char *registry_build_pod_json(struct arena *arena, const struct build_options *options);

#endif
