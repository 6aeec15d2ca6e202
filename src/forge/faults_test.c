#include "forge/pipeline.h"

#include "faults.h"
#include "unit.h"

static const char text[] =
    "stages: [build, test, deploy]\n"
    "variables: {IMAGE: app, COUNT: 3, RAW: {value: $IMAGE, expand: false}}\n"
    "default: {image: 'debian:12', before_script: [echo hello]}\n"
    ".base: &base {stage: build, variables: {A: $IMAGE}}\n"
    "build: {extends: .base, script: [make, [make more]], artifacts: {paths: [out/], expire_in: 1 week}}\n"
    "test: {stage: test, needs: [build], script: !reference [build, script]}\n"
    "deploy: {stage: deploy, script: x, rules: [{if: '$CI_COMMIT_BRANCH == \"main\" && $COUNT =~ /^[0-9]+$/', when: manual}]}\n";

/* A pipeline is planned as it was written, or there is no memory: never is a job left out, nor is its author blamed. */
static int parse_and_plan(__attribute__((unused)) void *context) {
    static size_t jobs_count;
    CLEANUP(arena_freep) struct arena *arena = arena_new(PIPELINE_ARENA_BYTES_MAX);
    struct diag diag = DIAG_INIT;
    struct pipeline *pipeline = NULL;
    struct pipeline_variables predefined = {0};
    struct pipeline_state state;
    struct plan *plan = NULL;
    int r = arena ? pipeline_parse(arena, PIPELINE_FILE, slice_of(text), &pipeline, &diag) : -ENOMEM;
    if (r == 0)
        r = pipeline_variables_set(arena, &predefined, "CI_COMMIT_BRANCH", "main", false);
    if (r == 0)
        r = pipeline_variables_set(arena, &predefined, "CI_COMMIT_REF_NAME", "main", false);
    if (r == 0)
        r = pipeline_plan(arena, pipeline, &predefined, &plan, &diag);
    if (r == 0)
        r = pipeline_state_init(arena, plan, &state);
    if (r < 0 && r != -ENOMEM)
        print_error("%s\n", diag.message);
    if (r == 0 && !faults_struck())
        jobs_count = plan->jobs_count;
    if (r == 0)
        assert_int_equal(plan->jobs_count, jobs_count);
    return r;
}

UNIT_TEST(pipelines) {
    TEST_FAULTS(parse_and_plan, NULL);
}

UNIT_MAIN(UNIT(pipelines))
