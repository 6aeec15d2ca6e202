/* Time series in memory: labels, compressed samples, a bound on bytes and age. No I/O, no clock: times come from the caller, in milliseconds since
 * 1970. Single-threaded. */
#ifndef TIDEMILL_TSDB_H
#define TIDEMILL_TSDB_H

#include "base/base.h"

#define TSDB_LABELS_MAX 64
#define TSDB_LABEL_BYTES_MAX (16 * KIB) /* all names and values of one series */
#define TSDB_LOOKBACK_MS 300000         /* an instant value is at most so old */

struct tsdb;
struct tsdb_series;

struct tsdb_label {
    struct slice name, value;
};

struct tsdb_options {
    size_t bytes_max;     /* series and samples; 0: 8 MiB */
    int64_t retention_ms; /* 0: 2 hours */
};
int tsdb_new(const struct tsdb_options *options, struct tsdb **ret);
void tsdb_free(struct tsdb *tsdb); /* NULL is fine */
DEFINE_CLEANUP(struct tsdb, tsdb_free)

/* The series of these labels ("__name__" is one of them; names distinct, any order; empty values are left out), made when it is new. A series stays
 * at least as long as it is pinned or has samples. 0; -ENOSPC at the bound on bytes even after the oldest samples were dropped; -EINVAL: too many or
 * too large labels; -ENOMEM. */
int tsdb_series_get(struct tsdb *tsdb, const struct tsdb_label *labels, size_t count, struct tsdb_series **ret);
void tsdb_series_pin(struct tsdb_series *series);
void tsdb_series_unpin(struct tsdb_series *series);
/* A number of the writer's own, 0 at first. */
void tsdb_series_set_mark(struct tsdb_series *series, uint64_t mark);
uint64_t tsdb_series_mark(const struct tsdb_series *series);
/* Labels in order of their names. */
size_t tsdb_series_labels(const struct tsdb_series *series, const struct tsdb_label **ret);
/* The value, data NULL when absent. */
struct slice tsdb_series_label(const struct tsdb_series *series, const char *name);

/* Appends a sample later than the last one; 0; TSDB_E_ORDER for an earlier or equal time (nothing is stored); -ENOSPC, -ENOMEM. May drop old samples
 * of any series, and series without samples that are not pinned. */
enum { TSDB_E_ORDER = 1 };
int tsdb_append(struct tsdb *tsdb, struct tsdb_series *series, int64_t time_ms, double value);
/* The special NaN which says that the series ends here (as Prometheus marks it). */
double tsdb_stale_value(void);
/* Drops what is older than the retention, seen from now. */
void tsdb_expire(struct tsdb *tsdb, int64_t now_ms);

/* The latest sample at or before time_ms, at most TSDB_LOOKBACK_MS old and not a stale mark; false: none. */
bool tsdb_series_at(const struct tsdb_series *series, int64_t time_ms, int64_t *ret_time_ms, double *ret_value);

/* --- selectors: `name{label="value",other!="x",third=~"re",fourth!~"re"}`, as PromQL writes them; regular expressions are anchored --- */
struct tsdb_selector;
/* -EINVAL with diag. At least one matcher must not match the empty string. */
int tsdb_selector_parse(struct slice text, struct tsdb_selector **ret, struct diag *diag);
void tsdb_selector_free(struct tsdb_selector *selector);
DEFINE_CLEANUP(struct tsdb_selector, tsdb_selector_free)
bool tsdb_selector_matches(const struct tsdb_selector *selector, const struct tsdb_series *series);
/* `for (size_t at = 0; (series = tsdb_next(tsdb, selector, &at));)`; selector NULL: all. Nothing may be appended meanwhile. */
struct tsdb_series *tsdb_next(const struct tsdb *tsdb, const struct tsdb_selector *selector, size_t *at);

struct tsdb_stats {
    size_t series, bytes, bytes_max;
    uint64_t samples;         /* appended so far */
    uint64_t samples_dropped; /* for space */
    uint64_t refused;         /* appends and series that found no space */
};
void tsdb_stats_get(const struct tsdb *tsdb, struct tsdb_stats *ret);

#endif
