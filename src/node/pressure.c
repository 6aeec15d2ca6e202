/* Thresholds, and what observations make of them (upstream: pkg/kubelet/eviction).
 *
 *   observed < threshold ──► met ──(grace period over)──► to be reclaimed ──(observed ≥ threshold + minimum)──► not met
 *                             └──► its condition holds, and goes on to hold for the transition period after it was last met
 *
 * The usual thresholds are upstream's, but no greater than an amount: what pods need to go on does not grow with the machine, and on the smallest one
 * 100Mi would be a fifth of everything.
 *
 * Nobody looks more often than needed: the next look is when what is left above the nearest threshold could be used up at the earliest, given how
 * fast a machine can fill its memory or its disk, and between LOOK_MIN_MS (upstream's interval) and LOOK_MAX_MS from now. Only when memory was seen
 * to go fast, the next look is when a part of what is left will have gone at that rate: down to PRESSURE_HURRY_MS, so that eviction comes before the
 * kernel's out-of-memory killer. */
#include "node/pressure_priv.h"

#include "codec/codec.h"

#define LOOK_MIN_MS 10000
#define LOOK_MAX_MS (5 * 60 * 1000)
#define LOOK_WATCHED_MS 60000 /* at memory, when the kernel wakes us */
#define FALL_MS_MAX 5000      /* memory that would last no longer falls */
#define FALL_PART 4           /* the next look is when so much of it will have gone */
#define FALL_HOLD_MS 2000     /* so long it counts as falling after it was seen to: others give memory back meanwhile, now and then */
#define TRANSITION_MS (5 * 60 * 1000)
#define POD_GRACE_S_MAX 30

const struct pressure_words pressure_words[PRESSURE_CONDITIONS] = {
    {"MemoryPressure",
     {"KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "NodeHasInsufficientMemory"},
     {"KubeletHasSufficientMemory", "kubelet has sufficient memory available", "NodeHasSufficientMemory"}},
    {"DiskPressure",
     {"KubeletHasDiskPressure", "kubelet has disk pressure", "NodeHasDiskPressure"},
     {"KubeletHasNoDiskPressure", "kubelet has no disk pressure", "NodeHasNoDiskPressure"}},
    {"PIDPressure",
     {"KubeletHasInsufficientPID", "kubelet has insufficient PID available", "NodeHasInsufficientPID"},
     {"KubeletHasSufficientPID", "kubelet has sufficient PID available", "NodeHasSufficientPID"}},
};

static const struct {
    const char *name, *resource;
    enum pressure_condition condition;
    struct pressure_value usual; /* hard; all zero: none */
    int64_t rate;                /* how much of it can go in a second */
} signals[SIGNALS] = {
    [SIGNAL_MEMORY_AVAILABLE] = {"memory.available", "memory", PRESSURE_MEMORY, {100 << 20, 0.10}, 1 << 30},
    [SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE] = {"allocatableMemory.available", "memory", PRESSURE_MEMORY, {0, 0}, 1 << 30},
    [SIGNAL_NODEFS_AVAILABLE] = {"nodefs.available", "ephemeral-storage", PRESSURE_DISK, {INT64_C(2) << 30, 0.10}, 200 << 20},
    [SIGNAL_NODEFS_INODES_FREE] = {"nodefs.inodesFree", "inodes", PRESSURE_DISK, {200000, 0.05}, 20000},
    [SIGNAL_IMAGEFS_AVAILABLE] = {"imagefs.available", "ephemeral-storage", PRESSURE_DISK, {INT64_C(3) << 30, 0.15}, 200 << 20},
    [SIGNAL_IMAGEFS_INODES_FREE] = {"imagefs.inodesFree", "inodes", PRESSURE_DISK, {200000, 0.05}, 20000},
    [SIGNAL_PID_AVAILABLE] = {"pid.available", "pids", PRESSURE_PID, {1000, 0.05}, 500},
};

const char *pressure_signal_name(enum pressure_signal signal) {
    return signals[signal].name;
}
const char *pressure_resource(enum pressure_signal signal) {
    return signals[signal].resource;
}
enum pressure_condition pressure_condition_of(enum pressure_signal signal) {
    return signals[signal].condition;
}

int64_t pressure_quantity(const struct pressure_value *value, int64_t capacity) {
    int64_t of_part = (int64_t)((double)capacity * value->part);
    if (value->part > 0 && value->quantity > 0)
        return MIN(value->quantity, of_part);
    return value->part > 0 ? of_part : value->quantity;
}

/* --- reading --- */

static int parse_value(struct slice text, const char *flag, struct pressure_value *ret, struct diag *diag) {
    int64_t quantity = 0;
    *ret = (struct pressure_value){0, 0};
    if (!slice_ends(text, SLICE("%"))) {
        if (quantity_parse(text, &quantity) < 0 || quantity < 0)
            return diag_set(diag, -EINVAL, "--%s: \"%.*s\" is no quantity such as 100Mi, and no percentage", flag, SLICE_ARG(text));
        ret->quantity = quantity;
        return 0;
    }
    if (quantity_parse_milli(slice_head(text, text.len - 1), &quantity) < 0 || quantity < 0 || quantity > 100 * 1000)
        return diag_set(diag, -EINVAL, "--%s: \"%.*s\" is no percentage from 0%% to 100%%", flag, SLICE_ARG(text));
    ret->part = (double)quantity / 100 / 1000;
    return 0;
}

static int parse_signal(struct slice name, const char *flag, enum pressure_signal *ret, struct diag *diag) {
    for (size_t i = 0; i < SIGNALS; i++)
        if (i != SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE && slice_is(name, signals[i].name))
            return *ret = (enum pressure_signal)i, 0;
    diag_hint(diag, 0, "signals are memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree, pid.available");
    return diag_set(diag, -EINVAL, "--%s: unknown eviction signal \"%.*s\"", flag, SLICE_ARG(name));
}

/* Calls fn with each "signal<separator>value" of a list. */
typedef int pair_fn(struct pressure_config *config, enum pressure_signal signal, struct slice value, const char *flag, struct diag *diag);
static int parse_list(struct pressure_config *config, const char *text, char separator, const char *flag, pair_fn *fn, struct diag *diag) {
    struct slice rest = slice_of(text ? text : "");
    while (rest.len) {
        struct slice value = slice_trim(slice_cut(&rest, ',')), name = slice_cut(&value, separator);
        enum pressure_signal signal = SIGNALS;
        if (!value.data)
            return diag_set(diag, -EINVAL, "--%s: \"%.*s\" is not of the form SIGNAL%cVALUE", flag, SLICE_ARG(name), separator);
        int r = parse_signal(slice_trim(name), flag, &signal, diag);
        r = r < 0 ? r : fn(config, signal, slice_trim(value), flag, diag);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_soft_flag(const char *flag) {
    return strcmp(flag, "eviction-soft") == 0;
}

static struct pressure_threshold *find(struct pressure_config *config, enum pressure_signal signal, bool soft) {
    for (size_t i = 0; i < config->count; i++)
        if (config->thresholds[i].signal == signal && (config->thresholds[i].grace_ms != 0) == soft)
            return &config->thresholds[i];
    return NULL;
}

/* Upstream takes 0% and 100% for "not at all". Soft ones get their grace period later; until then it is -1. */
static int add_threshold(struct pressure_config *config, enum pressure_signal signal, struct slice text, const char *flag, struct diag *diag) {
    struct pressure_threshold threshold = {.signal = signal, .grace_ms = is_soft_flag(flag) ? -1 : 0};
    int r = parse_value(text, flag, &threshold.value, diag);
    if (r < 0)
        return r;
    if (find(config, signal, is_soft_flag(flag)))
        return diag_set(diag, -EINVAL, "--%s: %s is given twice", flag, signals[signal].name);
    bool off = threshold.value.quantity == 0 && (threshold.value.part <= 0 || threshold.value.part >= 1);
    if (off && threshold.value.part <= 0 && !slice_ends(text, SLICE("%")))
        return diag_set(diag, -EINVAL, "--%s: the threshold of %s must be positive", flag, signals[signal].name);
    if (!off)
        config->thresholds[config->count++] = threshold;
    return 0;
}

static int set_grace(struct pressure_config *config, enum pressure_signal signal, struct slice text, const char *flag, struct diag *diag) {
    int64_t ns;
    if (duration_parse(text, &ns) < 0 || ns < 0)
        return diag_set(diag, -EINVAL, "--%s: \"%.*s\" is no duration such as 1m30s", flag, SLICE_ARG(text));
    for (size_t i = 0; i < config->count; i++)
        if (config->thresholds[i].signal == signal && config->thresholds[i].grace_ms < 0)
            config->thresholds[i].grace_ms = MAX(ns / 1000000, 1);
    return 0;
}

static int set_reclaim(struct pressure_config *config, enum pressure_signal signal, struct slice text, const char *flag, struct diag *diag) {
    struct pressure_value value;
    int r = parse_value(text, flag, &value, diag);
    for (size_t i = 0; r == 0 && i < config->count; i++)
        if (config->thresholds[i].signal == signal)
            config->thresholds[i].min_reclaim = value;
    return r;
}

static void add_usual(struct pressure_config *config) {
    for (size_t i = 0; i < SIGNALS; i++)
        if (signals[i].usual.quantity)
            config->thresholds[config->count++] = (struct pressure_threshold){.signal = (enum pressure_signal)i, .value = signals[i].usual};
}

/* The group of all pods has the hard threshold of the machine's memory, as upstream. */
static void add_allocatable(struct pressure_config *config) {
    const struct pressure_threshold *memory = find(config, SIGNAL_MEMORY_AVAILABLE, false);
    if (!memory)
        return;
    struct pressure_threshold allocatable = *memory;
    allocatable.signal = SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE;
    config->thresholds[config->count++] = allocatable;
}

static int parse_times(const struct pressure_texts *texts, struct pressure_config *config, struct diag *diag) {
    const char *transition = texts->transition_period, *grace = texts->max_pod_grace_period;
    int64_t ns = 0;
    uint64_t seconds = 0;
    if (transition && *transition && (duration_parse(slice_of(transition), &ns) < 0 || ns < 0))
        return diag_set(diag, -EINVAL, "--eviction-pressure-transition-period: \"%s\" is no duration such as 5m", transition);
    if (grace && *grace && slice_parse_u64(slice_of(grace), INT32_MAX, &seconds) < 0)
        return diag_set(diag, -EINVAL, "--eviction-max-pod-grace-period: \"%s\" is no number of seconds", grace);
    config->transition_ms = transition && *transition ? ns / 1000000 : TRANSITION_MS;
    config->pod_grace_s_max = grace && *grace ? (int64_t)seconds : POD_GRACE_S_MAX;
    return 0;
}

int pressure_config_parse(const struct pressure_texts *texts, struct pressure_config *ret, struct diag *diag) {
    struct pressure_config config = {.count = 0};
    int r = parse_times(texts, &config, diag);
    if (r == 0 && (!texts->hard || !*texts->hard))
        add_usual(&config);
    else if (r == 0)
        r = parse_list(&config, texts->hard, '<', "eviction-hard", add_threshold, diag);
    if (r == 0)
        add_allocatable(&config);
    if (r == 0)
        r = parse_list(&config, texts->soft, '<', "eviction-soft", add_threshold, diag);
    if (r == 0)
        r = parse_list(&config, texts->soft_grace_period, '=', "eviction-soft-grace-period", set_grace, diag);
    if (r == 0)
        r = parse_list(&config, texts->minimum_reclaim, '=', "eviction-minimum-reclaim", set_reclaim, diag);
    for (size_t i = 0; r == 0 && i < config.count; i++)
        if (config.thresholds[i].grace_ms < 0)
            r = diag_set(diag, -EINVAL, "--eviction-soft: %s needs a time in --eviction-soft-grace-period",
                         signals[config.thresholds[i].signal].name);
    if (r == 0)
        *ret = config;
    return r;
}

/* --- judging --- */

int64_t pressure_lacking(const struct pressure_threshold *threshold, const struct pressure_observation *observation) {
    return pressure_quantity(&threshold->value, observation->capacity) + pressure_quantity(&threshold->min_reclaim, observation->capacity) -
           observation->available;
}

/* with_minimum: also what must be reclaimed beyond the threshold is missing. */
static bool is_met(const struct pressure_threshold *threshold, const struct pressure_observation *observations, bool with_minimum) {
    const struct pressure_observation *observation = &observations[threshold->signal];
    int64_t minimum = with_minimum ? pressure_quantity(&threshold->min_reclaim, observation->capacity) : 0;
    return observation->known && pressure_quantity(&threshold->value, observation->capacity) + minimum > observation->available;
}

bool pressure_is_relieved(const struct pressure_config *config, const struct pressure_observation *observations) {
    for (size_t i = 0; i < config->count; i++)
        if (is_met(&config->thresholds[i], observations, true))
            return false;
    return true;
}

/* Until what is left above the threshold can be gone. */
static int64_t time_left_ms(const struct pressure_config *config, const struct pressure_threshold *threshold,
                            const struct pressure_observation *observations) {
    const struct pressure_observation *observation = &observations[threshold->signal];
    bool is_watched = config->is_memory_watched && signals[threshold->signal].condition == PRESSURE_MEMORY;
    int64_t left = observation->available - pressure_quantity(&threshold->value, observation->capacity);
    if (!observation->known || left / signals[threshold->signal].rate >= LOOK_MAX_MS / 1000)
        return LOOK_MAX_MS;
    return MAX(left * 1000 / signals[threshold->signal].rate, is_watched ? LOOK_WATCHED_MS : LOOK_MIN_MS);
}

static void look_at_threshold(const struct pressure_config *config, struct pressure_state *state, const struct pressure_observation *observations,
                              size_t index, int64_t now_ms, struct pressure_verdict *verdict) {
    const struct pressure_threshold *threshold = &config->thresholds[index];
    if (!is_met(threshold, observations, state->met[index])) {
        state->first_ms[index] = 0;
        state->met[index] = false;
        verdict->next_look_ms = MIN(verdict->next_look_ms, time_left_ms(config, threshold, observations));
        return;
    }
    if (!state->first_ms[index])
        state->first_ms[index] = now_ms;
    state->last_ms[signals[threshold->signal].condition] = now_ms;
    int64_t grace_left_ms = state->first_ms[index] + threshold->grace_ms - now_ms;
    state->met[index] = grace_left_ms <= 0;
    verdict->next_look_ms = MIN(verdict->next_look_ms, state->met[index] ? LOOK_MIN_MS : MIN(grace_left_ms, LOOK_MIN_MS));
    bool is_memory = signals[threshold->signal].condition == PRESSURE_MEMORY;
    if (state->met[index] &&
        (verdict->reclaim < 0 || (is_memory && signals[config->thresholds[verdict->reclaim].signal].condition != PRESSURE_MEMORY)))
        verdict->reclaim = (int)index;
}

/* How long memory lasts when it goes on as since the last step; INT64_MAX: it does not go. */
static int64_t lasts_ms(const struct pressure_config *config, const struct pressure_state *state, const struct pressure_observation *observations,
                        int64_t now_ms) {
    int64_t passed_ms = now_ms - state->stepped_ms;
    double least = (double)INT64_MAX / 2;
    for (size_t i = 0; i < config->count && state->stepped_ms && passed_ms > 0; i++) {
        const struct pressure_threshold *threshold = &config->thresholds[i];
        const struct pressure_observation *now = &observations[threshold->signal], *last = &state->last[threshold->signal];
        int64_t fallen = last->available - now->available, left = now->available - pressure_quantity(&threshold->value, now->capacity);
        if (signals[threshold->signal].condition == PRESSURE_MEMORY && now->known && last->known && fallen > 0)
            least = MIN(least, (double)MAX(left, 0) * (double)passed_ms / (double)fallen);
    }
    return least < (double)INT64_MAX / 2 ? (int64_t)least : INT64_MAX;
}

bool pressure_is_falling(const struct pressure_config *config, const struct pressure_state *state, const struct pressure_observation *observations,
                         int64_t now_ms) {
    return lasts_ms(config, state, observations, now_ms) < FALL_MS_MAX || (state->fell_ms && now_ms - state->fell_ms < FALL_HOLD_MS);
}

bool pressure_is_pressing(const struct pressure_config *config, const struct pressure_observation *observations) {
    for (size_t i = 0; i < config->count; i++) {
        const struct pressure_threshold *threshold = &config->thresholds[i];
        const struct pressure_observation *now = &observations[threshold->signal];
        if (signals[threshold->signal].condition == PRESSURE_MEMORY && !threshold->grace_ms && now->known &&
            now->available < pressure_quantity(&threshold->value, now->capacity) / 2)
            return true;
    }
    return false;
}

void pressure_step(const struct pressure_config *config, struct pressure_state *state, const struct pressure_observation *observations,
                   int64_t now_ms, struct pressure_verdict *ret) {
    struct pressure_verdict verdict = {.reclaim = -1, .next_look_ms = LOOK_MAX_MS};
    for (size_t i = 0; i < config->count; i++)
        look_at_threshold(config, state, observations, i, now_ms, &verdict);
    for (size_t i = 0; i < PRESSURE_CONDITIONS; i++) {
        int64_t left_ms = state->last_ms[i] + config->transition_ms - now_ms;
        if (!state->last_ms[i] || (left_ms <= 0 && state->last_ms[i] != now_ms))
            continue;
        verdict.conditions |= 1u << i;
        verdict.next_look_ms = MIN(verdict.next_look_ms, MAX(left_ms, 1));
    }
    int64_t lasts = lasts_ms(config, state, observations, now_ms);
    if (lasts < FALL_MS_MAX)
        state->fell_ms = now_ms;
    if (pressure_is_falling(config, state, observations, now_ms))
        verdict.next_look_ms = MIN(verdict.next_look_ms, lasts < FALL_MS_MAX ? MAX(lasts / FALL_PART, PRESSURE_HURRY_MS) : PRESSURE_HURRY_MS);
    memcpy(state->last, observations, sizeof state->last);
    state->stepped_ms = now_ms;
    *ret = verdict;
}
