#include "forge/pipeline.h"

#include "unit.h"

struct parsed {
    struct arena *arena;
    struct pipeline *pipeline;
    struct diag diag;
    int error;
};

static struct parsed parse(const char *text) {
    struct parsed parsed = {.arena = arena_new(PIPELINE_ARENA_BYTES_MAX), .diag = DIAG_INIT};
    parsed.error = pipeline_parse(parsed.arena, PIPELINE_FILE, slice_of(text), &parsed.pipeline, &parsed.diag);
    return parsed;
}

static struct parsed parse_good(const char *text) {
    struct parsed parsed = parse(text);
    char line[2048];
    if (parsed.error)
        fail_msg("%s", diag_format(&parsed.diag, line, sizeof line));
    return parsed;
}

UNIT_TEST(reads_a_whole_file) {
    struct parsed parsed = parse_good("stages: [build, test, deploy]\n"
                                      "variables:\n"
                                      "  IMAGE: app\n"
                                      "  COUNT: 3\n"
                                      "  RAW: {value: $IMAGE, expand: false}\n"
                                      "default:\n"
                                      "  image: debian:12\n"
                                      "  before_script: [echo hello]\n"
                                      "build:\n"
                                      "  stage: build\n"
                                      "  script:\n"
                                      "    - make\n"
                                      "    - [make more, [make most]]\n"
                                      "  artifacts: {paths: [out/], when: always, expire_in: 1 week}\n"
                                      "unit tests:\n"
                                      "  image: {name: python:3, entrypoint: [\"\"]}\n"
                                      "  before_script: []\n"
                                      "  script: make test\n"
                                      "  after_script: [echo bye]\n"
                                      "  needs: [build, {job: lint, optional: true, artifacts: false}]\n"
                                      "  timeout: 1h 30 minutes\n"
                                      "lint:\n"
                                      "  script: make lint\n"
                                      "  allow_failure: true\n"
                                      "deploy:\n"
                                      "  stage: deploy\n"
                                      "  script: tidemill apply -f deploy/\n"
                                      "  variables: {WHERE: here}\n"
                                      "  rules:\n"
                                      "    - if: $CI_COMMIT_BRANCH == \"main\"\n"
                                      "      when: manual\n"
                                      "      variables: {WHERE: there}\n"
                                      "    - when: never\n");
    const struct pipeline *pipeline = parsed.pipeline;
    assert_int_equal(pipeline->jobs_count, 4);
    assert_int_equal(pipeline->stages.count, 5);
    assert_string_equal(pipeline->stages.items[0], ".pre");
    assert_string_equal(pipeline->stages.items[4], ".post");
    assert_string_equal(pipeline_variables_find(&pipeline->variables, "COUNT"), "3");
    const struct pipeline_job *build = &pipeline->jobs[0], *test = &pipeline->jobs[1], *deploy = &pipeline->jobs[3];
    assert_string_equal(build->image, "debian:12");
    assert_int_equal(build->script.count, 3);
    assert_string_equal(build->script.items[2], "make most");
    assert_string_equal(build->before_script.items[0], "echo hello");
    assert_int_equal(build->artifacts_when, PIPELINE_ALWAYS);
    assert_int_equal(build->line, 9);
    assert_string_equal(test->stage, "test");
    assert_string_equal(test->image, "python:3");
    assert_int_equal(test->entrypoint.count, 1);
    assert_int_equal(test->before_script.count, 0);
    assert_int_equal(test->timeout_s, 5400);
    assert_int_equal(test->needs.count, 2);
    assert_true(test->needs.items[1].optional);
    assert_false(test->needs.items[1].artifacts);
    assert_true(pipeline->jobs[2].allow_failure);
    assert_int_equal(deploy->rules.count, 2);
    assert_int_equal(deploy->rules.items[0].when, PIPELINE_MANUAL);
    assert_int_equal(pipeline->warnings.count, 1); /* after_script */
    arena_free(parsed.arena);
}

UNIT_TEST(merges_templates) {
    struct parsed parsed = parse_good(".base: &base\n"
                                      "  image: base\n"
                                      "  variables: {A: 1, B: 2}\n"
                                      "  before_script: [one]\n"
                                      ".more:\n"
                                      "  extends: .base\n"
                                      "  variables: {B: 3, C: 4}\n"
                                      "  script: [from more]\n"
                                      "child:\n"
                                      "  extends: [.base, .more]\n"
                                      "  before_script: [two]\n"
                                      "  image: null\n"
                                      "anchored:\n"
                                      "  <<: *base\n"
                                      "  script:\n"
                                      "    - !reference [.more, script]\n"
                                      "    - own\n");
    const struct pipeline_job *child = &parsed.pipeline->jobs[0], *anchored = &parsed.pipeline->jobs[1];
    assert_null(child->image);
    assert_int_equal(child->before_script.count, 1);
    assert_string_equal(child->before_script.items[0], "two");
    assert_string_equal(pipeline_variables_find(&child->variables, "A"), "1");
    assert_string_equal(pipeline_variables_find(&child->variables, "B"), "3");
    assert_string_equal(pipeline_variables_find(&child->variables, "C"), "4");
    assert_string_equal(child->script.items[0], "from more");
    assert_string_equal(anchored->image, "base");
    assert_int_equal(anchored->script.count, 2);
    assert_string_equal(anchored->script.items[0], "from more");
    arena_free(parsed.arena);
}

UNIT_TEST(warns_about_what_has_no_effect) {
    struct parsed parsed = parse_good("cache: {paths: [x]}\na:\n  tags: [x]\n  script: x\nb:\n  script: y\n");
    assert_int_equal(parsed.pipeline->warnings.count, 2);
    assert_non_null(strstr(parsed.pipeline->warnings.items[0], ".gitlab-ci.yml:3: `tags`"));
    arena_free(parsed.arena);
}

UNIT_TEST(says_what_is_wrong_and_where) {
    static const struct {
        const char *text;
        int line, column; /* 0: not checked */
        const char *path, *message, *hint;
    } cases[] = {
        {"a:\n  script: [x\nb: y\n", 3, 0, "", "", ""},
        {"a:\n\tscript: x\n", 2, 0, "", "", ""},
        {"", 0, 0, "", "an empty file", ""},
        {"- a\n", 1, 1, "", "a map of jobs was expected, found array", ""},
        {"stages: [build]\n", 0, 0, "", "no job", "script"},
        {".hidden: {script: x}\n", 0, 0, "", "no job", ""},
        {"test:\n  scirpt: make\n", 2, 3, "test.scirpt", "unknown keyword \"scirpt\"", "\"script\""},
        {"test:\n  script: make\n  stage: tset\n", 1, 1, "test.stage", "unknown stage \"tset\": one of .pre, build, test, deploy, .post", "\"test\""},
        {"stages: [one]\ntest:\n  script: x\n", 2, 1, "test.stage", "unknown stage \"test\"", "stages"},
        {"a:\n  stage: build\n", 1, 1, "a", "no script", "dot"},
        {"a:\n  script: []\n", 2, 11, "a.script", "empty", ""},
        {"a:\n  script:\n    - echo: x\n", 3, 7, "a.script", "a text was expected, found a map", "quotes"},
        {"a: {script: x, needs: [b]}\n", 1, 24, "a.needs", "no job \"b\"", ""},
        {"a: {script: x, needs: [bulid]}\nbuild: {script: x}\n", 1, 24, "a.needs", "no job \"bulid\"", "\"build\""},
        {"a: {script: x, needs: [a]}\n", 1, 0, "a.needs", "needs itself", ""},
        {"a: {script: x, needs: [b]}\nb: {script: x, needs: [c]}\nc: {script: x, needs: [a]}\n", 0, 0, "c.needs", "circle", "remove"},
        {"a: {script: x, needs: [b]}\nb: {script: x, stage: deploy}\n", 1, 0, "a.needs", "later stage \"deploy\"", ""},
        {"a: {script: x, needs: {}}\n", 1, 0, "a.needs", "list of job names", ""},
        {"a: {script: x, when: sometimes}\n", 1, 22, "a.when", "one of on_success, on_failure, always, manual, never", ""},
        {"a: {script: x, when: delayed}\n", 1, 0, "a.when", "found delayed", ""},
        {"a: {script: x, allow_failure: maybe}\n", 1, 0, "a.allow_failure", "true or false", ""},
        {"a: {script: x, rules: [{if: '$A = 1'}]}\n", 1, 0, "a.rules", "unknown word or sign at character 4", "expression"},
        {"a: {script: x, rules: [{iff: $A}]}\n", 1, 0, "a.rules", "unknown key \"iff\"", "\"if\""},
        {"a: {script: x, rules: {if: $A}}\n", 1, 0, "a.rules", "list of rules", ""},
        {"a: {script: x, rules: [{when: always}], only: [main]}\n", 1, 0, "a.rules", "same job", ""},
        {"a: {script: x, services: [db]}\n", 1, 0, "a.services", "not supported yet", ""},
        {"include: x.yml\na: {script: x}\n", 1, 0, "include", "not supported yet", ""},
        {"a: {extends: .b, script: x}\n", 1, 0, "a.extends", "no job or template \".b\"", ""},
        {".a: {extends: .b}\n.b: {extends: .a}\nc: {extends: .a, script: x}\n", 0, 0, "c.extends", "deep", "circle"},
        {"variables: {A-B: x}\na: {script: x}\n", 1, 0, "variables", "no name of a variable", ""},
        {"variables: {A: [x]}\na: {script: x}\n", 1, 0, "variables", "a text was expected, found a list", ""},
        {"a: {script: x, image: {entrypoint: x}}\n", 1, 0, "a.image", "no name", ""},
        {"a: {script: x, artifacts: {path: x}}\n", 1, 0, "a.artifacts", "unknown key \"path\"", ""},
        {"a: {script: x, timeout: soon}\n", 1, 0, "a.timeout", "duration", ""},
        {"a: {script: x, timeout: 2 days}\n", 1, 0, "a.timeout", "at most 24 hours", ""},
        {"stage: [x]\na: {script: x}\n", 1, 1, "stage", "a job (a map with `script`) was expected", "\"stages\""},
        {"a: {script: x}\na: {script: y}\n", 2, 0, "", "", ""},
        {"default: {script: x}\na: {script: y}\n", 1, 0, "default", "cannot be a default", ""},
        {"a: {script: [!reference [.b, script]]}\n", 1, 0, "a.!reference", "there is no \".b\"", ""},
        {".b: {script: [!reference [.b, script]]}\na: {script: [!reference [.b, script]]}\n", 1, 0, "a.!reference", "nested more than", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct parsed parsed = parse(cases[i].text);
        const struct diag *diag = &parsed.diag;
        char line[2048];
        diag_format(diag, line, sizeof line);
        if (parsed.error != -EINVAL || (cases[i].line && diag->line != cases[i].line) || (cases[i].column && diag->column != cases[i].column) ||
            strcmp(diag->path, cases[i].path) != 0 || !strstr(diag->message, cases[i].message) || !strstr(diag->hint, cases[i].hint))
            fail_msg("case %zu: \"%s\" gave %d, %s", i, cases[i].text, parsed.error, line);
        assert_string_equal(diag->file, PIPELINE_FILE);
        arena_free(parsed.arena);
    }
}

UNIT_TEST(refuses_at_the_limit_of_memory) {
    for (size_t bytes = 64; bytes < 64 * KIB; bytes = bytes * 3 / 2) {
        struct arena *arena = arena_new(bytes);
        struct pipeline *pipeline = NULL;
        struct diag diag = DIAG_INIT;
        int error = pipeline_parse(arena, PIPELINE_FILE,
                                   SLICE(".t: {variables: {A: 1}}\na: {extends: .t, script: [x, y, z], needs: [b], rules: [{if: $A}]}\nb: {script: "
                                         "x, artifacts: {paths: [x]}}\n"),
                                   &pipeline, &diag);
        assert_true(error == 0 || error == -ENOMEM);
        arena_free(arena);
    }
}

UNIT_TEST(expands_variables) {
    static const struct pipeline_variable items[] = {{"A", "1", false},         {"B", "$A-${A}", false}, {"RAW", "$A", true},
                                                     {"LOOP", "x$LOOP", false}, {"EMPTY", "", false},    {"DOLLAR", "$$A", false}};
    const struct pipeline_variables variables = {.items = (struct pipeline_variable *)(uintptr_t)items, .count = ARRAY_LEN(items)};
    static const char *const cases[][3] = {
        {"plain", "plain", "plain"}, {"$A", "1", "1"},
        {"${A}b$A", "1b1", "1b1"},   {"$B", "1-1", "1-1"},
        {"$RAW", "$A", "$A"},        {"a$NONE.b", "a.b", "a$NONE.b"},
        {"${NONE}", "", "${NONE}"},  {"$(A) $ {A} ${A $1", "$(A) $ {A} ${A $1", "$(A) $ {A} ${A $1"},
        {"$EMPTY", "", ""},          {"$DOLLAR", "$A", "$1"},
        {"$$A", "$A", "$1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int keep = 0; keep < 2; keep++) {
            CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(KIB);
            buffer_append_text(&out, "");
            assert_int_equal(pipeline_expand(&variables, slice_of(cases[i][0]), keep ? PIPELINE_UNKNOWN_KEEP : PIPELINE_UNKNOWN_EMPTY, &out), 0);
            assert_string_equal(out.data ? out.data : "", cases[i][1 + keep]);
        }
    }
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(KIB);
    assert_int_equal(pipeline_expand(&variables, SLICE("$LOOP"), PIPELINE_UNKNOWN_EMPTY, &out), 0);
    assert_non_null(strstr(out.data, "xx$LOOP"));
}

UNIT_TEST(reads_the_port_of_a_dockerfile) {
    assert_int_equal(dockerfile_exposed_port(SLICE("FROM debian:12\nEXPOSE 3000\n")), 3000);
    assert_int_equal(dockerfile_exposed_port(SLICE("FROM a\nEXPOSE 1\nFROM b\n  expose 53/udp\nexpose 81/tcp 82")), 81);
    assert_int_equal(dockerfile_exposed_port(SLICE("FROM a\nEXPOSE $PORT\n")), 8080);
    assert_int_equal(dockerfile_exposed_port(SLICE("")), 8080);
}

UNIT_TEST(generates_manifests) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    const struct manifest_options options = {.app = "site", .image = "127.0.0.1:5000/site:abc", .domain = "localhost", .port = 3000};
    struct tree **documents = NULL;
    size_t count = 0;
    struct diag diag = DIAG_INIT;
    assert_int_equal(manifest_generate(&options, &text), 0);
    assert_int_equal(yaml_parse(arena, buffer_slice(&text), &documents, &count, &diag), 0);
    assert_int_equal(count, 3);
    assert_string_equal(tree_text_or(tree_path(documents[0], "kind"), ""), "Deployment");
    const struct tree *container = tree_at(tree_path(documents[0], "spec.template.spec.containers"), 0);
    assert_string_equal(tree_text_or(tree_find(container, "image"), ""), "127.0.0.1:5000/site:abc");
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_find(container, "env"), 0), "value"), ""), "3000");
    assert_int_equal(tree_int_or(tree_find(tree_at(tree_path(documents[1], "spec.ports"), 0), "port"), 0), 80);
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_path(documents[2], "spec.rules"), 0), "host"), ""), "site.localhost");
}

UNIT_MAIN(UNIT(reads_a_whole_file), UNIT(merges_templates), UNIT(warns_about_what_has_no_effect), UNIT(says_what_is_wrong_and_where),
          UNIT(refuses_at_the_limit_of_memory), UNIT(expands_variables), UNIT(reads_the_port_of_a_dockerfile), UNIT(generates_manifests))
