/* What every unit test includes: cmocka with the headers it wants first, and a few shorthands. */
#ifndef TIDEMILL_TESTS_UNIT_H
#define TIDEMILL_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A test function and the list that runs them: `UNIT_MAIN(UNIT(parses_numbers), UNIT(refuses_garbage))`. */
#define UNIT_TEST(name) static void name(__attribute__((unused)) void **state)
#define UNIT(name) cmocka_unit_test(name)
#define UNIT_MAIN(...)                                                                                                                               \
    int main(void) {                                                                                                                                 \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                                                                             \
        return cmocka_run_group_tests(tests, NULL, NULL);                                                                                            \
    }

#endif
