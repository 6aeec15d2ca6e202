/* What is told together and what is left out, by a simulated clock. */
#include <stdio.h>

#include "node/correlate_priv.h"
#include "unit.h"

static struct correlator *correlator;

static int setup(void **state) {
    (void)state;
    return correlator_new(&correlator);
}
static int teardown(void **state) {
    (void)state;
    correlator_free(correlator);
    return 0;
}

static bool is_similar(const char *key, int number, int64_t now_ms) {
    char message[40];
    snprintf(message, sizeof message, "message %d", number);
    return correlate_is_similar(correlator, key, message, now_ms);
}

UNIT_TEST(the_tenth_message_and_those_after_it_are_told_together) {
    for (int i = 0; i < 100; i++)
        assert_false(is_similar("a", 0, i)); /* the same each time */
    for (int i = 1; i < 9; i++)
        assert_false(is_similar("a", i, 100));
    assert_false(is_similar("b", 9, 100));
    assert_true(is_similar("a", 9, 100));
    assert_true(is_similar("a", 10, 100));
    assert_false(is_similar("a", 10, 100)); /* known by now */
    assert_false(is_similar("a", 11, 100 + CORRELATE_SIMILAR_MS + 1));
}

UNIT_TEST(a_subject_has_a_budget) {
    for (int i = 0; i < CORRELATE_BURST; i++)
        assert_true(correlate_may_tell(correlator, "a", 1000));
    assert_false(correlate_may_tell(correlator, "a", 1000));
    assert_true(correlate_may_tell(correlator, "b", 1000));
    assert_false(correlate_may_tell(correlator, "a", 1000 + CORRELATE_REST_MS - 1));
    assert_true(correlate_may_tell(correlator, "a", 1000 + CORRELATE_REST_MS));
    assert_false(correlate_may_tell(correlator, "a", 1000 + CORRELATE_REST_MS));
}

UNIT_TEST(many_subjects_are_forgotten_in_turn) {
    char subject[40];
    for (int i = 0; i < CORRELATE_BURST; i++)
        assert_true(correlate_may_tell(correlator, "first", 0));
    for (int i = 0; i < 2000; i++) {
        snprintf(subject, sizeof subject, "%d", i);
        assert_true(correlate_may_tell(correlator, subject, i));
    }
    assert_true(correlate_may_tell(correlator, "first", 2000));
}

#define WITH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {WITH(the_tenth_message_and_those_after_it_are_told_together), WITH(a_subject_has_a_budget),
                                       WITH(many_subjects_are_forgotten_in_turn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
