/* The audit log's file: lines that are appended, chained, rotated and never changed. See audit_log.c. */
#ifndef TIDEMILL_API_AUDIT_PRIV_H
#define TIDEMILL_API_AUDIT_PRIV_H

#include "base/base.h"
#include "loop/loop.h"

struct audit_log;
/* Opens or begins the log in the folder (made when missing), and goes on with its chain. A folder that cannot be written is no error: see there.
 * -ENOMEM.
 */
int audit_log_new(struct loop *loop, const char *folder, struct audit_log **ret, struct diag *diag);
/* Writes what is pending (blocks) and syncs. NULL is fine. */
void audit_log_free(struct audit_log *log);
/* Appends an event: a JSON object whose last member is "annotations", a map that is not empty, so that it ends with "}}"; the chain is put there.
 * Never fails: an event for which there is no room is counted, and the log says so in its next line. */
void audit_log_append(struct audit_log *log, struct slice event);

struct audit_statistics {
    uint64_t events, lost;
};
void audit_log_statistics(const struct audit_log *log, struct audit_statistics *ret);

#endif
