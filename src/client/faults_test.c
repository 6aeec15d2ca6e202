#include <stdio.h>

#include "client/client.h"
#include "sys/sys.h"

#include "faults.h"
#include "unit.h"

/* A server of a few lines: one list, and one change that every watch from the list's version hears. It is no part of what fails. */
struct api {
    struct loop *loop;
    struct http_server *server;
    struct client *client;
    int listen_fd;
    char folder[40], endpoint[100];
};

#define OBJECT(name, version, value)                                                                                                                 \
    "{\"metadata\":{\"name\":\"" name "\",\"namespace\":\"default\",\"uid\":\"u-" name "\",\"resourceVersion\":\"" version                           \
    "\"},\"data\":{\"k\":\"" value "\"}}"
#define LIST(version, items)                                                                                                                         \
    "{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"" version "\"},\"items\":[" items "]}"

static void on_request(void *userdata, struct http_exchange *exchange) {
    const struct {
        struct slice after; /* the version that the watch starts from */
        struct slice event;
    } changes[] = {
        {SLICE("resourceVersion=5"), SLICE("{\"type\":\"ADDED\",\"object\":" OBJECT("c", "6", "1") "}\n")},
        {SLICE("resourceVersion=6"), SLICE("{\"type\":\"MODIFIED\",\"object\":" OBJECT("a", "7", "2") "}\n")},
        {SLICE("resourceVersion=7"), SLICE("{\"type\":\"DELETED\",\"object\":" OBJECT("b", "8", "1") "}\n")},
    };
    (void)userdata;
    struct slice query = http_query_text(exchange);
    faults_pause();
    if (slice_find(query, SLICE("watch=true")) < 0) {
        http_respond(exchange, 200, "application/json", SLICE(LIST("5", OBJECT("a", "3", "1") "," OBJECT("b", "4", "1"))), NULL);
    } else {
        bool later = false;
        http_respond_begin(exchange, 200, "application/json", -1, NULL);
        for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
            later = later || slice_find(query, changes[i].after) >= 0;
            if (later)
                http_write(exchange, changes[i].event);
        }
    }
    faults_resume();
}

static void start(struct api *api) {
    struct sys_address address;
    *api = (struct api){.folder = "/tmp/tidemill-client-XXXXXX"};
    faults_pause();
    assert_int_equal(loop_new(&api->loop), 0);
    assert_non_null(mkdtemp(api->folder));
    snprintf(api->endpoint, sizeof api->endpoint, "unix:%s/s", api->folder);
    assert_int_equal(sys_address_parse(api->endpoint, &address), 0);
    api->listen_fd = sys_listen(&address, 8, 0600);
    assert_true(api->listen_fd >= 0);
    struct http_server_options options = {.handler = on_request, .userdata = api};
    assert_int_equal(http_server_new(api->loop, api->listen_fd, &options, &api->server), 0);
    faults_resume();
}

static void end(struct api *api) {
    faults_pause();
    client_free(api->client);
    http_server_free(api->server);
    close(api->listen_fd);
    loop_free(api->loop);
    assert_int_equal(sys_remove_tree(-100, api->folder), 0);
    faults_resume();
}

/* What the events say must always be what the informer holds. */
struct mirror {
    int present, synced;
};

static void on_event(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    struct mirror *mirror = userdata;
    assert_non_null(object);
    assert_true((event == INFORMER_ADDED) == (old == NULL));
    mirror->present += event == INFORMER_ADDED ? 1 : event == INFORMER_DELETED ? -1 : 0;
}

static void on_synced(void *userdata) {
    ((struct mirror *)userdata)->synced++;
}

static bool is_at(const struct informer *informer, const char *name, const char *value) {
    struct kube_object *object = informer_find(informer, "default", name);
    return value ? object && strcmp(kube_map_find(&object->config_map->data, "k"), value) == 0 : !object;
}

/* Whatever fails once, the informer comes to the server's state. */
static int follows(__attribute__((unused)) void *context) {
    struct api api;
    struct mirror mirror = {0};
    struct informer *informer = NULL;
    struct diag diag = DIAG_INIT;
    start(&api);
    const struct informer_options options = {
        .namespace = "default", .label_selector = "app=x", .on_event = on_event, .on_synced = on_synced, .userdata = &mirror};
    int r = client_new(api.loop, &(struct client_options){.endpoint = api.endpoint, .token = "let-me"}, &api.client, &diag);
    if (r == 0)
        r = informer_new(api.client, &kube_kind_config_map, &options, &informer);
    for (int turns = 0; r == 0 && !(is_at(informer, "a", "2") && is_at(informer, "b", NULL) && is_at(informer, "c", "1")); turns++) {
        assert_true(turns < 2000);
        (void)loop_turn(api.loop, 1000);
        assert_int_equal(informer_count(informer), mirror.present);
    }
    if (r == 0)
        assert_int_equal(mirror.synced, 1);
    informer_free(informer);
    end(&api);
    return r;
}

UNIT_TEST(an_informer_comes_to_the_servers_state) {
    TEST_FAULTS_ANY(follows, NULL);
}

static int paths(__attribute__((unused)) void *context) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(KIB);
    const char *path = arena ? client_path(arena, &kube_kind_pod, "n", "p", "log") : NULL;
    if (!path)
        return -ENOMEM;
    assert_string_equal(path, "/api/v1/namespaces/n/pods/p/log");
    return 0;
}

UNIT_TEST(paths_are_whole) {
    TEST_FAULTS(paths, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(an_informer_comes_to_the_servers_state), UNIT(paths_are_whole)};
    faults_skip_time(5);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
