/* Base images without a container registry: a Debian (or Ubuntu) of the machine's own kind made by mmdebstrap from the machine's own apt sources, or
 * a tiny busybox. */
#ifndef TIDEMILL_REGISTRY_BOOTSTRAP_H
#define TIDEMILL_REGISTRY_BOOTSTRAP_H

#include "registry/publish.h"

#define BOOTSTRAP_AGE_MAX_S_DEFAULT (7 * 24 * 3600)
#define BOOTSTRAP_INCLUDES_MAX 200

struct bootstrap_options {
    const char *image;           /* "debian:12", "debian" (the machine's own release), "ubuntu:24.04", "busybox"; anything else needs `suite` */
    const char *const *includes; /* packages beyond the base; ends with NULL; NULL: none */
    const char *suite;           /* "bookworm"; NULL: from the image's tag */
    struct registry_endpoint endpoint;
    bool refresh;                                          /* make it even when the same was made within age_max_s */
    int64_t age_max_s;                                     /* 0: a week */
    const char *apt_folder;                                /* NULL: /etc/apt */
    void (*on_progress)(void *userdata, const char *line); /* for a person, one line each; may be NULL */
    void *userdata;
};
struct bootstrap_result {
    struct oci_digest digest; /* of the manifest */
    bool cached;              /* nothing had to be made */
};
/* Needs root and the program mmdebstrap. Blocks (half a minute for a Debian). 0, or negative errno with diag, which has the last lines of mmdebstrap
 * when that failed. */
int registry_bootstrap(const struct bootstrap_options *options, struct bootstrap_result *ret, struct diag *diag);

/* The one-line sources ("deb [signed-by=…] URI suite components") that a bootstrap uses: those of the distribution's own archives among
 * `apt_folder`'s sources, with the suites of `suite` (itself, -updates, -security). For tests and messages. */
int bootstrap_collect_sources(const char *apt_folder, const char *suite, struct buffer *out, struct diag *diag);

#endif
