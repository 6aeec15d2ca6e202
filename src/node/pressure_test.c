/* Thresholds and conditions: what is read, when they are met, who goes first, what is said. */
#include "node/pressure_priv.h"
#include "unit.h"

#define GIB_ (INT64_C(1) << 30)
#define MIB_ (INT64_C(1) << 20)

static struct pressure_config parse(const struct pressure_texts *texts) {
    struct pressure_config config;
    struct diag diag = DIAG_INIT;
    if (pressure_config_parse(texts, &config, &diag) < 0)
        fail_msg("%s", diag.message);
    return config;
}

static void refuse(struct pressure_texts texts, const char *message) {
    struct pressure_config config;
    struct diag diag = DIAG_INIT;
    assert_int_equal(pressure_config_parse(&texts, &config, &diag), -EINVAL);
    assert_string_equal(diag.message, message);
}

static const struct pressure_threshold *find(const struct pressure_config *config, enum pressure_signal signal, bool soft) {
    for (size_t i = 0; i < config->count; i++)
        if (config->thresholds[i].signal == signal && (config->thresholds[i].grace_ms > 0) == soft)
            return &config->thresholds[i];
    return NULL;
}

UNIT_TEST(usual_thresholds_are_bounded) {
    struct pressure_config config = parse(&(struct pressure_texts){.hard = ""});
    const struct pressure_threshold *memory = find(&config, SIGNAL_MEMORY_AVAILABLE, false), *disk = find(&config, SIGNAL_NODEFS_AVAILABLE, false);
    assert_int_equal(pressure_quantity(&memory->value, 512 * MIB_), 512 * MIB_ / 10);
    assert_int_equal(pressure_quantity(&memory->value, 8 * GIB_), 100 * MIB_);
    assert_int_equal(pressure_quantity(&disk->value, 10 * GIB_), GIB_);
    assert_int_equal(pressure_quantity(&disk->value, 500 * GIB_), 2 * GIB_);
    assert_int_equal(config.transition_ms, 300000);
    assert_non_null(find(&config, SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE, false));
}

UNIT_TEST(reads_kubelets_syntax) {
    struct pressure_config config = parse(&(struct pressure_texts){.hard = "memory.available<1Gi, nodefs.available<12.5%,imagefs.available<0%",
                                                                   .soft = "memory.available<2Gi",
                                                                   .soft_grace_period = "memory.available=1m30s",
                                                                   .minimum_reclaim = "nodefs.available=500Mi",
                                                                   .transition_period = "30s",
                                                                   .max_pod_grace_period = "7"});
    assert_int_equal(config.count, 4); /* with the one of the group of all pods */
    assert_int_equal(find(&config, SIGNAL_MEMORY_AVAILABLE, true)->grace_ms, 90000);
    assert_int_equal(find(&config, SIGNAL_MEMORY_AVAILABLE, false)->value.quantity, GIB_);
    assert_int_equal(pressure_quantity(&find(&config, SIGNAL_NODEFS_AVAILABLE, false)->value, 8000), 1000);
    assert_int_equal(find(&config, SIGNAL_NODEFS_AVAILABLE, false)->min_reclaim.quantity, 500 * MIB_);
    assert_null(find(&config, SIGNAL_IMAGEFS_AVAILABLE, false));
    assert_int_equal(config.transition_ms, 30000);
    assert_int_equal(config.pod_grace_s_max, 7);
}

UNIT_TEST(refuses_what_cannot_be_meant) {
    refuse((struct pressure_texts){.hard = "memory.free<1Gi"}, "--eviction-hard: unknown eviction signal \"memory.free\"");
    refuse((struct pressure_texts){.hard = "memory.available"}, "--eviction-hard: \"memory.available\" is not of the form SIGNAL<VALUE");
    refuse((struct pressure_texts){.hard = "memory.available<much"}, "--eviction-hard: \"much\" is no quantity such as 100Mi, and no percentage");
    refuse((struct pressure_texts){.hard = "memory.available<-1"}, "--eviction-hard: \"-1\" is no quantity such as 100Mi, and no percentage");
    refuse((struct pressure_texts){.hard = "memory.available<0"}, "--eviction-hard: the threshold of memory.available must be positive");
    refuse((struct pressure_texts){.hard = "memory.available<101%"}, "--eviction-hard: \"101%\" is no percentage from 0% to 100%");
    refuse((struct pressure_texts){.hard = "memory.available<1,memory.available<2"}, "--eviction-hard: memory.available is given twice");
    refuse((struct pressure_texts){.soft = "memory.available<1Gi"}, "--eviction-soft: memory.available needs a time in --eviction-soft-grace-period");
    refuse((struct pressure_texts){.soft = "memory.available<1Gi", .soft_grace_period = "memory.available=soon"},
           "--eviction-soft-grace-period: \"soon\" is no duration such as 1m30s");
    refuse((struct pressure_texts){.transition_period = "never"}, "--eviction-pressure-transition-period: \"never\" is no duration such as 5m");
}

/* --- time goes on --- */

struct history {
    struct pressure_config config;
    struct pressure_state state;
    struct pressure_observation seen[SIGNALS];
    struct pressure_verdict verdict;
};

static void begin(struct history *history, const struct pressure_texts *texts) {
    *history = (struct history){.config = parse(texts)};
}

static void see(struct history *history, enum pressure_signal signal, int64_t available, int64_t now_ms) {
    history->seen[signal] = (struct pressure_observation){.known = true, .available = available, .capacity = 1000 * GIB_};
    pressure_step(&history->config, &history->state, history->seen, now_ms, &history->verdict);
}

static enum pressure_signal reclaims(const struct history *history) {
    return history->verdict.reclaim < 0 ? SIGNALS : history->config.thresholds[history->verdict.reclaim].signal;
}

UNIT_TEST(a_condition_stays_for_the_transition_period) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = "memory.available<1Gi", .transition_period = "1m"});
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_, 1000);
    assert_int_equal(history.verdict.conditions, 0);
    assert_int_equal(reclaims(&history), SIGNALS);
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ - 1, 2000);
    assert_int_equal(history.verdict.conditions, 1 << PRESSURE_MEMORY);
    assert_int_equal(reclaims(&history), SIGNAL_MEMORY_AVAILABLE);
    see(&history, SIGNAL_MEMORY_AVAILABLE, 500 * GIB_, 3000);
    assert_int_equal(history.verdict.conditions, 1 << PRESSURE_MEMORY);
    assert_int_equal(reclaims(&history), SIGNALS);
    see(&history, SIGNAL_MEMORY_AVAILABLE, 500 * GIB_, 5000);
    assert_int_equal(history.verdict.next_look_ms, 57000); /* when it can end */
    see(&history, SIGNAL_MEMORY_AVAILABLE, 500 * GIB_, 61999);
    assert_int_equal(history.verdict.conditions, 1 << PRESSURE_MEMORY);
    see(&history, SIGNAL_MEMORY_AVAILABLE, 500 * GIB_, 62000);
    assert_int_equal(history.verdict.conditions, 0);
}

UNIT_TEST(a_soft_threshold_waits) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = "memory.available<1Mi",
                                             .soft = "nodefs.available<1Gi",
                                             .soft_grace_period = "nodefs.available=20s",
                                             .transition_period = "0s"});
    see(&history, SIGNAL_NODEFS_AVAILABLE, 0, 1000);
    assert_int_equal(history.verdict.conditions, 1 << PRESSURE_DISK);
    assert_int_equal(reclaims(&history), SIGNALS);
    see(&history, SIGNAL_NODEFS_AVAILABLE, GIB_, 5000); /* it recovers: the time begins anew */
    see(&history, SIGNAL_NODEFS_AVAILABLE, 0, 6000);
    see(&history, SIGNAL_NODEFS_AVAILABLE, 0, 25999);
    assert_int_equal(reclaims(&history), SIGNALS);
    assert_int_equal(history.verdict.next_look_ms, 1);
    see(&history, SIGNAL_NODEFS_AVAILABLE, 0, 26000);
    assert_int_equal(reclaims(&history), SIGNAL_NODEFS_AVAILABLE);
}

UNIT_TEST(the_minimum_is_reclaimed_too) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = "nodefs.available<1Gi", .minimum_reclaim = "nodefs.available=1Gi", .transition_period = "0s"});
    see(&history, SIGNAL_NODEFS_AVAILABLE, GIB_ + 1, 1000); /* above the threshold, as long as it was never met */
    assert_int_equal(reclaims(&history), SIGNALS);
    see(&history, SIGNAL_NODEFS_AVAILABLE, GIB_ - 1, 2000);
    assert_int_equal(pressure_lacking(&history.config.thresholds[0], &history.seen[SIGNAL_NODEFS_AVAILABLE]), GIB_ + 1);
    see(&history, SIGNAL_NODEFS_AVAILABLE, 2 * GIB_ - 1, 3000);
    assert_int_equal(reclaims(&history), SIGNAL_NODEFS_AVAILABLE);
    assert_false(pressure_is_relieved(&history.config, history.seen));
    see(&history, SIGNAL_NODEFS_AVAILABLE, 2 * GIB_, 4000);
    assert_int_equal(reclaims(&history), SIGNALS);
    assert_true(pressure_is_relieved(&history.config, history.seen));
}

UNIT_TEST(memory_comes_before_disk) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = "nodefs.available<1Gi,memory.available<1Gi"});
    see(&history, SIGNAL_NODEFS_AVAILABLE, 0, 1000);
    assert_int_equal(reclaims(&history), SIGNAL_NODEFS_AVAILABLE);
    see(&history, SIGNAL_MEMORY_AVAILABLE, 0, 2000);
    assert_int_equal(reclaims(&history), SIGNAL_MEMORY_AVAILABLE);
    assert_int_equal(history.verdict.conditions, (1 << PRESSURE_MEMORY) | (1 << PRESSURE_DISK));
}

UNIT_TEST(one_looks_when_it_could_matter) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = "nodefs.available<1Gi,memory.available<1Gi"});
    see(&history, SIGNAL_NODEFS_AVAILABLE, 500 * GIB_, 1000);
    assert_int_equal(history.verdict.next_look_ms, 300000);
    see(&history, SIGNAL_NODEFS_AVAILABLE, GIB_ + 20 * 200 * MIB_, 1000);
    assert_int_equal(history.verdict.next_look_ms, 20000);
    see(&history, SIGNAL_NODEFS_AVAILABLE, GIB_ + 1, 1000);
    assert_int_equal(history.verdict.next_look_ms, 10000);
    see(&history, SIGNAL_NODEFS_AVAILABLE, 500 * GIB_, 1000);
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ + 1, 1000);
    assert_int_equal(history.verdict.next_look_ms, 10000);
    history.config.is_memory_watched = true;
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ + 1, 1000);
    assert_int_equal(history.verdict.next_look_ms, 60000);
}

UNIT_TEST(memory_that_goes_fast_is_looked_at_soon) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = "memory.available<1Gi,nodefs.available<1Gi"});
    see(&history, SIGNAL_MEMORY_AVAILABLE, 9 * GIB_, 1000);
    assert_int_equal(history.verdict.next_look_ms, 10000); /* nothing is known of its rate */
    see(&history, SIGNAL_MEMORY_AVAILABLE, 5 * GIB_, 11000);
    assert_int_equal(history.verdict.next_look_ms, 10000); /* 4 GiB in ten seconds: the rest lasts as long */
    see(&history, SIGNAL_MEMORY_AVAILABLE, 3 * GIB_, 12000);
    assert_int_equal(history.verdict.next_look_ms, 250); /* 2 GiB in a second: a quarter of what the rest lasts */
    history.seen[SIGNAL_MEMORY_AVAILABLE].available = 2 * GIB_;
    assert_true(pressure_is_falling(&history.config, &history.state, history.seen, 12250));
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ + 200 * MIB_, 12250);
    assert_int_equal(history.verdict.next_look_ms, PRESSURE_HURRY_MS);
    assert_int_equal(reclaims(&history), SIGNALS);
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ - 1, 12350);
    assert_int_equal(reclaims(&history), SIGNAL_MEMORY_AVAILABLE);
    assert_int_equal(history.verdict.next_look_ms, PRESSURE_HURRY_MS); /* who was told to go may go on taking */
    assert_false(pressure_is_pressing(&history.config, history.seen));
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ / 2 - 1, 12450);
    assert_true(pressure_is_pressing(&history.config, history.seen));
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ / 2 - 1, 12550); /* it stands still, for the moment */
    assert_int_equal(history.verdict.next_look_ms, PRESSURE_HURRY_MS);
    see(&history, SIGNAL_MEMORY_AVAILABLE, GIB_ / 2 - 1, 14450);
    assert_int_equal(history.verdict.next_look_ms, 10000);
    assert_false(pressure_is_falling(&history.config, &history.state, history.seen, 14550));
    see(&history, SIGNAL_MEMORY_AVAILABLE, 9 * GIB_, 15000);
    see(&history, SIGNAL_NODEFS_AVAILABLE, 9 * GIB_, 16000);
    see(&history, SIGNAL_NODEFS_AVAILABLE, GIB_ + 1, 16100); /* a disk is not looked at more often */
    assert_int_equal(history.verdict.next_look_ms, 10000);
}

UNIT_TEST(what_cannot_be_observed_is_not_met) {
    struct history history;
    begin(&history, &(struct pressure_texts){.hard = ""});
    pressure_step(&history.config, &history.state, history.seen, 1000, &history.verdict);
    assert_int_equal(history.verdict.conditions, 0);
    assert_int_equal(history.verdict.reclaim, -1);
}

/* --- who goes --- */

static void check_order(enum pressure_signal signal, struct eviction_candidate *candidates, size_t count, const char *expected) {
    char order[64] = "";
    eviction_rank(signal, candidates, count);
    for (size_t i = 0; i < count; i++)
        order[i] = candidates[i].uid[0];
    assert_string_equal(order, expected);
}

UNIT_TEST(ranks_as_upstream) {
    struct eviction_candidate candidates[] = {
        {.uid = "a", .is_known = true, .usage = 500, .request = 600, .priority = 0},  /* within its request */
        {.uid = "b", .is_known = true, .usage = 500, .request = 100, .priority = 10}, /* above, but of more weight */
        {.uid = "c", .is_known = true, .usage = 200, .request = 100, .priority = 0},  /* above by 100 */
        {.uid = "d", .is_known = true, .usage = 300, .request = 100, .priority = 0},  /* above by 200 */
        {.uid = "e", .is_known = true, .usage = 500, .request = 600, .priority = -5}, /* within, of less weight */
        {.uid = "f", .is_known = false, .usage = 0, .request = 0, .priority = 100},   /* nobody knows */
        {.uid = "g", .is_known = true, .usage = 300, .request = 100, .priority = 0},  /* as d */
    };
    check_order(SIGNAL_MEMORY_AVAILABLE, candidates, ARRAY_LEN(candidates), "fdgcbea");
    check_order(SIGNAL_NODEFS_AVAILABLE, candidates, ARRAY_LEN(candidates), "fdgcbea");
    check_order(SIGNAL_PID_AVAILABLE, candidates, ARRAY_LEN(candidates), "eadgcbf");
}

UNIT_TEST(who_would_not_be_missed_stays) {
    struct eviction_candidate candidate = {.uid = "a", .is_known = true, .usage = 9 * MIB_};
    assert_false(eviction_helps(&candidate, GIB_));
    candidate.usage = 11 * MIB_;
    assert_true(eviction_helps(&candidate, GIB_));
    candidate.usage = 0;
    assert_false(eviction_helps(&candidate, 1));
    candidate.is_known = false;
    assert_true(eviction_helps(&candidate, GIB_));
}

UNIT_TEST(says_what_upstream_says) {
    const struct pressure_threshold memory = {.signal = SIGNAL_MEMORY_AVAILABLE, .value = {.quantity = 100 * MIB_}};
    const struct pressure_threshold inodes = {.signal = SIGNAL_NODEFS_INODES_FREE, .value = {.part = 0.5}};
    const struct pressure_observation seen = {.known = true, .available = 88 * MIB_, .capacity = GIB_};
    const struct eviction_usage usages[] = {{"x", 200 * MIB_, 0}, {"y", 100, 200}, {"z", 1025, 1024}};
    char text[512];
    eviction_message(&memory, &seen, usages, 3, text, sizeof text);
    assert_string_equal(text,
                        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 88Mi. Container x was using 200Mi, request "
                        "is 0, has larger consumption of memory. Container z was using 1025, request is 1Ki, has larger consumption of "
                        "memory. ");
    eviction_message(&inodes, &(struct pressure_observation){true, 10, 1000}, usages, 3, text, sizeof text);
    assert_string_equal(text, "The node was low on resource: inodes. Threshold quantity: 500, available: 10. ");
    eviction_message(&memory, &seen, usages, 3, text, 40);
    assert_int_equal(strlen(text), 39);
}

UNIT_MAIN(UNIT(usual_thresholds_are_bounded), UNIT(reads_kubelets_syntax), UNIT(refuses_what_cannot_be_meant),
          UNIT(a_condition_stays_for_the_transition_period), UNIT(a_soft_threshold_waits), UNIT(the_minimum_is_reclaimed_too),
          UNIT(memory_comes_before_disk), UNIT(one_looks_when_it_could_matter), UNIT(memory_that_goes_fast_is_looked_at_soon),
          UNIT(what_cannot_be_observed_is_not_met), UNIT(ranks_as_upstream), UNIT(who_would_not_be_missed_stays), UNIT(says_what_upstream_says))
