/* What people ask first about applications: where each is served, how many of its pods are ready, how its last pipeline went. */
#ifndef TIDEMILL_CLI_SUMMARY_PRIV_H
#define TIDEMILL_CLI_SUMMARY_PRIV_H

#include "cli/session_priv.h"

/* Asks for the applications and adds "pods" and "podsReady" to each; *ret is the list. Negative errno with diag. */
int summary_read(struct session *session, struct tree **ret, struct diag *diag);
/* The same for one application, as the API told it. */
int summary_add_pods(struct session *session, struct tree *app, struct diag *diag);
/* "2/3" from what was added. */
void summary_format_pods(const struct tree *app, char ret[32]);
/* "#7 success 3m ago", or "none yet". */
void summary_format_pipeline(const struct tree *app, char ret[96]);
void summary_print(const struct tree *apps);
/* How long ago the time at `key` was, "" when there is none. */
void summary_age(const struct tree *node, const char *key, char ret[TIMESTAMP_BYTES]);

#endif
