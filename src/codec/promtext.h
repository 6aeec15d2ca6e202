/* The Prometheus text exposition format (version 0.0.4; what OpenMetrics shares with it): a pull parser without allocation. */
#ifndef TIDEMILL_CODEC_PROMTEXT_H
#define TIDEMILL_CODEC_PROMTEXT_H

#include "base/base.h"

#define PROMTEXT_LABELS_MAX 64
#define PROMTEXT_UNESCAPED_BYTES_MAX 8192 /* of the label values of one sample that hold escapes */

struct promtext_label {
    struct slice name, value; /* value unescaped */
};

struct promtext_sample {
    struct slice name;
    const struct promtext_label *labels; /* in order of arrival; names are distinct */
    size_t labels_count;
    double value; /* may be NaN or infinite */
    bool has_timestamp;
    int64_t timestamp_ms;
};

struct promtext {
    struct slice input;
    size_t at;
    int line;
    size_t unescaped;
    struct promtext_label labels[PROMTEXT_LABELS_MAX];
    char text[PROMTEXT_UNESCAPED_BYTES_MAX];
};

enum promtext_result { PROMTEXT_SAMPLE, PROMTEXT_END, PROMTEXT_BAD };

/* The input is borrowed until the last call of promtext_next. */
void promtext_init(struct promtext *parser, struct slice input);
/* The next sample, valid until the next call; comments (HELP and TYPE too) and empty lines are skipped. PROMTEXT_BAD with diag (line, column): the
 * rest cannot be read. */
enum promtext_result promtext_next(struct promtext *parser, struct promtext_sample *ret, struct diag *diag);

/* [a-zA-Z_:][a-zA-Z0-9_:]* and, for labels, the same without ':'. */
bool promtext_is_metric_name(struct slice name);
bool promtext_is_label_name(struct slice name);
/* A Go float: decimal, "NaN", "+Inf", "-Inf"; -EINVAL. */
int promtext_parse_value(struct slice text, double *ret);
/* The shortest decimal that reads back as the value, without exponent, as Prometheus' HTTP API writes it; "NaN", "+Inf", "-Inf". */
int promtext_format_value(struct buffer *out, double value);

#endif
