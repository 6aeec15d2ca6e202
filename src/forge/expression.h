/* The expressions of `rules:if` and `workflow:rules:if`: `$VAR`, "text", 'text', /regex/i, null, true, false, ==, !=, =~, !~, &&, ||, parentheses.
 * Comparison binds tighter than &&, && tighter than ||. `$X` alone is true when X is set and not empty; `$X == null` when it is not set. */
#ifndef TIDEMILL_FORGE_EXPRESSION_H
#define TIDEMILL_FORGE_EXPRESSION_H

#include "base/base.h"

#define EXPRESSION_TOKENS_MAX 100
#define EXPRESSION_DEPTH_MAX 16

struct expression;

/* 0 and the expression in the arena; -EINVAL with diag (message and hint; the position is the caller's); -ENOMEM. */
int expression_parse(struct arena *arena, struct slice text, struct expression **ret, struct diag *diag);

/* The value of a variable, or NULL when it is not set. */
typedef const char *expression_lookup_fn(void *userdata, const char *name);
/* 0 and *ret; -EINVAL with diag when a variable used as a pattern holds no valid one. */
int expression_evaluate(const struct expression *expression, expression_lookup_fn *lookup, void *userdata, bool *ret, struct diag *diag);

#endif
