/* The forge as its users see it: real git, the real job helper, a pretended cluster. */
#include <dirent.h>

#include "forge/forge_fixture_priv.h"

static const char manifests[] = "apiVersion: apps/v1\n"
                                "kind: Deployment\n"
                                "metadata: {name: web}\n"
                                "spec:\n"
                                "  replicas: 2\n"
                                "  selector: {matchLabels: {app: web}}\n"
                                "  template:\n"
                                "    metadata: {labels: {app: web}}\n"
                                "    spec:\n"
                                "      containers: [{name: web, image: $IMAGE, command: [sh, -c, 'echo $HOME']}]\n"
                                "---\n"
                                "apiVersion: v1\n"
                                "kind: Service\n"
                                "metadata: {name: web}\n"
                                "spec: {selector: {app: web}, ports: [{port: 80}]}\n";

/* A script that runs until the test is over: it leaves no process behind. */
static const char *endless(struct fixture *fixture) {
    return arena_printf(fixture->arena, "'while [ -d %s/job ]; do sleep 0.1; done'", fixture->folder);
}

#define PODS "/api/v1/namespaces/tidemill-ci/pods"
#define DEPLOYMENTS "/apis/apps/v1/namespaces/site/deployments"

static const char *deployed_image(struct fixture *fixture, const char *name) {
    struct object *object = fixture_find(fixture, DEPLOYMENTS, name);
    return object ? tree_text_or(tree_find(tree_at(tree_path(object->tree, "spec.template.spec.containers"), 0), "image"), "") : "";
}

UNIT_TEST(creates_shows_and_deletes_apps) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    assert_non_null(fixture_find(&fixture, "/api/v1/namespaces", "site"));
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/apps", "{\"name\":\"site\"}"), 409);
    assert_says(&fixture, "exists already");
    static const char *const bad[] = {"", "Site", "a_b", "-a", "a-", "kube-system", "tidemill-ci", "default", "../x", "1a"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/apps", arena_printf(fixture.arena, "{\"name\":\"%s\"}", bad[i])), 422);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/apps", "{"), 400);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/apps", NULL), 200);
    assert_int_equal(tree_count(tree_find(fixture_answer(&fixture), "items")), 1);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/apps/site", NULL), 200);
    assert_string_equal(tree_text_or(tree_find(fixture_answer(&fixture), "url"), ""), "http://site.localhost:8080");
    assert_null(strstr(fixture.out.data, "token"));
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/apps/none", NULL), 404);
    assert_int_equal(fixture_ask(&fixture, "PUT", "/tidemill/v1/apps/site", NULL), 405);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/nothing", NULL), 404);
    assert_int_equal(fixture_ask(&fixture, "DELETE", "/tidemill/v1/apps/site", NULL), 200);
    assert_null(fixture_find(&fixture, "/api/v1/namespaces", "site"));
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/apps/site", NULL), 404);
    fixture_end(&fixture);
}

UNIT_TEST(waits_until_an_older_namespace_is_gone) {
    struct fixture fixture;
    fixture_begin(&fixture);
    struct object old = {.collection = arena_strdup(fixture.arena, "/api/v1/namespaces"), .name = arena_strdup(fixture.arena, "site")};
    old.tree = fixture_json(
        &fixture, "{\"metadata\":{\"name\":\"site\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},\"status\":{\"phase\":\"Terminating\"}}");
    VECTOR_PUSH(&fixture.objects, old);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/apps", "{\"name\":\"site\"}"), 409);
    assert_says(&fixture, "still ending");
    fixture.objects.items[0].tree = fixture_json(&fixture, "{\"metadata\":{\"name\":\"site\"}}");
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/apps", "{\"name\":\"site\"}"), 201);
    fixture_end(&fixture);
}

UNIT_TEST(asks_for_the_token) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    const char *base = fixture.options.git_url + 7;
    assert_int_not_equal(GIT(&fixture, "ls-remote", arena_printf(fixture.arena, "http://%s/site.git", base)), 0);
    assert_int_not_equal(GIT(&fixture, "ls-remote", arena_printf(fixture.arena, "http://git:wrong@%s/site.git", base)), 0);
    assert_int_not_equal(GIT(&fixture, "ls-remote", arena_printf(fixture.arena, "http://git:wrong@%s/none.git", base)), 0);
    assert_int_equal(GIT(&fixture, "ls-remote", "origin"), 0);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/apps/site/token", NULL), 200);
    const char *remote = arena_strdup(fixture.arena, tree_text_or(tree_find(fixture_answer(&fixture), "remote"), ""));
    assert_int_not_equal(GIT(&fixture, "ls-remote", "origin"), 0);
    assert_int_equal(GIT(&fixture, "ls-remote", remote), 0);
    fixture_end(&fixture);
}

UNIT_TEST(refuses_pushes_with_a_broken_pipeline) {
    static const char *const cases[][2] = {
        {"test:\n  script: [make\nx: y\n", "remote: .gitlab-ci.yml:3:"},
        {"test:\n  script: make\n  stage: tset\n", "remote: .gitlab-ci.yml:1:1: test.stage: unknown stage \"tset\""},
        {"a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}\n", "circle"},
    };
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_write(&fixture, ".gitlab-ci.yml", cases[i][0]);
        assert_int_not_equal(fixture_push(&fixture, "broken"), 0);
        assert_says(&fixture, "remote: The pipeline is not valid; nothing was changed:");
        assert_says(&fixture, cases[i][1]);
    }
    assert_int_equal(GIT(&fixture, "ls-remote", "origin"), 0);
    assert_string_equal(fixture.out.data, "");
    fixture_write(&fixture, "readme", "nothing to run");
    assert_int_equal(GIT(&fixture, "rm", "-qf", ".gitlab-ci.yml"), 0);
    assert_int_equal(fixture_push(&fixture, "nothing to run"), 0);
    assert_says(&fixture, "neither a .gitlab-ci.yml nor a Dockerfile");
    fixture_end(&fixture);
}

UNIT_TEST(runs_a_pipeline_and_deploys) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, "deploy/web.yaml", manifests);
    fixture_write(&fixture, "Dockerfile", "FROM scratch\n");
    fixture_write(&fixture, "source.txt", "hello\n");
    fixture_write(&fixture, ".gitlab-ci.yml",
                  "variables: {GREETING: good morning}\n"
                  "compile:\n"
                  "  stage: build\n"
                  "  script:\n"
                  "    - mkdir out && cp source.txt out/\n"
                  "  artifacts: {paths: [out]}\n"
                  "pack:\n"
                  "  stage: build\n"
                  "  script: [tidemill build]\n"
                  "test:\n"
                  "  before_script: [echo before]\n"
                  "  script:\n"
                  "    - test \"$(cat out/source.txt)\" = hello\n"
                  "    - echo \"$GREETING from $CI_JOB_NAME of $CI_COMMIT_BRANCH\"\n"
                  "deploy:\n"
                  "  stage: deploy\n"
                  "  script: [tidemill apply -f deploy]\n");
    if (fixture_push(&fixture, "first version") != 0)
        fail_msg("%s", fixture.out.data);
    assert_says(&fixture, "remote: pipeline 1 of site, main");
    assert_says(&fixture, "remote: test | good morning from test of main");
    assert_says(&fixture, "remote: pack | built 10.0.0.1:5000/site:");
    assert_says(&fixture, "remote: deploy | deployments.apps/web created");
    assert_says(&fixture, "remote: deploy | deployment web: is rolled out");
    assert_says(&fixture, "remote: pipeline 1 succeeded");
    assert_null(strstr(fixture.out.data, "http://")); /* no Ingress */
    assert_int_equal(fixture.builds, 1);
    assert_int_equal(GIT(&fixture, "rev-parse", "--short=8", "HEAD"), 0);
    const char *sha = arena_dup(fixture.arena, slice_trim(buffer_slice(&fixture.out)));
    assert_string_equal(fixture.tagged, arena_printf(fixture.arena, "site:%s=latest", sha));
    assert_string_equal(deployed_image(&fixture, "web"), arena_printf(fixture.arena, "10.0.0.1:5000/site:%s", sha));
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1", NULL), 200);
    assert_string_equal(tree_text_or(tree_find(fixture_answer(&fixture), "status"), ""), "success");
    assert_int_equal(tree_count(tree_find(fixture_answer(&fixture), "jobs")), 4);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1/logs?job=test&follow=1", NULL), 200);
    assert_says(&fixture, "good morning from test");
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1/logs?job=tst", NULL), 404);
    assert_says(&fixture, "compile, pack, test, deploy");
    fixture_write(&fixture, "source.txt", "hello\n");
    assert_int_equal(fixture_push(&fixture, "again"), 0);
    assert_says(&fixture, "deploy | deployments.apps/web configured");
    assert_says(&fixture, "deploy | services/web unchanged");
    assert_int_equal(GIT(&fixture, "clone", "-q", ".", "../copy"), 0);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/apps/site/pipelines", NULL), 200);
    assert_int_equal(tree_int_or(tree_find(tree_at(tree_find(fixture_answer(&fixture), "items"), 0), "id"), 0), 2);
    for (size_t i = 0; i < fixture.objects.count; i++)
        WAIT_FOR(&fixture, !fixture.objects.items[i].tree || !strstr(fixture.objects.items[i].collection, "/pods"));
    fixture_end(&fixture);
}

UNIT_TEST(says_which_line_failed_and_stops) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, ".gitlab-ci.yml",
                  "test:\n  script:\n    - echo one\n    - sh -c 'exit 7'\n    - echo three\n"
                  "lenient: {script: 'false', allow_failure: true}\n"
                  "deploy: {stage: deploy, script: [echo deployed]}\n");
    assert_int_equal(fixture_push(&fixture, "fails"), 0);
    assert_says(&fixture, "--- test FAILED with exit code 7 in line 2 of its script: sh -c 'exit 7'");
    assert_says(&fixture, "(it may fail: the pipeline goes on)");
    assert_says(&fixture, "deploy: skipped");
    assert_says(&fixture, "pipeline 1 FAILED");
    assert_null(strstr(fixture.out.data, "deployed"));
    assert_null(strstr(fixture.out.data, "three"));
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1", NULL), 200);
    const struct tree *job = tree_at(tree_find(fixture_answer(&fixture), "jobs"), 0);
    assert_int_equal(tree_int_or(tree_find(job, "exitCode"), 0), 7);
    assert_int_equal(tree_int_or(tree_find(job, "failedLine"), 0), 2);
    assert_string_equal(tree_text_or(tree_find(job, "reason"), ""), "exit code 7 in line 2: sh -c 'exit 7'");
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/pipelines/1/retry", NULL), 202);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1/logs?follow=1", NULL), 200);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/pipelines/1/cancel", NULL), 409);
    fixture_end(&fixture);
}

UNIT_TEST(tells_why_a_pod_does_not_start) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture.image_missing = true;
    fixture_write(&fixture, ".gitlab-ci.yml", "test: {image: none, script: x}\n");
    assert_int_equal(fixture_push(&fixture, "no image"), 0);
    assert_says(&fixture, "--- test FAILED: ErrImagePull: no such image");
    fixture_end(&fixture);
}

UNIT_TEST(refuses_bad_manifests_before_anything_changes) {
    static const char *const cases[][2] = {
        {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec: {replcas: 1, selector: {}, template: {}}\n",
         "unknown field \"spec.replcas\""},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: other}\n", "is not the application's own"},
        {"apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n", "a pipeline may not change a Namespace"},
        {"apiVersion: v1\nkind: Srevice\nmetadata: {name: b}\n", "there is no kind \"Srevice\""},
        {"apiVersion: v1\nkind: Service\nmetadata: {}\n", "metadata.name is missing"},
        {"kind: [\n", "deploy/z.yaml:2"},
    };
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, "deploy/a.yaml", manifests);
    fixture_write(&fixture, ".gitlab-ci.yml", "deploy: {script: [tidemill apply -f deploy]}\n");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_write(&fixture, "deploy/z.yaml", cases[i][0]);
        assert_int_equal(fixture_push(&fixture, "bad manifest"), 0);
        assert_says(&fixture, cases[i][1]);
        assert_says(&fixture, "nothing was changed");
        assert_says(&fixture, "FAILED with exit code 1 in line 1 of its script: tidemill apply -f deploy");
    }
    assert_null(fixture_find(&fixture, DEPLOYMENTS, "web"));
    fixture_end(&fixture);
}

UNIT_TEST(builds_and_deploys_a_dockerfile_alone) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, "Dockerfile", "FROM scratch\nEXPOSE 3000\n");
    assert_int_equal(fixture_push(&fixture, "only a Dockerfile"), 0);
    assert_says(&fixture, "there is no .gitlab-ci.yml");
    assert_says(&fixture, "build | built 10.0.0.1:5000/site:");
    assert_says(&fixture, "deploy | deployment site: is rolled out");
    assert_says(&fixture, "http://site.localhost:8080/");
    struct object *object = fixture_find(&fixture, DEPLOYMENTS, "site");
    assert_non_null(object);
    const struct tree *container = tree_at(tree_path(object->tree, "spec.template.spec.containers"), 0);
    assert_int_equal(tree_int_or(tree_find(tree_at(tree_find(container, "ports"), 0), "containerPort"), 0), 3000);
    assert_int_equal(GIT(&fixture, "checkout", "-q", "-b", "other"), 0);
    assert_int_equal(fixture_push(&fixture, "another branch"), 0);
    assert_says(&fixture, "jobs: build  ");
    fixture_write(&fixture, "deploy/web.yaml", manifests);
    assert_int_equal(GIT(&fixture, "checkout", "-q", "main"), 0);
    assert_int_equal(fixture_push(&fixture, "with manifests"), 0);
    assert_says(&fixture, "deploy | deployments.apps/web created");
    fixture_end(&fixture);
}

/* The deployment does not get going because its pod cannot: the job tells why, long before the progress deadline. */
UNIT_TEST(ends_a_rollout_whose_pods_cannot_start) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture.rollouts_hang = true;
    fixture_write(&fixture, "deploy/web.yaml", manifests);
    fixture_write(&fixture, ".gitlab-ci.yml", "deploy: {script: [tidemill apply -f deploy]}\n");
    assert_int_equal(GIT(&fixture, "add", "-A"), 0);
    assert_int_equal(GIT(&fixture, "commit", "-q", "-m", "hangs"), 0);
    struct loop_command *push = NULL;
    fixture_git_begin(&fixture, (const char *const[]){"git", "push", "-q", "origin", "HEAD", NULL}, &push);
    WAIT_FOR(&fixture, fixture_find(&fixture, DEPLOYMENTS, "web"));
    char created[TIMESTAMP_BYTES];
    timestamp_format(sys_wall_ns(), created);
    struct object pod = {.collection = arena_strdup(fixture.arena, "/api/v1/namespaces/site/pods"), .name = arena_strdup(fixture.arena, "web-1")};
    pod.tree = fixture_json(
        &fixture,
        arena_printf(
            fixture.arena,
            "{\"metadata\":{\"name\":\"web-1\",\"namespace\":\"site\",\"uid\":\"u\",\"creationTimestamp\":\"%s\",\"labels\":{\"app\":\"web\"}},"
            "\"status\":{\"phase\":\"Pending\",\"containerStatuses\":[{\"name\":\"web\",\"state\":{\"waiting\":{\"reason\":\"ErrImagePull\","
            "\"message\":\"no such image\"}}}]}}",
            created));
    VECTOR_PUSH(&fixture.objects, pod);
    fixture_changed(&fixture, &fixture.objects.items[fixture.objects.count - 1], "ADDED");
    WAIT_FOR(&fixture, fixture.done);
    assert_says(&fixture, "deployment web: 0 of 2 new replicas are available");
    assert_says(&fixture, "pod web-1 does not start: ErrImagePull: no such image");
    assert_says(&fixture, "FAILED with exit code 1");
    fixture_end(&fixture);
}

UNIT_TEST(a_newer_push_cancels_the_older_pipeline) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, ".gitlab-ci.yml", arena_printf(fixture.arena, "wait: {script: [%s]}\n", endless(&fixture)));
    assert_int_equal(GIT(&fixture, "add", "-A"), 0);
    assert_int_equal(GIT(&fixture, "commit", "-q", "-m", "waits"), 0);
    struct loop_command *push = NULL;
    fixture_git_begin(&fixture, (const char *const[]){"git", "push", "-q", "origin", "HEAD", NULL}, &push);
    WAIT_FOR(&fixture, fixture.containers.count == 1 && fixture.forge->runs.items[0]->state.status == JOB_RUNNING);
    loop_command_cancel(push);
    fixture_write(&fixture, ".gitlab-ci.yml", "quick: {script: [echo quick]}\n");
    assert_int_equal(fixture_push(&fixture, "quick"), 0);
    assert_says(&fixture, "pipeline 1 of the push before is cancelled");
    assert_says(&fixture, "pipeline 2 succeeded");
    assert_int_equal(fixture.forge->runs.items[0]->state.status, JOB_CANCELED);
    fixture_end(&fixture);
}

/* More than the pipes and queues hold, chunked on the way up. */
UNIT_TEST(streams_large_pushes_and_clones) {
    enum { SIZE = 12 * 1024 * 1024 };
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    char *bytes = arena_alloc(fixture.arena, SIZE), *path = arena_printf(fixture.arena, "%s/work/large", fixture.folder);
    sys_random(bytes, SIZE);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_make(bytes, SIZE), 0644), 0);
    assert_int_equal(GIT(&fixture, "config", "http.postBuffer", "65536"), 0);
    assert_int_equal(fixture_push(&fixture, "large"), 0);
    assert_int_equal(GIT(&fixture, "remote", "get-url", "origin"), 0);
    const char *remote = arena_dup(fixture.arena, slice_trim(buffer_slice(&fixture.out)));
    assert_int_equal(GIT(&fixture, "clone", "-q", remote, "../copy"), 0);
    CLEANUP(buffer_deinit) struct buffer copy = BUFFER_INIT(2 * (size_t)SIZE);
    assert_int_equal(sys_read_file(AT_FDCWD, arena_printf(fixture.arena, "%s/copy/large", fixture.folder), SIZE, &copy), 0);
    assert_true(slice_equal(buffer_slice(&copy), slice_make(bytes, SIZE)));
    fixture_end(&fixture);
}

static size_t count_entries(const char *path) {
    size_t count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

/* git is told that two packs are too many. */
UNIT_TEST(looks_after_repositories_that_were_pushed_to) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    const char *repository = arena_printf(fixture.arena, "%s/forge/repos/site.git", fixture.folder);
    const char *packs = arena_printf(fixture.arena, "%s/objects/pack", repository);
    assert_int_equal(GIT(&fixture, "--git-dir", repository, "config", "receive.unpackLimit", "1"), 0);
    assert_int_equal(GIT(&fixture, "--git-dir", repository, "config", "gc.autoPackLimit", "1"), 0);
    for (int i = 0; i < 3; i++) {
        fixture_write(&fixture, "file", arena_printf(fixture.arena, "%d", i));
        assert_int_equal(fixture_push(&fixture, "push"), 0);
    }
    assert_true(count_entries(packs) >= 6);
    forge_clean(fixture.forge);
    forge_clean(fixture.forge); /* one at a time */
    WAIT_FOR(&fixture, count_entries(packs) <= 3);
    assert_true(forge_has_app(fixture.forge, "site"));
    assert_false(forge_has_app(fixture.forge, "sit"));
    assert_int_equal(fixture_push(&fixture, "after"), 0);
    fixture_end(&fixture);
}

UNIT_TEST(removes_what_a_manifest_no_longer_says) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, ".gitlab-ci.yml", "deploy: {script: [tidemill apply -f c.yaml]}\n");
    fixture_write(&fixture, "c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {a: b}}\ndata: {one: '1', two: '2'}\n");
    assert_int_equal(fixture_push(&fixture, "two"), 0);
    struct object *object = fixture_find(&fixture, "/api/v1/namespaces/site/configmaps", "c");
    assert_non_null(object);
    tree_set_text(fixture.arena, tree_find(object->tree, "data"), "theirs", "3");
    fixture_write(&fixture, "c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {one: '1'}\n");
    assert_int_equal(fixture_push(&fixture, "one"), 0);
    assert_says(&fixture, "configmaps/c configured");
    object = fixture_find(&fixture, "/api/v1/namespaces/site/configmaps", "c");
    assert_string_equal(tree_text_or(tree_path(object->tree, "data.one"), ""), "1");
    assert_null(tree_path(object->tree, "data.two"));
    assert_null(tree_path(object->tree, "metadata.labels"));
    assert_string_equal(tree_text_or(tree_path(object->tree, "data.theirs"), ""), "3");
    fixture_end(&fixture);
}

/* The job waits for a file; meanwhile the client goes away and the forge is restarted. */
UNIT_TEST(goes_on_without_the_client_and_after_a_restart) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(
        &fixture, ".gitlab-ci.yml",
        arena_printf(fixture.arena,
                     "wait:\n  script:\n    - echo waiting\n    - while [ -d %s/job ] && ! [ -e %s/go ]; do sleep 0.05; done\n    - echo done\n",
                     fixture.folder, fixture.folder));
    assert_int_equal(GIT(&fixture, "add", "-A"), 0);
    assert_int_equal(GIT(&fixture, "commit", "-q", "-m", "waits"), 0);
    struct loop_command *push = NULL;
    fixture_git_begin(&fixture, (const char *const[]){"git", "push", "-q", "origin", "HEAD", NULL}, &push);
    WAIT_FOR(&fixture, fixture.forge->runs.count == 1 && fixture.forge->runs.items[0]->log && fixture.forge->runs.items[0]->jobs[0].log &&
                           joblog_size(fixture.forge->runs.items[0]->jobs[0].log) > 0);
    loop_command_cancel(push);
    WAIT_FOR(&fixture, http_server_connections(fixture.servers[SERVER_GIT]) == 0);
    fixture_stop_forge(&fixture);
    fixture_start_forge(&fixture);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1", NULL), 200);
    assert_string_equal(tree_text_or(tree_find(fixture_answer(&fixture), "status"), ""), "running");
    assert_int_equal(sys_write_file_fast(AT_FDCWD, arena_printf(fixture.arena, "%s/go", fixture.folder), SLICE(""), 0644), 0);
    WAIT_FOR(&fixture, job_status_is_final(fixture.forge->runs.items[0]->state.status));
    assert_int_equal(fixture.forge->runs.items[0]->state.status, JOB_SUCCESS);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1/logs?job=wait", NULL), 200);
    assert_says(&fixture, "done\n");
    const char *first = strstr(fixture.out.data, "\nwaiting\n");
    assert_non_null(first);
    assert_null(strstr(first + 1, "\nwaiting\n")); /* what was known is not read again */
    fixture_end(&fixture);
}

UNIT_TEST(fails_jobs_whose_pods_are_gone_after_a_restart) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, ".gitlab-ci.yml", arena_printf(fixture.arena, "wait: {script: [%s]}\n", endless(&fixture)));
    assert_int_equal(GIT(&fixture, "add", "-A"), 0);
    assert_int_equal(GIT(&fixture, "commit", "-q", "-m", "waits"), 0);
    struct loop_command *push = NULL;
    fixture_git_begin(&fixture, (const char *const[]){"git", "push", "-q", "origin", "HEAD", NULL}, &push);
    WAIT_FOR(&fixture, fixture.containers.count == 1 && fixture.forge->runs.items[0]->state.status == JOB_RUNNING);
    loop_command_cancel(push);
    WAIT_FOR(&fixture, http_server_connections(fixture.servers[SERVER_GIT]) == 0);
    fixture_stop_forge(&fixture);
    for (size_t i = 0; i < fixture.objects.count; i++)
        if (strstr(fixture.objects.items[i].collection, "/pods"))
            fixture.objects.items[i].tree = NULL;
    fixture_start_forge(&fixture);
    WAIT_FOR(&fixture, job_status_is_final(fixture.forge->runs.items[0]->state.status));
    assert_int_equal(fixture.forge->runs.items[0]->state.status, JOB_FAILED);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1", NULL), 200);
    assert_says(&fixture, "gone when the platform started again");
    fixture_end(&fixture);
}

UNIT_TEST(plays_retries_and_cancels) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, ".gitlab-ci.yml",
                  arena_printf(fixture.arena,
                               "build: {stage: build, script: [echo built]}\n"
                               "go: {stage: test, when: manual, allow_failure: false, script: [echo went]}\n"
                               "wait: {stage: deploy, script: [%s]}\n",
                               endless(&fixture)));
    assert_int_equal(fixture_push(&fixture, "manual"), 0);
    assert_says(&fixture, "go: waits; start it with `tidemill pipeline play 1 go`");
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/pipelines/1/jobs/build/play", NULL), 409);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/pipelines/1/jobs/none/play", NULL), 404);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/pipelines/1/jobs/go/play", NULL), 202);
    WAIT_FOR(&fixture, fixture.containers.count == 3);
    assert_int_equal(fixture_ask(&fixture, "POST", "/tidemill/v1/pipelines/1/cancel", NULL), 202);
    WAIT_FOR(&fixture, fixture.forge->runs.items[0]->state.status == JOB_CANCELED);
    assert_int_equal(fixture_ask(&fixture, "GET", "/tidemill/v1/pipelines/1/logs", NULL), 200);
    assert_says(&fixture, "go | went");
    assert_says(&fixture, "--- wait cancelled");
    WAIT_FOR(&fixture, !fixture_find(&fixture, PODS, fixture.forge->runs.items[0]->jobs[2].pod_name));
    fixture_end(&fixture);
}

UNIT_TEST(keeps_tokens_to_their_jobs) {
    struct fixture fixture;
    fixture_begin(&fixture);
    fixture_create_app(&fixture);
    fixture_write(&fixture, ".gitlab-ci.yml",
                  arena_printf(fixture.arena,
                               "stages: [a, b]\n"
                               "keep: {stage: a, script: ['echo $CI_JOB_TOKEN > token'], artifacts: {paths: [token]}}\n"
                               "wait: {stage: b, script: [%s]}\n",
                               endless(&fixture)));
    assert_int_equal(GIT(&fixture, "add", "-A"), 0);
    assert_int_equal(GIT(&fixture, "commit", "-q", "-m", "tokens"), 0);
    struct loop_command *push = NULL;
    fixture_git_begin(&fixture, (const char *const[]){"git", "push", "-q", "origin", "HEAD", NULL}, &push);
    WAIT_FOR(&fixture, fixture.forge->runs.count == 1 && fixture.forge->runs.items[0]->jobs_count == 2 &&
                           run_job_status(fixture.forge->runs.items[0], 1) == JOB_RUNNING);
    const struct run *run = fixture.forge->runs.items[0];
    assert_string_equal(run->jobs[0].token_digest, ""); /* worth nothing any more */
    const struct object *pod = fixture_find(&fixture, PODS, run->jobs[1].pod_name);
    const struct tree *env = tree_find(tree_at(tree_path(pod->tree, "spec.containers"), 0), "env");
    assert_string_equal(tree_text_or(tree_path(pod->tree, "spec.priorityClassName"), ""), "tidemill-batch"); /* never before services */
    const char *token = NULL;
    for (size_t i = 0; i < tree_count(env); i++)
        if (strcmp(tree_text_or(tree_find(tree_at(env, i), "name"), ""), "TIDEMILL_JOB_TOKEN") == 0)
            token = tree_text_or(tree_find(tree_at(env, i), "value"), "");
    assert_non_null(token);
    assert_true(forge_registry_allows(fixture.forge, token, "site", true));
    assert_true(forge_registry_allows(fixture.forge, token, "debian", false));
    assert_false(forge_registry_allows(fixture.forge, token, "debian", true));
    assert_false(forge_registry_allows(fixture.forge, "", "site", false));
    loop_command_cancel(push);
    fixture_end(&fixture);
}

UNIT_MAIN(UNIT(creates_shows_and_deletes_apps), UNIT(asks_for_the_token), UNIT(refuses_pushes_with_a_broken_pipeline),
          UNIT(runs_a_pipeline_and_deploys), UNIT(says_which_line_failed_and_stops), UNIT(tells_why_a_pod_does_not_start),
          UNIT(refuses_bad_manifests_before_anything_changes), UNIT(builds_and_deploys_a_dockerfile_alone),
          UNIT(removes_what_a_manifest_no_longer_says), UNIT(goes_on_without_the_client_and_after_a_restart),
          UNIT(fails_jobs_whose_pods_are_gone_after_a_restart), UNIT(plays_retries_and_cancels), UNIT(keeps_tokens_to_their_jobs),
          UNIT(ends_a_rollout_whose_pods_cannot_start), UNIT(a_newer_push_cancels_the_older_pipeline), UNIT(streams_large_pushes_and_clones),
          UNIT(looks_after_repositories_that_were_pushed_to), UNIT(waits_until_an_older_namespace_is_gone))
