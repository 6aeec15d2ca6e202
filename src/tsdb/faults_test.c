#include "tsdb/tsdb.h"

#include "faults.h"
#include "unit.h"

/* What was taken is there, whatever failed later. */
static int append_and_find(__attribute__((unused)) void *context) {
    CLEANUP(tsdb_freep) struct tsdb *tsdb = NULL;
    CLEANUP(tsdb_selector_freep) struct tsdb_selector *selector = NULL;
    struct diag diag = DIAG_INIT;
    int r = tsdb_new(NULL, &tsdb);
    for (int s = 0; s < 3 && r == 0; s++) {
        static const char *const jobs[] = {"a", "b", "c"};
        const struct tsdb_label labels[] = {{SLICE("__name__"), SLICE("up")}, {SLICE("job"), slice_of(jobs[s])}};
        struct tsdb_series *series = NULL, *again = NULL;
        r = tsdb_series_get(tsdb, labels, 2, &series);
        if (r == 0)
            r = tsdb_series_get(tsdb, labels, 2, &again);
        assert_ptr_equal(series, r == 0 ? again : series);
        int taken = 0;
        for (int i = 0; i < 300 && r == 0; i++) {
            r = tsdb_append(tsdb, series, 1000 + i * 15000, i * 0.1);
            taken += r == 0;
        }
        int64_t time_ms;
        double value;
        if (taken > 0) {
            assert_true(tsdb_series_at(series, 1000 + (taken - 1) * 15000, &time_ms, &value));
            assert_true(value == (taken - 1) * 0.1);
        }
    }
    if (r == 0)
        r = tsdb_selector_parse(SLICE("up{job=~\"a|b\",instance!=\"x\"}"), &selector, &diag);
    size_t found = 0;
    for (size_t at = 0; r == 0 && tsdb_next(tsdb, selector, &at);)
        found++;
    assert_true(r < 0 || found == 2);
    return r;
}

UNIT_TEST(samples_stay) {
    TEST_FAULTS(append_and_find, NULL);
}

UNIT_MAIN(UNIT(samples_stay))
