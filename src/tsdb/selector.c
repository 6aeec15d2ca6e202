/* Instant vector selectors as PromQL writes them: an optional name and matchers in braces. Regular expressions are anchored at both ends and bounded
 * in steps (PCRE2's match limit), so a bad one costs a query, not the process. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "codec/codec.h"
#include "tsdb/tsdb_priv.h"

#define MATCHERS_MAX 32
#define MATCH_STEPS_MAX 100000
#define SELECTOR_BYTES_MAX (16 * KIB)

enum matcher_type { MATCH_EQUAL, MATCH_NOT_EQUAL, MATCH_REGEX, MATCH_NOT_REGEX };

struct matcher {
    char *name, *value;
    enum matcher_type type;
    pcre2_code *code;
};

struct tsdb_selector {
    size_t count;
    struct matcher matchers[MATCHERS_MAX];
    pcre2_match_data *match_data;
    pcre2_match_context *match_context;
};

void tsdb_selector_free(struct tsdb_selector *selector) {
    if (!selector)
        return;
    for (size_t i = 0; i < selector->count; i++) {
        free(selector->matchers[i].name);
        free(selector->matchers[i].value);
        pcre2_code_free(selector->matchers[i].code);
    }
    pcre2_match_data_free(selector->match_data);
    pcre2_match_context_free(selector->match_context);
    free(selector);
}

/* --- matching --- */

static bool regex_matches(const struct tsdb_selector *selector, const struct matcher *matcher, struct slice value) {
    return pcre2_match(matcher->code, (PCRE2_SPTR)(value.data ? value.data : ""), value.len, 0, 0, selector->match_data, selector->match_context) >=
           0;
}

static bool matcher_matches(const struct tsdb_selector *selector, const struct matcher *matcher, struct slice value) {
    switch (matcher->type) {
    case MATCH_EQUAL: return slice_is(value, matcher->value);
    case MATCH_NOT_EQUAL: return !slice_is(value, matcher->value);
    case MATCH_REGEX: return regex_matches(selector, matcher, value);
    case MATCH_NOT_REGEX: return !regex_matches(selector, matcher, value);
    }
    return false;
}

bool tsdb_selector_matches(const struct tsdb_selector *selector, const struct tsdb_series *series) {
    for (size_t i = 0; i < selector->count; i++)
        if (!matcher_matches(selector, &selector->matchers[i], tsdb_series_label(series, selector->matchers[i].name)))
            return false;
    return true;
}

/* --- parsing --- */

struct reader {
    struct slice text;
    size_t at;
    struct diag *diag;
};

static int expected(const struct reader *reader, const char *what) {
    diag_at(reader->diag, NULL, 1, (int)reader->at + 1);
    return diag_set(reader->diag, -EINVAL, "expected %s at position %zu of the selector", what, reader->at + 1);
}

static void skip_blanks(struct reader *reader) {
    while (reader->at < reader->text.len && memchr(" \t\r\n", reader->text.data[reader->at], 4))
        reader->at++;
}

static bool take(struct reader *reader, const char *token) {
    struct slice rest = slice_from(reader->text, reader->at);
    if (!slice_starts(rest, slice_of(token)))
        return false;
    reader->at += strlen(token);
    return true;
}

static struct slice take_name(struct reader *reader, bool (*is_name)(struct slice name)) {
    size_t end = reader->at;
    for (; end < reader->text.len; end++) {
        char tail[2] = {'_', reader->text.data[end]}; /* whether a byte may follow */
        if (!is_name(end == reader->at ? slice_make(tail + 1, 1) : slice_make(tail, 2)))
            break;
    }
    struct slice name = slice_make(reader->text.data + reader->at, end - reader->at);
    reader->at = end;
    return name;
}

static bool unescape(char c, char *ret) {
    static const char from[] = "\\\"'`nrt", to[] = "\\\"'`\n\r\t";
    const char *found = c ? strchr(from, c) : NULL;
    *ret = found ? to[found - from] : 0;
    return found != NULL;
}

/* A string in double, single or back quotes; owned by the caller. */
static int take_string(struct reader *reader, char **ret) {
    char quote = reader->at < reader->text.len ? reader->text.data[reader->at] : 0;
    if (quote != '"' && quote != '\'' && quote != '`')
        return expected(reader, "a quoted string");
    CLEANUP(buffer_deinit) struct buffer value = BUFFER_INIT(SELECTOR_BYTES_MAX);
    for (reader->at++;; reader->at++) {
        if (reader->at >= reader->text.len)
            return expected(reader, "the closing quote");
        char c = reader->text.data[reader->at];
        if (c == quote)
            break;
        if (c == '\\' && quote != '`') {
            reader->at++;
            if (reader->at >= reader->text.len || !unescape(reader->text.data[reader->at], &c))
                return expected(reader, "a known escape");
        }
        buffer_append_byte(&value, c);
    }
    reader->at++;
    *ret = buffer_take(&value);
    return *ret ? 0 : -ENOMEM;
}

static int compile(struct reader *reader, struct matcher *matcher) {
    int code;
    PCRE2_SIZE offset;
    matcher->code = pcre2_compile((PCRE2_SPTR)matcher->value, PCRE2_ZERO_TERMINATED,
                                  PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOTALL, &code, &offset, NULL);
    if (matcher->code)
        return 0;
    char message[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return diag_set(reader->diag, -EINVAL, "the regular expression \"%s\" is malformed at %zu: %s", matcher->value, (size_t)offset, message);
}

static int add_matcher(struct tsdb_selector *selector, struct reader *reader, struct slice name, enum matcher_type type, char *value) {
    if (selector->count == MATCHERS_MAX) {
        free(value);
        return expected(reader, "at most 32 matchers");
    }
    struct matcher *matcher = &selector->matchers[selector->count++];
    *matcher = (struct matcher){.name = slice_dup(name), .value = value, .type = type};
    if (!matcher->name || !value)
        return -ENOMEM;
    return type == MATCH_REGEX || type == MATCH_NOT_REGEX ? compile(reader, matcher) : 0;
}

static int take_matcher(struct tsdb_selector *selector, struct reader *reader) {
    static const struct {
        const char *token;
        enum matcher_type type;
    } operators[] = {{"=~", MATCH_REGEX}, {"!~", MATCH_NOT_REGEX}, {"!=", MATCH_NOT_EQUAL}, {"=", MATCH_EQUAL}};
    struct slice name = take_name(reader, promtext_is_label_name);
    if (name.len == 0)
        return expected(reader, "a label name or }");
    skip_blanks(reader);
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!take(reader, operators[i].token))
            continue;
        skip_blanks(reader);
        char *value = NULL;
        int error = take_string(reader, &value);
        return error < 0 ? error : add_matcher(selector, reader, name, operators[i].type, value);
    }
    return expected(reader, "=, !=, =~ or !~");
}

static int take_matchers(struct tsdb_selector *selector, struct reader *reader) {
    for (;;) {
        skip_blanks(reader);
        if (take(reader, "}"))
            return 0;
        int error = take_matcher(selector, reader);
        if (error < 0)
            return error;
        skip_blanks(reader);
        if (!take(reader, ",") && (reader->at >= reader->text.len || reader->text.data[reader->at] != '}'))
            return expected(reader, ", or }");
    }
}

static int parse(struct tsdb_selector *selector, struct reader *reader) {
    skip_blanks(reader);
    struct slice name = take_name(reader, promtext_is_metric_name);
    int error = name.len > 0 ? add_matcher(selector, reader, SLICE("__name__"), MATCH_EQUAL, slice_dup(name)) : 0;
    skip_blanks(reader);
    bool braces = error == 0 && take(reader, "{");
    if (braces)
        error = take_matchers(selector, reader);
    skip_blanks(reader);
    if (error < 0)
        return error;
    if (name.len == 0 && !braces)
        return expected(reader, "a metric name or {");
    if (reader->at < reader->text.len)
        return diag_set(reader->diag, -EINVAL, "only selectors are understood, not \"%.*s\" behind one",
                        (int)MIN(reader->text.len - reader->at, (size_t)60), reader->text.data + reader->at);
    for (size_t i = 0; i < selector->count; i++)
        if (!matcher_matches(selector, &selector->matchers[i], (struct slice){0}))
            return 0;
    return diag_set(reader->diag, -EINVAL, "vector selector must contain at least one non-empty matcher");
}

int tsdb_selector_parse(struct slice text, struct tsdb_selector **ret, struct diag *diag) {
    if (text.len > SELECTOR_BYTES_MAX)
        return diag_set(diag, -EINVAL, "the selector is longer than 16 KiB");
    CLEANUP(tsdb_selector_freep) struct tsdb_selector *selector = calloc(1, sizeof *selector);
    if (!selector)
        return -ENOMEM;
    selector->match_data = pcre2_match_data_create(1, NULL);
    selector->match_context = pcre2_match_context_create(NULL);
    if (!selector->match_data || !selector->match_context)
        return -ENOMEM;
    pcre2_set_match_limit(selector->match_context, MATCH_STEPS_MAX);
    int error = parse(selector, &(struct reader){.text = text, .diag = diag});
    if (error < 0)
        return error;
    *ret = TAKE(selector);
    return 0;
}
