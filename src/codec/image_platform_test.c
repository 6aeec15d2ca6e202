#include "codec/codec.h"
#include "unit.h"

static struct image_platform parse(const char *from, char *text) {
    struct image_platform platform = {0};
    assert_int_equal(image_platform_parse(from, text, &platform), 0);
    return platform;
}

UNIT_TEST(a_machine_runs_its_own_and_older_variants) {
    static const struct {
        const char *wanted, *offered;
        bool runs;
    } cases[] = {{"linux/amd64", "linux/amd64", true},
                 {"linux/amd64", "linux/arm64", false},
                 {"linux/amd64", "windows/amd64", false},
                 {"linux/amd64", "linux/amd64/v3", false},
                 {"linux/amd64/v3", "linux/amd64", true},
                 {"linux/arm64/v8", "linux/arm64", true},
                 {"linux/arm64", "linux/arm64/v8", true},
                 {"linux/arm/v7", "linux/arm/v6", true},
                 {"linux/arm/v6", "linux/arm/v7", false},
                 {"linux/arm", "linux/arm/v7", true},
                 {"linux/mips/hard", "linux/mips/hard", true},
                 {"linux/mips/hard", "linux/mips/soft", false},
                 {"amd64", "linux/amd64", true}};
    char a[IMAGE_PLATFORM_TEXT], b[IMAGE_PLATFORM_TEXT];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct image_platform wanted = parse(cases[i].wanted, a), offered = parse(cases[i].offered, b);
        if ((image_platform_rank(&wanted, &offered) > 0) != cases[i].runs)
            fail_msg("%s on %s", cases[i].offered, cases[i].wanted);
    }
}

UNIT_TEST(the_newest_variant_that_runs_is_the_best) {
    char a[IMAGE_PLATFORM_TEXT], b[IMAGE_PLATFORM_TEXT];
    struct image_platform wanted = parse("linux/arm/v7", a), six = parse("linux/arm/v6", b), seven = {"linux", "arm", ""}, none = {"", "", ""};
    assert_true(image_platform_rank(&wanted, &seven) > image_platform_rank(&wanted, &six));
    assert_true(image_platform_rank(&wanted, &six) > image_platform_rank(&wanted, &none));
    assert_true(image_platform_rank(&wanted, &none) > 0);
}

UNIT_TEST(a_platform_has_two_or_three_words) {
    static const char *const bad[] = {
        "", "/", "linux/", "linux//v7", "a/b/c/d", "linux/amd64/", "a-name-that-is-much-too-long-for-any-platform/that-anybody-has-ever-heard-of"};
    char text[IMAGE_PLATFORM_TEXT];
    struct image_platform platform;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(image_platform_parse(bad[i], text, &platform), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(a_machine_runs_its_own_and_older_variants), UNIT(the_newest_variant_that_runs_is_the_best),
                                       UNIT(a_platform_has_two_or_three_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
