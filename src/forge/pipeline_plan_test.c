/* The planner and the state machine: pipelines as text, expectations as text. A scenario is a list of events "job=result", and what runs after each.
 */
#include "forge/pipeline.h"

#include <stdio.h>

#include "unit.h"

struct planned {
    struct arena *arena;
    struct plan *plan;
    struct pipeline_state state;
    struct diag diag;
    int error;
};

static struct planned plan(const char *text, const char *branch, const char *tag) {
    struct planned planned = {.arena = arena_new(PIPELINE_ARENA_BYTES_MAX), .diag = DIAG_INIT};
    struct pipeline *pipeline = NULL;
    struct pipeline_variables predefined = {0};
    char line[2048];
    if (pipeline_parse(planned.arena, PIPELINE_FILE, slice_of(text), &pipeline, &planned.diag))
        fail_msg("%s", diag_format(&planned.diag, line, sizeof line));
    pipeline_variables_set(planned.arena, &predefined, "CI_PIPELINE_SOURCE", "push", false);
    pipeline_variables_set(planned.arena, &predefined, "CI_DEFAULT_BRANCH", "main", false);
    pipeline_variables_set(planned.arena, &predefined, "CI_COMMIT_REF_NAME", branch ? branch : tag, false);
    pipeline_variables_set(planned.arena, &predefined, branch ? "CI_COMMIT_BRANCH" : "CI_COMMIT_TAG", branch ? branch : tag, false);
    planned.error = pipeline_plan(planned.arena, pipeline, &predefined, &planned.plan, &planned.diag);
    if (!planned.error)
        assert_int_equal(pipeline_state_init(planned.arena, planned.plan, &planned.state), 0);
    return planned;
}

/* "name[!][?] …": ! on manual/other when, ? may fail. */
static void describe(const struct plan *made, char *text, size_t size) {
    text[0] = '\0';
    for (size_t i = 0; i < made->jobs_count; i++) {
        size_t len = strlen(text);
        snprintf(text + len, size - len, "%s%s%s%s", i ? " " : "", made->jobs[i].job->name, made->jobs[i].when == PIPELINE_MANUAL ? "!" : "",
                 made->jobs[i].allow_failure ? "?" : "");
    }
}

UNIT_TEST(chooses_jobs) {
    static const struct {
        const char *text, *branch, *tag, *jobs;
    } cases[] = {
        {"a: {script: x}", "main", NULL, "a"},
        {"a: {script: x}", NULL, "v1", "a"},
        {"c: {script: x, stage: deploy}\nb: {script: x}\na: {script: x, stage: build}", "main", NULL, "a b c"},
        {"a: {script: x, rules: [{if: $CI_COMMIT_BRANCH == \"main\"}]}\nb: {script: x}", "dev", NULL, "b"},
        {"a: {script: x, rules: [{if: $CI_COMMIT_BRANCH == \"main\"}]}\nb: {script: x}", "main", NULL, "a b"},
        {"a: {script: x, rules: []}\nb: {script: x}", "main", NULL, "b"},
        {"a: {script: x, rules: [{if: $CI_COMMIT_TAG, when: never}, {when: always}]}\nb: {script: x}", NULL, "v1", "b"},
        {"a: {script: x, rules: [{when: manual}]}", "main", NULL, "a!"},
        {"a: {script: x, rules: [{when: manual, allow_failure: true}]}", "main", NULL, "a!?"},
        {"a: {script: x, when: manual}", "main", NULL, "a!?"},
        {"a: {script: x, when: manual, allow_failure: false}", "main", NULL, "a!"},
        {"a: {script: x, when: manual, rules: [{if: $CI_COMMIT_BRANCH}]}", "main", NULL, "a!"},
        {"a: {script: x, allow_failure: true, rules: [{if: $CI_COMMIT_BRANCH}]}", "main", NULL, "a?"},
        {"a: {script: x, when: never}\nb: {script: x}", "main", NULL, "b"},
        {"a: {script: x, only: [main]}\nb: {script: x, except: [main]}", "main", NULL, "a"},
        {"a: {script: x, only: [main]}\nb: {script: x, except: [main]}", "dev", NULL, "b"},
        {"a: {script: x, only: [tags]}\nb: {script: x, only: {refs: [branches]}}", NULL, "v1", "a"},
        {"a: {script: x, only: [/^release-/]}\nb: {script: x, except: [/^REL/i]}", "release-1", NULL, "a"},
        {"a: {script: x, only: [merge_requests]}\nb: {script: x}", "main", NULL, "b"},
        {"a: {script: x, variables: {GO: 'yes'}, rules: [{if: $GO == \"yes\"}]}", "main", NULL, "a"},
        {"variables: {GO: 'no'}\na: {script: x, rules: [{if: $GO == \"yes\"}]}\nb: {script: x}", "main", NULL, "b"},
        {"a: {script: x, rules: [{if: $CI_JOB_NAME == \"a\"}]}", "main", NULL, "a"},
        {"a: {script: x, stage: .pre}", "main", NULL, ""},
        {"a: {script: x, stage: .pre}\nb: {script: x}\nc: {script: x, stage: .post}", "main", NULL, "a b c"},
        {"workflow: {rules: [{if: $CI_COMMIT_TAG}]}\na: {script: x}", "main", NULL, ""},
        {"workflow: {rules: [{if: $CI_COMMIT_TAG, when: never}, {when: always, variables: {GO: 1}}]}\na: {script: x, rules: [{if: $GO}]}", "main",
         NULL, "a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct planned planned = plan(cases[i].text, cases[i].branch, cases[i].tag);
        char text[256];
        assert_int_equal(planned.error, 0);
        describe(planned.plan, text, sizeof text);
        if (strcmp(text, cases[i].jobs) != 0)
            fail_msg("case %zu: %s gave \"%s\"", i, cases[i].text, text);
        arena_free(planned.arena);
    }
}

UNIT_TEST(overrides_variables_in_order) {
    struct planned planned = plan("variables: {A: global, B: global, CI_COMMIT_BRANCH: mine}\na: {script: x, variables: {A: job, C: job}, rules: "
                                  "[{when: always, variables: {C: rule}}]}",
                                  "main", NULL);
    const struct pipeline_variables *variables = &planned.plan->jobs[0].variables;
    assert_string_equal(pipeline_variables_find(variables, "A"), "job");
    assert_string_equal(pipeline_variables_find(variables, "B"), "global");
    assert_string_equal(pipeline_variables_find(variables, "C"), "rule");
    assert_string_equal(pipeline_variables_find(variables, "CI_COMMIT_BRANCH"), "mine");
    assert_string_equal(pipeline_variables_find(variables, "CI_PIPELINE_SOURCE"), "push");
    arena_free(planned.arena);
}

UNIT_TEST(refuses_needs_that_rules_left_out) {
    struct planned planned = plan("a: {script: x, rules: [{if: $NO}]}\nb:\n  script: x\n  needs: [a]", "main", NULL);
    assert_int_equal(planned.error, -EINVAL);
    assert_int_equal(planned.diag.line, 4);
    assert_string_equal(planned.diag.path, "b.needs");
    assert_non_null(strstr(planned.diag.message, "\"a\", which its rules leave out"));
    arena_free(planned.arena);
    planned = plan("a: {script: x, rules: [{if: $NO}]}\nb:\n  script: x\n  needs: [{job: a, optional: true}]", "main", NULL);
    assert_int_equal(planned.error, 0);
    assert_int_equal(planned.plan->jobs[0].needs_count, 0);
    assert_true(planned.plan->jobs[0].dag);
    arena_free(planned.arena);
}

UNIT_TEST(refuses_a_circle_made_by_rules) {
    struct planned planned =
        plan("a: {script: x, rules: [{when: always, needs: [b]}]}\nb: {script: x, rules: [{when: always, needs: [a]}]}", "main", NULL);
    assert_int_equal(planned.error, -EINVAL);
    assert_non_null(strstr(planned.diag.message, "circle"));
    arena_free(planned.arena);
}

UNIT_TEST(fetches_artifacts) {
    struct planned planned = plan("a: {script: x, stage: build, artifacts: {paths: [x]}}\n"
                                  "b: {script: x, stage: build, artifacts: {paths: [x]}}\n"
                                  "n: {script: x, stage: build}\n"
                                  "all: {script: x}\n"
                                  "some: {script: x, needs: [a, {job: b, artifacts: false}]}\n"
                                  "none: {script: x, dependencies: []}\n"
                                  "one: {script: x, dependencies: [b]}\n",
                                  "main", NULL);
    static const size_t counts[] = {0, 0, 0, 2, 1, 0, 1};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        assert_int_equal(planned.plan->jobs[i].artifact_sources_count, counts[i]);
    assert_int_equal(planned.plan->jobs[6].artifact_sources[0], 1);
    arena_free(planned.arena);
}

/* --- scenarios --- */

static size_t job_index(const struct plan *made, struct slice name) {
    for (size_t i = 0; i < made->jobs_count; i++)
        if (slice_is(name, made->jobs[i].job->name))
            return i;
    fail_msg("no job %.*s", SLICE_ARG(name));
    return 0;
}

static void collect(const struct planned *planned, const struct pipeline_actions *actions, char *text, size_t size) {
    static const char marks[] = {[PIPELINE_ACTION_START_JOB] = '+',
                                 [PIPELINE_ACTION_STOP_JOB] = '!',
                                 [PIPELINE_ACTION_SKIPPED] = '-',
                                 [PIPELINE_ACTION_MANUAL] = '?',
                                 [PIPELINE_ACTION_STATUS] = '='};
    text[0] = '\0';
    for (size_t i = 0; i < actions->count; i++) {
        const struct pipeline_action *action = &actions->items[i];
        const char *what =
            action->type == PIPELINE_ACTION_STATUS ? job_status_name(planned->state.status) : planned->plan->jobs[action->job].job->name;
        size_t len = strlen(text);
        snprintf(text + len, size - len, "%s%c%s", len ? " " : "", marks[action->type], what);
    }
}

static struct pipeline_event event_of(const struct plan *made, struct slice text) {
    static const struct {
        const char *name;
        enum pipeline_event_type type;
    } names[] = {{"run", PIPELINE_EVENT_JOB_RUNNING},   {"ok", PIPELINE_EVENT_JOB_SUCCESS}, {"fail", PIPELINE_EVENT_JOB_FAILED},
                 {"gone", PIPELINE_EVENT_JOB_CANCELED}, {"play", PIPELINE_EVENT_JOB_PLAY},  {"retry", PIPELINE_EVENT_JOB_RETRY}};
    if (slice_is(text, "start") || slice_is(text, "cancel"))
        return (struct pipeline_event){.type = slice_is(text, "start") ? PIPELINE_EVENT_START : PIPELINE_EVENT_CANCEL};
    struct slice job = slice_cut(&text, '=');
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_is(text, names[i].name))
            return (struct pipeline_event){.type = names[i].type, .job = job_index(made, job)};
    fail_msg("no event %.*s", SLICE_ARG(text));
    return (struct pipeline_event){0};
}

UNIT_TEST(plays_scenarios) {
    static const struct {
        const char *name, *text;
        const char *steps[12][2]; /* event → actions: + start, - skipped, ? waits for a person, ! stop, = status of the pipeline */
    } cases[] = {
        {"stages one after the other",
         "a: {script: x, stage: build}\nb: {script: x, stage: build}\nc: {script: x}",
         {{"start", "+a +b =pending"}, {"a=run", "=running"}, {"a=ok", ""}, {"b=run", ""}, {"b=ok", "+c"}, {"c=run", ""}, {"c=ok", "=success"}}},
        {"a failure skips what follows, not what runs beside it",
         "a: {script: x, stage: build}\nb: {script: x, stage: build}\nc: {script: x}\nd: {script: x, stage: deploy}",
         {{"start", "+a +b =pending"}, {"a=fail", "=running"}, {"b=ok", "-c -d =failed"}}},
        {"an event twice does nothing",
         "a: {script: x}",
         {{"start", "+a =pending"}, {"start", ""}, {"a=ok", "=success"}, {"a=fail", NULL}, {"a=run", NULL}}},
        {"what may fail counts as success",
         "a: {script: x, stage: build, allow_failure: true}\nb: {script: x}\nf: {script: x, when: on_failure}",
         {{"start", "+a =pending"}, {"a=fail", "+b -f"}, {"b=ok", "=success"}}},
        {"on_failure runs after a failure, always in any case",
         "a: {script: x, stage: build}\nb: {script: x}\nf: {script: x, when: on_failure}\nz: {script: x, stage: deploy, when: always}",
         {{"start", "+a =pending"}, {"a=fail", "-b +f =running"}, {"f=ok", "+z"}, {"z=ok", "=failed"}}},
        {"on_failure is skipped after success",
         "a: {script: x, stage: build}\nf: {script: x, when: on_failure}\nz: {script: x, stage: deploy}",
         {{"start", "+a =pending"}, {"a=ok", "-f +z =running"}, {"z=ok", "=success"}}},
        {"needs start as soon as they can",
         "a: {script: x, stage: build}\nb: {script: x, stage: build}\nc: {script: x, needs: [a]}\nd: {script: x, stage: deploy, needs: [c]}\ne: "
         "{script: x, needs: []}",
         {{"start", "+a +b +e =pending"}, {"a=ok", "+c =running"}, {"c=ok", "+d"}, {"b=fail", ""}, {"d=ok", ""}, {"e=ok", "=failed"}}},
        {"a failed need skips along the chain",
         "a: {script: x, stage: build}\nb: {script: x, needs: [a]}\nc: {script: x, stage: deploy, needs: [b]}\nd: {script: x, stage: deploy, needs: "
         "[b], when: always}",
         {{"start", "+a =pending"}, {"a=fail", "-b -c +d =running"}, {"d=ok", "=failed"}}},
        {"needs within a stage, written backwards",
         "b: {script: x, needs: [a]}\na: {script: x}",
         {{"start", "+a =pending"}, {"a=ok", "+b =running"}, {"b=ok", "=success"}}},
        {"an optional manual job is passed by stages",
         "a: {script: x, stage: build, when: manual}\nb: {script: x}",
         {{"start", "?a +b =pending"}, {"b=ok", "=success"}, {"a=play", "+a =running"}, {"a=run", ""}, {"a=ok", "=success"}}},
        {"a blocking manual job stops the pipeline until it is played",
         "a: {script: x, stage: build, when: manual, allow_failure: false}\nb: {script: x}",
         {{"start", "?a =manual"}, {"a=play", "+a =pending"}, {"a=ok", "+b =running"}, {"b=ok", "=success"}}},
        {"what needs an optional manual job is skipped, and reset when it is played",
         "a: {script: x, stage: build, when: manual}\nb: {script: x, needs: [a]}\nc: {script: x}",
         {{"start", "?a -b +c =pending"}, {"c=ok", "=success"}, {"a=play", "+a =running"}, {"a=ok", "+b"}, {"b=ok", "=success"}}},
        {"a retry gives the skipped another chance",
         "a: {script: x, stage: build}\nb: {script: x}",
         {{"start", "+a =pending"},
          {"a=fail", "-b =failed"},
          {"b=retry", NULL},
          {"a=retry", "+a =pending"},
          {"a=ok", "+b =running"},
          {"b=ok", "=success"}}},
        {"cancelling stops what runs and starts nothing",
         "a: {script: x, stage: build}\nb: {script: x, stage: build}\nc: {script: x, when: always}",
         {{"start", "+a +b =pending"}, {"a=run", "=running"}, {"b=ok", ""}, {"cancel", "!a"}, {"a=gone", "=canceled"}}},
        {"a cancelled pipeline can be retried",
         "a: {script: x, stage: build}\nc: {script: x}",
         {{"start", "+a =pending"}, {"cancel", "!a =running"}, {"a=fail", "=canceled"}, {"a=retry", "+a =pending"}, {"a=ok", "+c =running"}}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct planned planned = plan(cases[i].text, "main", NULL);
        assert_int_equal(planned.error, 0);
        for (size_t k = 0; k < ARRAY_LEN(cases[i].steps) && cases[i].steps[k][0]; k++) {
            struct pipeline_event event = event_of(planned.plan, slice_of(cases[i].steps[k][0]));
            static struct pipeline_actions actions;
            char text[512];
            bool taken = pipeline_step(&planned.state, &event, (int64_t)k + 1, &actions);
            collect(&planned, &actions, text, sizeof text);
            const char *expected = cases[i].steps[k][1];
            if (taken != (expected != NULL) || (expected && strcmp(text, expected) != 0))
                fail_msg("\"%s\", step %zu (%s): expected \"%s\", got \"%s\"%s", cases[i].name, k + 1, cases[i].steps[k][0],
                         expected ? expected : "(ignored)", text, taken ? "" : " (ignored)");
        }
        arena_free(planned.arena);
    }
}

/* Whatever happens, in whatever order: nothing starts twice, nothing starts before what it waits for, and in the end nothing is left undecided. */
UNIT_TEST(never_gets_stuck) {
    static const char text[] =
        "stages: [one, two, three]\n"
        "a: {stage: one, script: x}\nb: {stage: one, script: x, allow_failure: true}\nc: {stage: one, script: x, needs: [a]}\n"
        "d: {stage: two, script: x}\ne: {stage: two, script: x, needs: [b]}\nf: {stage: two, script: x, when: on_failure}\n"
        "g: {stage: three, script: x, needs: [d, e]}\nh: {stage: three, script: x, when: always}\ni: {stage: three, script: x, when: manual}\n";
    uint64_t seed = 42;
    for (int round = 0; round < 2000; round++) {
        struct planned planned = plan(text, "main", NULL);
        struct pipeline_event event = {.type = PIPELINE_EVENT_START};
        static struct pipeline_actions actions;
        size_t running[PIPELINE_JOBS_MAX], count = 0, started[PIPELINE_JOBS_MAX] = {0};
        for (int steps = 0; steps < 100; steps++) {
            assert_true(pipeline_step(&planned.state, &event, steps, &actions));
            for (size_t i = 0; i < actions.count; i++) {
                if (actions.items[i].type != PIPELINE_ACTION_START_JOB)
                    continue;
                running[count++] = actions.items[i].job;
                assert_int_equal(started[actions.items[i].job]++, 0);
            }
            if (count == 0)
                break;
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            size_t at = (seed >> 33) % count;
            event = (struct pipeline_event){.type = (seed >> 20) % 4 ? PIPELINE_EVENT_JOB_SUCCESS : PIPELINE_EVENT_JOB_FAILED, .job = running[at]};
            running[at] = running[--count];
        }
        assert_true(job_status_is_final(planned.state.status));
        for (size_t i = 0; i < planned.plan->jobs_count; i++)
            assert_true(job_status_is_final(planned.state.jobs[i].status) || planned.state.jobs[i].status == JOB_MANUAL);
        arena_free(planned.arena);
    }
}

UNIT_TEST(plans_the_default_pipeline) {
    static const char *const branches[] = {"main", "dev"};
    for (size_t i = 0; i < 2; i++) {
        CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
        struct pipeline *pipeline = NULL;
        struct plan *made = NULL;
        struct pipeline_variables predefined = {0};
        pipeline_variables_set(arena, &predefined, "CI_COMMIT_BRANCH", branches[i], false);
        pipeline_variables_set(arena, &predefined, "CI_DEFAULT_BRANCH", "main", false);
        assert_int_equal(pipeline_default(arena, &pipeline), 0);
        assert_int_equal(pipeline_plan(arena, pipeline, &predefined, &made, NULL), 0);
        assert_int_equal(made->jobs_count, i == 0 ? 2 : 1);
        assert_int_equal(made->jobs[0].job->builtin, PIPELINE_BUILTIN_BUILD);
    }
}

UNIT_MAIN(UNIT(chooses_jobs), UNIT(overrides_variables_in_order), UNIT(refuses_needs_that_rules_left_out), UNIT(refuses_a_circle_made_by_rules),
          UNIT(fetches_artifacts), UNIT(plays_scenarios), UNIT(never_gets_stuck), UNIT(plans_the_default_pipeline))
