/* Compression, bounds, lookups, selectors. */
#include "unit.h"

#include <math.h>
#include <stdio.h>

#include "tsdb/chunk_priv.h"
#include "tsdb/tsdb.h"

static uint64_t random_state = 42;

static uint64_t next_random(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Values and intervals of every awkward kind come back bit for bit. */
UNIT_TEST(chunks_give_back_what_they_took) {
    for (int round = 0; round < 2000; round++) {
        struct chunk chunk = {0};
        int64_t times[CHUNK_SAMPLES_MAX], now = (int64_t)(next_random() % 2000000000000);
        uint64_t values[CHUNK_SAMPLES_MAX], value = next_random();
        size_t count = 1 + next_random() % CHUNK_SAMPLES_MAX;
        for (size_t i = 0; i < count; i++) {
            now += 1 + (int64_t)(next_random() >> (next_random() % 4 == 0 ? 24 : 50));
            switch (next_random() % 4) {
            case 0: value = next_random(); break;
            case 1: value ^= next_random() >> next_random() % 64; break;
            case 2: {
                double step = (double)i;
                memcpy(&value, &step, sizeof value);
                break;
            }
            }
            times[i] = now;
            values[i] = value;
            double real;
            memcpy(&real, &value, sizeof real);
            assert_int_equal(chunk_append(&chunk, now, real), 0);
        }
        if (round % 2)
            chunk_close(&chunk);
        struct chunk_reader reader;
        int64_t time;
        double real;
        chunk_reader_init(&reader, &chunk);
        for (size_t i = 0; i < count; i++) {
            assert_true(chunk_next(&reader, &time, &real));
            memcpy(&value, &real, sizeof value);
            assert_int_equal(time, times[i]);
            assert_int_equal(value, values[i]);
        }
        assert_false(chunk_next(&reader, &time, &real));
        chunk_deinit(&chunk);
    }
}

UNIT_TEST(steady_samples_are_small) {
    struct chunk chunk = {0};
    for (int i = 0; i < CHUNK_SAMPLES_MAX; i++)
        assert_int_equal(chunk_append(&chunk, 1700000000000 + i * 15000, 1), 0);
    assert_int_equal(chunk_append(&chunk, 1800000000000, 1), -ENOSPC);
    assert_in_range(chunk.bits / 8, 1, 48);
    chunk_deinit(&chunk);
}

static struct tsdb_series *series(struct tsdb *tsdb, const char *name, const char *job, const char *instance) {
    const struct tsdb_label labels[] = {{SLICE("job"), slice_of(job)}, {SLICE("__name__"), slice_of(name)}, {SLICE("instance"), slice_of(instance)}};
    struct tsdb_series *found = NULL;
    assert_int_equal(tsdb_series_get(tsdb, labels, 3, &found), 0);
    return found;
}

UNIT_TEST(series_are_found_by_their_labels) {
    CLEANUP(tsdb_freep) struct tsdb *tsdb = NULL;
    assert_int_equal(tsdb_new(NULL, &tsdb), 0);
    struct tsdb_series *first = series(tsdb, "up", "a", "1");
    assert_ptr_equal(series(tsdb, "up", "a", "1"), first);
    assert_ptr_not_equal(series(tsdb, "up", "a", ""), first);
    const struct tsdb_label *labels;
    assert_int_equal(tsdb_series_labels(first, &labels), 3);
    assert_true(slice_is(labels[0].name, "__name__") && slice_is(labels[1].value, "1") && slice_is(labels[2].name, "job"));
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        series(tsdb, "many", "a", text);
    }
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_true(slice_is(tsdb_series_label(series(tsdb, "many", "a", text), "instance"), text));
    }
    struct tsdb_stats stats;
    tsdb_stats_get(tsdb, &stats);
    assert_int_equal(stats.series, 1002);
    const struct tsdb_label twice[] = {{SLICE("a"), SLICE("1")}, {SLICE("a"), SLICE("2")}};
    assert_int_equal(tsdb_series_get(tsdb, twice, 2, &first), -EINVAL);
    assert_int_equal(tsdb_series_get(tsdb, NULL, 0, &first), -EINVAL);
}

UNIT_TEST(lookups_by_time) {
    CLEANUP(tsdb_freep) struct tsdb *tsdb = NULL;
    assert_int_equal(tsdb_new(NULL, &tsdb), 0);
    struct tsdb_series *up = series(tsdb, "up", "a", "1");
    for (int i = 0; i < 300; i++)
        assert_int_equal(tsdb_append(tsdb, up, 1000000 + i * 15000, i), 0);
    assert_int_equal(tsdb_append(tsdb, up, 1000000, 1), TSDB_E_ORDER);
    int64_t time;
    double value;
    assert_false(tsdb_series_at(up, 999999, &time, &value));
    assert_true(tsdb_series_at(up, 1000000, &time, &value) && value == 0);
    assert_true(tsdb_series_at(up, 1014999, &time, &value) && value == 0 && time == 1000000);
    assert_true(tsdb_series_at(up, 1015000 + 200 * 15000, &time, &value) && value == 201);
    int64_t last = 1000000 + 299 * 15000;
    assert_true(tsdb_series_at(up, last + TSDB_LOOKBACK_MS - 1, &time, &value) && value == 299);
    assert_false(tsdb_series_at(up, last + TSDB_LOOKBACK_MS, &time, &value));
    for (int i = 0; i < 300; i++)
        assert_true(tsdb_series_at(up, 1000000 + i * 15000, &time, &value) && value == i);
    assert_int_equal(tsdb_append(tsdb, up, last + 1, tsdb_stale_value()), 0);
    assert_false(tsdb_series_at(up, last + 1, &time, &value));
    assert_true(tsdb_series_at(up, last, &time, &value));
}

UNIT_TEST(memory_is_bounded_and_the_oldest_goes_first) {
    CLEANUP(tsdb_freep) struct tsdb *tsdb = NULL;
    assert_int_equal(tsdb_new(&(struct tsdb_options){.bytes_max = 256 * KIB, .retention_ms = 100000000}, &tsdb), 0);
    struct tsdb_series *all[20];
    for (int i = 0; i < 20; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        all[i] = series(tsdb, "noise", "a", text);
        tsdb_series_pin(all[i]);
    }
    int64_t now = 0;
    for (int i = 0; i < 5000; i++) {
        now += 15000;
        for (int j = 0; j < 20; j++)
            assert_int_equal(tsdb_append(tsdb, all[j], now, (double)next_random()), 0);
        struct tsdb_stats stats;
        tsdb_stats_get(tsdb, &stats);
        assert_in_range(stats.bytes, 0, 256 * KIB);
    }
    int64_t time;
    double value;
    for (int j = 0; j < 20; j++) {
        assert_true(tsdb_series_at(all[j], now, &time, &value) && time == now);
        assert_false(tsdb_series_at(all[j], 15000, &time, &value));
        tsdb_series_unpin(all[j]);
    }
    tsdb_expire(tsdb, now + 2000000000);
    struct tsdb_stats stats;
    tsdb_stats_get(tsdb, &stats);
    assert_int_equal(stats.series, 0);
    assert_int_equal(stats.bytes, 0);
}

UNIT_TEST(too_many_series_are_refused) {
    CLEANUP(tsdb_freep) struct tsdb *tsdb = NULL;
    assert_int_equal(tsdb_new(&(struct tsdb_options){.bytes_max = 64 * KIB}, &tsdb), 0);
    int error = 0;
    for (int i = 0; i < 10000 && error == 0; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        const struct tsdb_label labels[] = {{SLICE("__name__"), SLICE("x")}, {SLICE("i"), slice_of(text)}};
        struct tsdb_series *made;
        error = tsdb_series_get(tsdb, labels, 2, &made);
        if (error == 0) {
            tsdb_series_pin(made);
            error = tsdb_append(tsdb, made, 1000, i);
        }
    }
    assert_int_equal(error, -ENOSPC);
    struct tsdb_stats stats;
    tsdb_stats_get(tsdb, &stats);
    assert_in_range(stats.bytes, 1, 64 * KIB);
    assert_in_range(stats.refused, 1, 10);
}

static size_t matches(const struct tsdb *tsdb, const char *text) {
    CLEANUP(tsdb_selector_freep) struct tsdb_selector *selector = NULL;
    struct diag diag = DIAG_INIT;
    if (tsdb_selector_parse(slice_of(text), &selector, &diag) < 0)
        fail_msg("%s: %s", text, diag.message);
    size_t count = 0;
    for (size_t at = 0; tsdb_next(tsdb, selector, &at);)
        count++;
    return count;
}

UNIT_TEST(selectors_select) {
    CLEANUP(tsdb_freep) struct tsdb *tsdb = NULL;
    assert_int_equal(tsdb_new(NULL, &tsdb), 0);
    series(tsdb, "up", "node", "1");
    series(tsdb, "up", "node", "2");
    series(tsdb, "up", "gateway", "1");
    series(tsdb, "down", "node", "");
    assert_int_equal(matches(tsdb, "up"), 3);
    assert_int_equal(matches(tsdb, " up { job = \"node\" , } "), 2);
    assert_int_equal(matches(tsdb, "{__name__=~\"up|down\",job='node'}"), 3);
    assert_int_equal(matches(tsdb, "up{job!=\"node\"}"), 1);
    assert_int_equal(matches(tsdb, "up{job=~\"no\"}"), 0);
    assert_int_equal(matches(tsdb, "up{job=~`no.*`}"), 2);
    assert_int_equal(matches(tsdb, "up{job!~\"gate.+\"}"), 2);
    assert_int_equal(matches(tsdb, "{job=\"node\",instance=\"\"}"), 1);
    assert_int_equal(matches(tsdb, "nothing"), 0);
    static const char *const bad[] = {"",
                                      "{}",
                                      "up{",
                                      "up{job}",
                                      "up{job=}",
                                      "up{job=\"x}",
                                      "up{job=~\"(\"}",
                                      "{job=~\".*\"}",
                                      "rate(up[5m])",
                                      "up offset 5m",
                                      "up{job==\"x\"}",
                                      "1up",
                                      "up{,}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct tsdb_selector *selector = NULL;
        struct diag diag = DIAG_INIT;
        if (tsdb_selector_parse(slice_of(bad[i]), &selector, &diag) != -EINVAL)
            fail_msg("accepted: %s", bad[i]);
        assert_true(diag.message[0]);
    }
    assert_int_equal(matches(tsdb, "up{job=~\"(n+)+x\"}"), 0); /* bounded steps */
}

UNIT_MAIN(UNIT(chunks_give_back_what_they_took), UNIT(steady_samples_are_small), UNIT(series_are_found_by_their_labels), UNIT(lookups_by_time),
          UNIT(memory_is_bounded_and_the_oldest_goes_first), UNIT(too_many_series_are_refused), UNIT(selectors_select))
