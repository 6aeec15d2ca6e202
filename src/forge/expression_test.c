#include "forge/expression.h"

#include "unit.h"

static const char *lookup(void *userdata, const char *name) {
    (void)userdata;
    static const char *const variables[][2] = {{"BRANCH", "main"}, {"EMPTY", ""},  {"TAG", "v1.2.3"},     {"PATTERN", "/^V1/i"},
                                               {"PLAIN", "ai"},    {"BAD", "/(/"}, {"SLASH", "feature/x"}};
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        if (strcmp(variables[i][0], name) == 0)
            return variables[i][1];
    return NULL;
}

UNIT_TEST(evaluates) {
    static const struct {
        const char *text;
        bool value;
    } cases[] = {
        {"$BRANCH", true},
        {"$EMPTY", false},
        {"$ABSENT", false},
        {"$BRANCH == \"main\"", true},
        {"$BRANCH == 'main'", true},
        {"\"main\" == $BRANCH", true},
        {"$BRANCH != \"main\"", false},
        {"$BRANCH == \"$BRANCH\"", false}, /* no interpolation */
        {"$ABSENT == null", true},
        {"$EMPTY == null", false},
        {"$EMPTY == \"\"", true},
        {"$ABSENT == \"\"", false},
        {"$ABSENT != null", false},
        {"$ABSENT == $MISSING", true},
        {"null", false},
        {"true", true},
        {"false", false},
        {"$BRANCH && $ABSENT", false},
        {"$ABSENT || $BRANCH", true},
        {"$BRANCH || $ABSENT && $ABSENT", true}, /* && binds tighter */
        {"($BRANCH || $ABSENT) && $ABSENT", false},
        {"$ABSENT && $ABSENT || $BRANCH", true},
        {"$TAG =~ /^v\\d+\\.\\d+/", true},
        {"$TAG =~ /^V1/", false},
        {"$TAG =~ /^V1/i", true},
        {"$TAG !~ /^v1/", false},
        {"$TAG !~ /^w/", true},
        {"$TAG =~ $PATTERN", true},
        {"$BRANCH =~ $PLAIN", true},
        {"$ABSENT =~ /x/", false},
        {"$ABSENT !~ /x/", true},
        {"$SLASH =~ /^feature\\/x$/", true},
        {"  (  ( $BRANCH==\"main\" ) )  ", true},
        {"$BRANCH == \"main\" && $TAG != \"x\" && $TAG =~ /v/", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
        struct expression *expression = NULL;
        struct diag diag = DIAG_INIT;
        bool value = !cases[i].value;
        if (expression_parse(arena, slice_of(cases[i].text), &expression, &diag) || expression_evaluate(expression, lookup, NULL, &value, &diag))
            fail_msg("%s: %s", cases[i].text, diag.message);
        if (value != cases[i].value)
            fail_msg("%s gave %d", cases[i].text, value);
    }
}

UNIT_TEST(refuses) {
    static const char *const cases[][2] = {
        {"", "was expected at character 1"},
        {"$", "without the name"},
        {"${BRANCH}", "${NAME} is not allowed"},
        {"!$BRANCH", "unknown word or sign"},
        {"$A = \"x\"", "unknown word or sign at character 4"},
        {"$A == ", "was expected at character 7"},
        {"$A == \"x", "closing quote"},
        {"$A =~ /x", "closing /"},
        {"$A =~ /x/q", "unknown flag"},
        {"$A =~ \"x\"", "a pattern like"},
        {"$A == /x/", "only behind"},
        {"/x/ =~ $A", "only behind"},
        {"/x/", "only behind"},
        {"$A =~ /(/", "parenthes"},
        {"($A", "closing parenthesis"},
        {"$A)", "was expected"},
        {"$A $B", "was expected"},
        {"$A && ", "was expected"},
        {"branch == \"main\"", "unknown word"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
        struct expression *expression = NULL;
        struct diag diag = DIAG_INIT;
        assert_int_equal(expression_parse(arena, slice_of(cases[i][0]), &expression, &diag), -EINVAL);
        if (!strstr(diag.message, cases[i][1]))
            fail_msg("\"%s\" gave \"%s\"", cases[i][0], diag.message);
        assert_true(diag.hint[0]);
    }
}

UNIT_TEST(is_bounded) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct expression *expression = NULL;
    for (int i = 0; i < 200; i++)
        buffer_append_text(&text, "(");
    assert_int_equal(expression_parse(arena, buffer_slice(&text), &expression, NULL), -EINVAL);
    buffer_reset(&text);
    for (int i = 0; i < 200; i++)
        buffer_append_text(&text, "$A || ");
    buffer_append_text(&text, "$A");
    assert_int_equal(expression_parse(arena, buffer_slice(&text), &expression, NULL), -EINVAL);
}

UNIT_TEST(refuses_a_bad_pattern_in_a_variable) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct expression *expression = NULL;
    struct diag diag = DIAG_INIT;
    bool value = false;
    assert_int_equal(expression_parse(arena, SLICE("$BRANCH =~ $BAD"), &expression, &diag), 0);
    assert_int_equal(expression_evaluate(expression, lookup, NULL, &value, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "not valid"));
}

UNIT_MAIN(UNIT(evaluates), UNIT(refuses), UNIT(is_bounded), UNIT(refuses_a_bad_pattern_in_a_variable))
