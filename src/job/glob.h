/* Path patterns of .dockerignore and of artifacts:paths: `*` and `?` within a component, `[a-z]`, `**` for any number of components, `\` before a
 * literal character. */
#ifndef TIDEMILL_JOB_GLOB_H
#define TIDEMILL_JOB_GLOB_H

#include "base/base.h"

#define GLOB_COMPONENTS_MAX 256
#define GLOB_PATTERNS_MAX 1000

/* True when the pattern matches the path, or a folder above it. Both relative, separated by '/'. Time is bounded by the product of the lengths. */
bool glob_match(struct slice pattern, struct slice path);

/* The patterns of a .dockerignore. */
struct glob_rules {
    VECTOR(struct glob_rule {
        char *pattern;
        bool include; /* began with '!' */
    })
    items;
};
/* Comments, blanks, leading '/' and "./" are dealt with. 0; -E2BIG beyond GLOB_PATTERNS_MAX; -ENOMEM. */
int glob_rules_parse(struct glob_rules *rules, struct slice text);
void glob_rules_deinit(struct glob_rules *rules);
/* The last rule that matches decides. */
bool glob_rules_exclude(const struct glob_rules *rules, struct slice path);
/* True when nothing beneath an excluded folder can be included again. */
bool glob_rules_are_final(const struct glob_rules *rules);

#endif
