#include "job/glob.h"

#include "unit.h"

UNIT_TEST(patterns_match_as_docker_and_gitlab_do) {
    static const struct {
        const char *pattern, *path;
        bool match;
    } cases[] = {
        {"a", "a", true},
        {"a", "a/b/c", true}, /* a folder stands for what is in it */
        {"a/b", "a", false},
        {"*.o", "x.o", true},
        {"*.o", "d/x.o", false},
        {"**/*.o", "x.o", true},
        {"**/*.o", "d/e/x.o", true},
        {"d/**", "d/x", true},
        {"d/**", "d", true},
        {"d/**/z", "d/z", true},
        {"d/**/z", "d/x/y/z/more", true},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"[a-c]x", "bx", true},
        {"[!a-c]x", "bx", false},
        {"[^a-c]x", "dx", true},
        {"[]a]", "]", true},
        {"[a", "a", false},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"a*b*c", "aXbYbZc", true},
        {"a*b*c", "aXbYbZ", false},
        {"./a/./b/", "a/b", true},
        {"*", "a/b", true},
        {"", "a", false},
        {"a", "", false},
        {"../a", "a", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (glob_match(slice_of(cases[i].pattern), slice_of(cases[i].path)) != cases[i].match)
            fail_msg("%s against %s", cases[i].pattern, cases[i].path);
    }
}

UNIT_TEST(hostile_patterns_end) {
    char pattern[1000], path[1000];
    for (size_t i = 0; i < 499; i++)
        memcpy(pattern + 2 * i, "*a", 2);
    memset(path, 'a', sizeof path);
    assert_false(glob_match(slice_make("*a*a*a*a*a*a*a*a*b", 18), slice_make(path, sizeof path)));
    assert_true(glob_match(slice_make(pattern, 998), slice_make(path, sizeof path)));
    for (size_t i = 0; i < 250; i++)
        memcpy(pattern + 3 * i, "**/", 3);
    for (size_t i = 0; i < 250; i++)
        memcpy(path + 2 * i, "a/", 2);
    memcpy(pattern + 750, "b", 1);
    assert_false(glob_match(slice_make(pattern, 751), slice_make(path, 500)));
}

UNIT_TEST(the_last_rule_decides) {
    struct glob_rules rules = {0};
    assert_int_equal(glob_rules_parse(&rules, SLICE("# comment\n\nnode_modules\n/build/\n*.log\n!keep.log\n")), 0);
    assert_int_equal(rules.items.count, 4);
    assert_true(glob_rules_exclude(&rules, SLICE("node_modules/x/y")));
    assert_true(glob_rules_exclude(&rules, SLICE("build")));
    assert_true(glob_rules_exclude(&rules, SLICE("a.log")));
    assert_false(glob_rules_exclude(&rules, SLICE("keep.log")));
    assert_false(glob_rules_exclude(&rules, SLICE("src/main.c")));
    assert_false(glob_rules_are_final(&rules));
    glob_rules_deinit(&rules);
}

UNIT_MAIN(UNIT(patterns_match_as_docker_and_gitlab_do), UNIT(hostile_patterns_end), UNIT(the_last_rule_decides))
