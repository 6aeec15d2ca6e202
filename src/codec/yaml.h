/* YAML through libyaml, as Kubernetes and GitLab read it: plain scalars are resolved as sigs.k8s.io/yaml does (true/false/yes/no/on/off are booleans,
 * 0644 is octal), anchors, aliases and merge keys (<<). */
#ifndef TIDEMILL_CODEC_YAML_H
#define TIDEMILL_CODEC_YAML_H

#include "codec/tree.h"

/* All documents of a stream; empty ones are left out. *ret is an array in the arena. 0; -EINVAL with diag (line, column); -ENOMEM at the arena's
 * limit or beyond YAML_ALIASES_EXPANDED_MAX. Duplicate keys are errors. Custom tags (GitLab's !reference) become a map {"!tag": value}. */
int yaml_parse(struct arena *arena, struct slice text, struct tree ***ret, size_t *ret_count, struct diag *diag);
/* Exactly one document: -EINVAL when there are more; an empty stream gives TREE_NULL. */
int yaml_parse_one(struct arena *arena, struct slice text, struct tree **ret, struct diag *diag);
/* The same, but the last of equal keys wins; each is noted as "\n  line 3: key \"a\" already set in map". */
int yaml_parse_lenient(struct arena *arena, struct slice text, struct buffer *duplicates, struct tree **ret, struct diag *diag);
#endif
