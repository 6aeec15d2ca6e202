/* Matching paths against patterns, as Go's filepath.Match with `**` (moby/patternmatcher) and GitLab's artifact paths do for the usual cases.
 *
 * Within a component: the classic two-pointer walk, which falls back to the last `*` only. Across components: one row of a table, "the first i
 * components of the pattern can match the first j of the path", so that any number of `**` costs no more than the product of both lengths. */
#include "job/glob.h"

#define COMPONENT_MAX 4096

/* --- one component --- */

/* Reads [set] at pattern->data; tells whether c is in it and moves behind it. An unclosed set matches nothing. */
static bool match_set(struct slice *pattern, unsigned char c) {
    size_t at = 1;
    bool negated = at < pattern->len && (pattern->data[at] == '^' || pattern->data[at] == '!');
    bool found = false;
    at += negated;
    for (bool first = true; at < pattern->len && (first || pattern->data[at] != ']'); first = false) {
        if (pattern->data[at] == '\\' && at + 1 < pattern->len)
            at++;
        unsigned char low = (unsigned char)pattern->data[at++], high = low;
        if (at + 1 < pattern->len && pattern->data[at] == '-' && pattern->data[at + 1] != ']') {
            high = (unsigned char)pattern->data[at + 1];
            at += 2;
        }
        found = found || (c >= low && c <= high);
    }
    if (at >= pattern->len)
        return false;
    *pattern = slice_from(*pattern, at + 1);
    return found != negated;
}

/* One element of the pattern that is no `*` against one character. */
static bool match_one(struct slice *pattern, char c) {
    if (pattern->len == 0)
        return false;
    char p = pattern->data[0];
    if (p == '[')
        return match_set(pattern, (unsigned char)c);
    if (p == '\\' && pattern->len > 1) {
        *pattern = slice_from(*pattern, 1);
        p = pattern->data[0];
    } else if (p == '?') {
        *pattern = slice_from(*pattern, 1);
        return true;
    }
    *pattern = slice_from(*pattern, 1);
    return p == c;
}

static bool match_component(struct slice pattern, struct slice name) {
    struct slice star = {0}, star_name = {0}; /* where to go on when what follows the last '*' fails */
    while (name.len) {
        if (pattern.len && pattern.data[0] == '*') {
            pattern = slice_from(pattern, 1);
            star = pattern;
            star_name = name;
            if (!star.data)
                return true;
            continue;
        }
        struct slice next = pattern;
        if (match_one(&next, name.data[0])) {
            pattern = next;
            name = slice_from(name, 1);
            continue;
        }
        if (!star.data)
            return false;
        star_name = slice_from(star_name, 1);
        name = star_name;
        pattern = star;
    }
    while (pattern.len && pattern.data[0] == '*')
        pattern = slice_from(pattern, 1);
    return pattern.len == 0;
}

/* --- paths --- */

/* The next component; empty ones and "." are passed over. False at the end. */
static bool next_component(struct slice *rest, struct slice *ret) {
    while (rest->data) {
        *ret = slice_cut(rest, '/');
        if (ret->len && !slice_is(*ret, "."))
            return true;
    }
    return false;
}

bool glob_match(struct slice pattern, struct slice path) {
    struct slice names[GLOB_COMPONENTS_MAX];
    bool row[GLOB_COMPONENTS_MAX + 1] = {true};
    size_t count = 0;
    struct slice name, element;
    bool any = false;
    while (next_component(&path, &name)) {
        if (count == GLOB_COMPONENTS_MAX)
            return false;
        names[count++] = name;
    }
    while (next_component(&pattern, &element)) {
        any = true;
        if (slice_is(element, "**")) {
            for (size_t j = 1; j <= count; j++)
                row[j] = row[j] || row[j - 1];
            continue;
        }
        for (size_t j = count; j > 0; j--)
            row[j] = row[j - 1] && element.len <= COMPONENT_MAX && match_component(element, names[j - 1]);
        row[0] = false;
    }
    /* A whole match, or one of a folder above. */
    bool matched = false;
    for (size_t j = 1; j <= count; j++)
        matched = matched || row[j];
    return any && matched;
}

/* --- .dockerignore --- */

static int add_rule(struct glob_rules *rules, struct slice line) {
    bool include = line.len && line.data[0] == '!';
    if (include)
        line = slice_trim(slice_from(line, 1));
    while (line.len && line.data[0] == '/')
        line = slice_from(line, 1);
    if (line.len == 0)
        return 0;
    if (rules->items.count == GLOB_PATTERNS_MAX)
        return -E2BIG;
    char *pattern = slice_dup(line);
    if (!pattern)
        return -ENOMEM;
    int r = VECTOR_PUSH(&rules->items, ((struct glob_rule){.pattern = pattern, .include = include}));
    if (r < 0)
        free(pattern);
    return r;
}

int glob_rules_parse(struct glob_rules *rules, struct slice text) {
    int r = 0;
    while (r == 0 && text.data) {
        struct slice line = slice_trim(slice_cut(&text, '\n'));
        if (line.len && line.data[0] != '#')
            r = add_rule(rules, line);
    }
    return r;
}

void glob_rules_deinit(struct glob_rules *rules) {
    for (size_t i = 0; i < rules->items.count; i++)
        free(rules->items.items[i].pattern);
    VECTOR_DEINIT(&rules->items);
}

bool glob_rules_exclude(const struct glob_rules *rules, struct slice path) {
    bool excluded = false;
    for (size_t i = 0; i < rules->items.count; i++) {
        const struct glob_rule *rule = &rules->items.items[i];
        if (rule->include == excluded && glob_match(slice_of(rule->pattern), path))
            excluded = !rule->include;
    }
    return excluded;
}

bool glob_rules_are_final(const struct glob_rules *rules) {
    for (size_t i = 0; i < rules->items.count; i++) {
        if (rules->items.items[i].include)
            return false;
    }
    return true;
}
