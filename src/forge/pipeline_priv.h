/* What the parts of the pipeline reader share. */
#ifndef TIDEMILL_FORGE_PIPELINE_PRIV_H
#define TIDEMILL_FORGE_PIPELINE_PRIV_H

#include "forge/pipeline.h"

struct reader {
    struct arena *arena;
    const char *file;
    struct pipeline *pipeline;
    struct diag *diag;
    const char *job; /* whose keywords are read; NULL outside of jobs */
};

/* Fills the diag (position of the node, path "job.key") and returns -EINVAL. `key` may be NULL. */
int reader_refuse(struct reader *reader, const struct tree *at, const char *key, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Notes that something has no effect. -ENOMEM; beyond PIPELINE_WARNINGS_MAX nothing is kept. */
int reader_warn(struct reader *reader, const struct tree *at, const char *format, ...) __attribute__((format(printf, 3, 4)));
int reader_no_memory(struct reader *reader);

/* The text of a scalar (numbers and booleans as YAML understood them); -EINVAL for lists, maps and texts with NUL bytes. */
int reader_scalar(struct reader *reader, const struct tree *node, const char *key, const char **ret);
/* A text or a list of texts; nested lists are flattened. */
int reader_strings(struct reader *reader, const struct tree *node, const char *key, struct pipeline_strings *ret);
int reader_bool(struct reader *reader, const struct tree *node, const char *key, bool *ret);
int reader_when(struct reader *reader, const struct tree *node, const char *key, unsigned allowed, enum pipeline_when *ret);
int reader_variables(struct reader *reader, const struct tree *node, const char *key, struct pipeline_variables *ret);
int reader_rules(struct reader *reader, const struct tree *node, const char *key, struct pipeline_rules *ret);
int reader_needs(struct reader *reader, const struct tree *node, const char *key, struct pipeline_needs *ret);

/* The keywords of a job whose extends and defaults are already merged in. */
int reader_job(struct reader *reader, const struct tree *node, struct pipeline_job *job);
/* Is it a keyword that `default:` may hold? */
bool reader_is_default_keyword(struct slice key);

/* Of `count` candidates the one nearest to `word`, or NULL when none is near. */
const char *reader_nearest(struct slice word, const char *const *candidates, size_t count);

int pipeline_strings_push(struct arena *arena, struct pipeline_strings *strings, const char *text);

#endif
