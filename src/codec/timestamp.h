/* RFC 3339 times and Go durations. */
#ifndef TIDEMILL_CODEC_TIMESTAMP_H
#define TIDEMILL_CODEC_TIMESTAMP_H

#include "base/base.h"

#define TIMESTAMP_BYTES 40

/* Nanoseconds since 1970 (UTC) from "2026-11-23T10:00:00Z", any fraction, any offset. -EINVAL otherwise. */
int timestamp_parse(struct slice text, int64_t *ret_ns);
/* The same in microseconds: all years that can be written, of which nanoseconds reach 1678 to 2262. */
int timestamp_parse_far(struct slice text, int64_t *ret_us);
void timestamp_format_far(int64_t us, bool micro, char ret[TIMESTAMP_BYTES]);
/* "2026-11-23T10:00:00Z" */
void timestamp_format(int64_t ns, char ret[TIMESTAMP_BYTES]);
/* "2026-11-23T10:00:00.123456Z" (metav1.MicroTime) */
void timestamp_format_micro(int64_t ns, char ret[TIMESTAMP_BYTES]);
/* "2026-11-23T10:00:00.123456789Z" (log lines) */
void timestamp_format_nano(int64_t ns, char ret[TIMESTAMP_BYTES]);
/* "1h2m3.5s", "300ms" in nanoseconds; -EINVAL. */
int duration_parse(struct slice text, int64_t *ret_ns);
/* Go's Duration.String: "1m30s", "0s", "1.5s", "300ms". */
void duration_format(int64_t ns, char ret[TIMESTAMP_BYTES]);
/* kubectl's age: "5s", "3m12s", "4h", "2d3h", "400d" (k8s.io/apimachinery duration.HumanDuration). */
void duration_format_age(int64_t ns, char ret[TIMESTAMP_BYTES]);

#endif
