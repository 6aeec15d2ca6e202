/* Pipeline files as they come from anybody who may push: parse, plan, and step until nothing is left to do. */
#include "forge/forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(PIPELINE_ARENA_BYTES_MAX);
    struct pipeline *pipeline = NULL;
    struct plan *plan = NULL;
    struct pipeline_state state;
    struct pipeline_variables predefined = {0};
    struct diag diag = DIAG_INIT;
    if (!arena || pipeline_parse(arena, PIPELINE_FILE, slice_make(data, size), &pipeline, &diag))
        return 0;
    pipeline_variables_set(arena, &predefined, "CI_COMMIT_BRANCH", "main", false);
    pipeline_variables_set(arena, &predefined, "CI_COMMIT_REF_NAME", "main", false);
    if (pipeline_plan(arena, pipeline, &predefined, &plan, &diag) || pipeline_state_init(arena, plan, &state))
        return 0;
    struct pipeline_actions *actions = malloc(sizeof *actions);
    if (!actions)
        return 0;
    struct pipeline_event event = {.type = PIPELINE_EVENT_START};
    pipeline_step(&state, &event, 1, actions);
    for (size_t i = 0; i < plan->jobs_count; i++) {
        event = (struct pipeline_event){.type = size % 3 ? PIPELINE_EVENT_JOB_SUCCESS : PIPELINE_EVENT_JOB_FAILED, .job = plan->order[i]};
        pipeline_step(&state, &event, 2, actions);
    }
    free(actions);
    return 0;
}
