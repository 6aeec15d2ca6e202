/* The Prometheus text format, https://prometheus.io/docs/instrumenting/exposition_formats/: lines of `name{label="value",…} value [timestamp]`.
 *
 * Targets are applications of strangers, so the parser allocates nothing, bounds labels and escapes, and stops at the first malformed line with its
 * place. OpenMetrics exemplars (`# {…}` behind a value) are skipped, its `# EOF` is a comment, its timestamps in seconds with a fraction are
 * understood. */
#include "codec/promtext.h"

#include <math.h>
#include <stdio.h>

void promtext_init(struct promtext *parser, struct slice input) {
    parser->input = input;
    parser->at = 0;
    parser->line = 1;
    parser->unescaped = 0;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_name(struct slice name, bool colons) {
    for (size_t i = 0; i < name.len; i++)
        if (!is_letter(name.data[i]) && !(i > 0 && is_digit(name.data[i])) && !(colons && name.data[i] == ':'))
            return false;
    return name.len > 0;
}

bool promtext_is_metric_name(struct slice name) {
    return is_name(name, true);
}

bool promtext_is_label_name(struct slice name) {
    return is_name(name, false);
}

/* strtod knows hexadecimal, "infinity" and blanks as well: only the letters of "inf", "nan" and the exponent pass. */
int promtext_parse_value(struct slice text, double *ret) {
    char copy[64];
    if (text.len == 0 || text.len >= sizeof copy)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++)
        if (!is_digit(text.data[i]) && !memchr("+-.eEnNaAiIfF", text.data[i], 13))
            return -EINVAL;
    memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    char *end;
    double value = strtod(copy, &end);
    if (*end)
        return -EINVAL;
    *ret = value;
    return 0;
}

int promtext_format_value(struct buffer *out, double value) {
    char text[40];
    if (isnan(value))
        return buffer_append_text(out, "NaN");
    if (isinf(value))
        return buffer_append_text(out, value < 0 ? "-Inf" : "+Inf");
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    /* "-d.ddde±xx" laid out as a plain decimal */
    char digits[24];
    size_t count = 0;
    const char *at = text;
    if (*at == '-')
        buffer_append_byte(out, *at++);
    for (; *at != 'e'; at++)
        if (*at != '.')
            digits[count++] = *at;
    int64_t exponent = 0;
    slice_parse_i64(slice_of(at[1] == '+' ? at + 2 : at + 1), &exponent);
    while (count > 1 && digits[count - 1] == '0')
        count--;
    for (int64_t i = exponent; i < 0; i++)
        buffer_append_text(out, i == exponent ? "0." : "0");
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && (int64_t)i == exponent + 1)
            buffer_append_byte(out, '.');
        buffer_append_byte(out, digits[i]);
    }
    for (int64_t i = (int64_t)count; i <= exponent; i++)
        buffer_append_byte(out, '0');
    return buffer_error(out);
}

/* --- one line --- */

struct line {
    struct promtext *parser;
    struct slice text;
    size_t at;
    struct diag *diag;
};

static enum promtext_result bad(const struct line *line, const char *expected) {
    char found[2] = {line->at < line->text.len ? line->text.data[line->at] : 0, 0};
    diag_at(line->diag, NULL, line->parser->line, (int)MIN(line->at + 1, (size_t)1 << 20));
    diag_set(line->diag, -EINVAL, "expected %s, found %s%s%s", expected, found[0] ? "\"" : "the end of the line", found, found[0] ? "\"" : "");
    return PROMTEXT_BAD;
}

static void skip_blanks(struct line *line) {
    while (line->at < line->text.len && (line->text.data[line->at] == ' ' || line->text.data[line->at] == '\t'))
        line->at++;
}

static bool take(struct line *line, char byte) {
    if (line->at >= line->text.len || line->text.data[line->at] != byte)
        return false;
    line->at++;
    return true;
}

static struct slice take_name(struct line *line, bool colons) {
    size_t start = line->at;
    while (line->at < line->text.len) {
        char c = line->text.data[line->at];
        if (!is_letter(c) && !(line->at > start && is_digit(c)) && !(colons && c == ':'))
            break;
        line->at++;
    }
    return slice_make(line->text.data + start, line->at - start);
}

/* Behind the opening quote. Values without escapes are borrowed from the input. */
static bool take_quoted(struct line *line, struct slice *ret) {
    struct promtext *parser = line->parser;
    size_t start = line->at, kept = parser->unescaped;
    bool escaped = false;
    for (; line->at < line->text.len && line->text.data[line->at] != '"'; line->at++) {
        char c = line->text.data[line->at];
        if (c == '\\') {
            if (!escaped) {
                size_t plain = line->at - start;
                if (plain > sizeof parser->text - kept)
                    return false;
                memcpy(parser->text + kept, line->text.data + start, plain);
                parser->unescaped += plain;
            }
            escaped = true;
            if (++line->at >= line->text.len)
                return false;
            c = line->text.data[line->at];
            if (c != '\\' && c != '"' && c != 'n')
                return false;
            c = c == 'n' ? '\n' : c;
        }
        if (escaped && parser->unescaped >= sizeof parser->text)
            return false;
        if (escaped)
            parser->text[parser->unescaped++] = c;
    }
    *ret = escaped ? slice_make(parser->text + kept, parser->unescaped - kept) : slice_make(line->text.data + start, line->at - start);
    return take(line, '"');
}

static enum promtext_result take_labels(struct line *line, size_t *ret_count) {
    struct promtext_label *labels = line->parser->labels;
    size_t count = 0;
    for (;;) {
        skip_blanks(line);
        if (take(line, '}'))
            break;
        if (count == PROMTEXT_LABELS_MAX)
            return bad(line, "at most 64 labels");
        labels[count].name = take_name(line, false);
        if (labels[count].name.len == 0)
            return bad(line, "a label name or }");
        for (size_t i = 0; i < count; i++)
            if (slice_equal(labels[i].name, labels[count].name))
                return bad(line, "each label once");
        skip_blanks(line);
        if (!take(line, '='))
            return bad(line, "=");
        skip_blanks(line);
        if (!take(line, '"') || !take_quoted(line, &labels[count].value))
            return bad(line, "a quoted value");
        count++;
        skip_blanks(line);
        if (!take(line, ',') && (line->at >= line->text.len || line->text.data[line->at] != '}'))
            return bad(line, ", or }");
    }
    *ret_count = count;
    return PROMTEXT_SAMPLE;
}

static struct slice take_word(struct line *line) {
    skip_blanks(line);
    size_t start = line->at;
    while (line->at < line->text.len && line->text.data[line->at] != ' ' && line->text.data[line->at] != '\t')
        line->at++;
    return slice_make(line->text.data + start, line->at - start);
}

/* Milliseconds as an integer; OpenMetrics: seconds with a fraction. */
static bool timestamp_parse_any(struct slice word, int64_t *ret_ms) {
    if (slice_parse_i64(word, ret_ms) == 0)
        return true;
    double seconds;
    if (promtext_parse_value(word, &seconds) < 0 || !(fabs(seconds) < 1e15))
        return false;
    *ret_ms = (int64_t)(seconds * 1000);
    return true;
}

static enum promtext_result take_sample(struct line *line, struct promtext_sample *ret) {
    struct promtext_sample sample = {.labels = line->parser->labels};
    sample.name = take_name(line, true);
    if (sample.name.len == 0)
        return bad(line, "a metric name");
    skip_blanks(line);
    if (take(line, '{')) {
        enum promtext_result result = take_labels(line, &sample.labels_count);
        if (result == PROMTEXT_BAD)
            return result;
    }
    size_t before = line->at;
    struct slice word = take_word(line);
    if (promtext_parse_value(word, &sample.value) < 0) {
        line->at = before;
        return bad(line, "a value");
    }
    word = take_word(line);
    if (word.len > 0 && word.data[0] != '#') {
        sample.has_timestamp = true;
        if (!timestamp_parse_any(word, &sample.timestamp_ms))
            return bad(line, "a timestamp");
        word = take_word(line);
    }
    if (word.len > 0 && word.data[0] != '#')
        return bad(line, "the end of the line");
    *ret = sample;
    return PROMTEXT_SAMPLE;
}

enum promtext_result promtext_next(struct promtext *parser, struct promtext_sample *ret, struct diag *diag) {
    for (; parser->at < parser->input.len; parser->line++) {
        struct slice rest = slice_from(parser->input, parser->at);
        ptrdiff_t end = slice_index(rest, '\n');
        struct line line = {.parser = parser, .text = end < 0 ? rest : slice_head(rest, (size_t)end), .diag = diag};
        if (line.text.len > 0 && line.text.data[line.text.len - 1] == '\r')
            line.text.len--;
        parser->unescaped = 0;
        skip_blanks(&line);
        bool empty = line.at == line.text.len || line.text.data[line.at] == '#';
        if (!empty) {
            enum promtext_result result = take_sample(&line, ret);
            if (result == PROMTEXT_BAD)
                return result;
        }
        parser->at += end < 0 ? rest.len : (size_t)end + 1;
        if (!empty) {
            parser->line++;
            return PROMTEXT_SAMPLE;
        }
    }
    return PROMTEXT_END;
}
