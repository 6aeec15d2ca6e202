#include <stdio.h>

#include "client/client.h"
#include "sys/sys.h"

#include "unit.h"

/* An API server of a few lines: config maps in one namespace, whose answers the test sets. */
struct api {
    struct loop *loop;
    struct http_server *server;
    struct client *client;
    int listen_fd;
    char folder[40], endpoint[100];
    const char *list; /* body of the next list */
    int list_status, watch_status;
    int lists, watches;
    char watch_query[500], list_query[500];
    char authorization[100];
    struct http_exchange *watch;
};

static void on_watch_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)complete;
    struct api *api = userdata;
    if (api->watch == exchange)
        api->watch = NULL;
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    struct api *api = userdata;
    struct slice query = http_query_text(exchange), target = http_target(exchange);
    snprintf(api->authorization, sizeof api->authorization, "%.*s", SLICE_ARG(http_header(exchange, "authorization")));
    if (slice_is(http_method(exchange), "POST")) {
        http_respond(exchange, 409, "application/json",
                     SLICE("{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"configmaps \\\"a\\\" already "
                           "exists\",\"reason\":\"AlreadyExists\",\"code\":409,"
                           "\"details\":{\"causes\":[{\"reason\":\"R\",\"field\":\"f\",\"message\":\"m\"}]}}"),
                     NULL);
        return;
    }
    if (!slice_starts(target, SLICE("/api/v1/namespaces/default/configmaps"))) {
        http_respond_text(exchange, 404, "nothing here");
    } else if (slice_find(query, SLICE("watch=true")) >= 0) {
        api->watches++;
        snprintf(api->watch_query, sizeof api->watch_query, "%.*s", SLICE_ARG(query));
        if (api->watch_status) {
            http_respond_text(exchange, api->watch_status, "no");
            api->watch_status = 0;
            return;
        }
        http_on_close(exchange, on_watch_close, api);
        http_respond_begin(exchange, 200, "application/json", -1, NULL);
        api->watch = exchange;
    } else {
        api->lists++;
        snprintf(api->list_query, sizeof api->list_query, "%.*s", SLICE_ARG(query));
        http_respond(exchange, api->list_status ? api->list_status : 200, "application/json", slice_of(api->list), NULL);
        api->list_status = 0;
    }
}

#define WAIT_FOR(api, condition)                                                                                                                     \
    do {                                                                                                                                             \
        while (!(condition))                                                                                                                         \
            assert_int_equal(loop_turn((api)->loop, 1000), 0);                                                                                       \
    } while (0)

static void start(struct api *api) {
    struct sys_address address;
    struct diag diag = DIAG_INIT;
    *api = (struct api){.folder = "/tmp/tidemill-client-XXXXXX"};
    assert_int_equal(loop_new(&api->loop), 0);
    assert_non_null(mkdtemp(api->folder));
    snprintf(api->endpoint, sizeof api->endpoint, "unix:%s/s", api->folder);
    assert_int_equal(sys_address_parse(api->endpoint, &address), 0);
    api->listen_fd = sys_listen(&address, 8, 0600);
    assert_true(api->listen_fd >= 0);
    assert_int_equal(http_server_new(api->loop, api->listen_fd, &(struct http_server_options){.handler = on_request, .userdata = api}, &api->server),
                     0);
    assert_int_equal(client_new(api->loop, &(struct client_options){.endpoint = api->endpoint, .token = "let-me"}, &api->client, &diag), 0);
}

static void end(struct api *api) {
    client_free(api->client);
    http_server_free(api->server);
    close(api->listen_fd);
    loop_free(api->loop);
    assert_int_equal(sys_remove_tree(-100, api->folder), 0);
}

#define OBJECT(name, version, value)                                                                                                                 \
    "{\"metadata\":{\"name\":\"" name "\",\"namespace\":\"default\",\"uid\":\"u-" name "\",\"resourceVersion\":\"" version                           \
    "\"},\"data\":{\"k\":\"" value "\"}}"
#define LIST(version, items)                                                                                                                         \
    "{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"" version "\"},\"items\":[" items "]}"

/* Every event as a line. */
struct journal {
    char text[2000];
    size_t len;
    int synced;
    struct informer *free_me;
};
static void on_event(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    static const char *const names[] = {"added", "updated", "deleted"};
    struct journal *journal = userdata;
    const char *now = kube_map_find(&object->config_map->data, "k"), *before = old ? kube_map_find(&old->config_map->data, "k") : NULL;
    journal->len += (size_t)snprintf(journal->text + journal->len, sizeof journal->text - journal->len, "%s %s %s<%s\n", names[event],
                                     object->metadata->name, now ? now : "-", before ? before : "-");
    if (journal->free_me)
        informer_free(TAKE(journal->free_me));
}
static void on_synced(void *userdata) {
    struct journal *journal = userdata;
    journal->synced++;
}

static struct informer *inform(struct api *api, struct journal *journal) {
    struct informer *informer = NULL;
    const struct kube_kind *kind = kube_kind_find(SLICE(""), SLICE("v1"), SLICE("ConfigMap"));
    struct informer_options options = {
        .namespace = "default", .label_selector = "app=x,y!=z", .on_event = on_event, .on_synced = on_synced, .userdata = journal};
    *journal = (struct journal){.len = 0};
    assert_non_null(kind);
    assert_int_equal(informer_new(api->client, kind, &options, &informer), 0);
    return informer;
}

static void expect(struct journal *journal, const char *text) {
    assert_string_equal(journal->text, text);
    journal->text[0] = '\0';
    journal->len = 0;
}

UNIT_TEST(an_informer_follows_a_list_and_its_watch) {
    struct api api;
    struct journal journal;
    start(&api);
    api.list = LIST("5", OBJECT("a", "3", "1") "," OBJECT("b", "4", "1"));
    struct informer *informer = inform(&api, &journal);
    assert_false(informer_synced(informer));
    WAIT_FOR(&api, api.watch);
    expect(&journal, "added a 1<-\nadded b 1<-\n");
    assert_int_equal(journal.synced, 1);
    assert_true(informer_synced(informer));
    assert_string_equal(api.list_query, "labelSelector=app%3Dx%2Cy%21%3Dz");
    assert_string_equal(api.watch_query, "labelSelector=app%3Dx%2Cy%21%3Dz&watch=true&allowWatchBookmarks=true&resourceVersion=5");
    assert_string_equal(api.authorization, "Bearer let-me");
    /* clang-format off */
    static const char events[] = "{\"type\":\"ADDED\",\"object\":" OBJECT("c", "6", "1") "}\n"
                                 "{\"type\":\"MODIFIED\",\"object\":" OBJECT("a", "7", "2") "}\n"
                                 "{\"type\":\"DELETED\",\"object\":" OBJECT("b", "8", "9") "}\n"
                                 "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"20\"}}}\n";
    /* clang-format on */
    for (size_t i = 0; i < sizeof events - 1; i++) { /* byte by byte */
        assert_int_equal(http_write(api.watch, slice_make(events + i, 1)), 0);
        if (i % 3 == 0)
            assert_int_equal(loop_turn(api.loop, 0), 0);
    }
    WAIT_FOR(&api, informer_count(informer) == 2 && !informer_find(informer, "default", "b"));
    expect(&journal, "added c 1<-\nupdated a 2<1\ndeleted b 9<1\n");
    assert_string_equal(informer_find(informer, "default", "a")->metadata->resource_version, "7");
    /* the watch ends: it goes on from the bookmark */
    http_respond_end(api.watch);
    WAIT_FOR(&api, api.watches == 2 && api.watch);
    assert_int_equal(api.lists, 1);
    assert_non_null(strstr(api.watch_query, "resourceVersion=20"));
    size_t at = 0, count = 0;
    while (informer_next(informer, &at))
        count++;
    assert_int_equal(count, 2);
    informer_free(informer);
    end(&api);
}

UNIT_TEST(a_version_that_is_gone_leads_to_a_list_of_differences) {
    static const char gone_event[] = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}}\n";
    for (int in_stream = 0; in_stream <= 1; in_stream++) {
        struct api api;
        struct journal journal;
        start(&api);
        api.list = LIST("5", OBJECT("a", "3", "1") "," OBJECT("b", "4", "1") "," OBJECT("c", "5", "1"));
        struct informer *informer = inform(&api, &journal);
        WAIT_FOR(&api, api.watch);
        journal.text[0] = '\0';
        journal.len = 0;
        api.list = LIST("30", OBJECT("d", "29", "1") "," OBJECT("b", "4", "1") "," OBJECT("c", "28", "2"));
        if (in_stream) {
            http_write(api.watch, SLICE(gone_event));
        } else {
            api.watch_status = 410;
            http_abort(api.watch);
        }
        WAIT_FOR(&api, api.lists == 2 && api.watch && strstr(api.watch_query, "resourceVersion=30"));
        expect(&journal, "deleted a 1<1\nadded d 1<-\nupdated c 2<1\n");
        assert_int_equal(journal.synced, 1);
        informer_free(informer);
        end(&api);
    }
}

UNIT_TEST(an_informer_outlives_a_server_that_fails) {
    struct api api;
    struct journal journal;
    start(&api);
    api.list = "this is no list";
    struct informer *informer = inform(&api, &journal);
    WAIT_FOR(&api, api.lists == 1);
    api.list_status = 500;
    WAIT_FOR(&api, api.lists == 2);
    assert_false(informer_synced(informer));
    api.list = LIST("1", "7," OBJECT("a", "1", "1")); /* one that is no object is skipped */
    WAIT_FOR(&api, informer_synced(informer));
    expect(&journal, "added a 1<-\n");
    WAIT_FOR(&api, api.watch);
    http_server_free(TAKE(api.server)); /* and comes back */
    assert_int_equal(http_server_new(api.loop, api.listen_fd, &(struct http_server_options){.handler = on_request, .userdata = &api}, &api.server),
                     0);
    WAIT_FOR(&api, api.watches == 2);
    assert_int_equal(api.lists, 3);
    informer_free(informer);
    end(&api);
}

UNIT_TEST(an_informer_may_be_freed_in_its_callback) {
    struct api api;
    struct journal journal;
    start(&api);
    api.list = LIST("5", OBJECT("a", "3", "1") "," OBJECT("b", "4", "1"));
    struct informer *informer = inform(&api, &journal);
    journal.free_me = informer;
    WAIT_FOR(&api, !journal.free_me);
    expect(&journal, "added a 1<-\n");
    informer = inform(&api, &journal);
    WAIT_FOR(&api, api.watch);
    journal.free_me = informer;
    http_write(api.watch,
               SLICE("{\"type\":\"ADDED\",\"object\":" OBJECT("c", "6", "1") "}\n{\"type\":\"ADDED\",\"object\":" OBJECT("d", "7", "1") "}\n"));
    WAIT_FOR(&api, !journal.free_me);
    WAIT_FOR(&api, !api.watch);
    end(&api);
}

struct checked {
    bool done;
    int error;
    struct diag diag;
};
static void on_checked(void *userdata, const struct http_answer *answer) {
    struct checked *checked = userdata;
    checked->error = client_check(answer, &checked->diag);
    assert_int_equal(client_check(answer, NULL), checked->error);
    checked->done = true;
}

UNIT_TEST(answers_become_errors_with_words) {
    struct api api;
    start(&api);
    struct checked checked = {0};
    assert_int_equal(client_request(api.client, "POST", "/api/v1/namespaces/default/configmaps", NULL, SLICE("{}"), on_checked, &checked), 0);
    WAIT_FOR(&api, checked.done);
    assert_int_equal(checked.error, -EEXIST);
    assert_string_equal(checked.diag.message, "configmaps \"a\" already exists");
    assert_int_equal(checked.diag.causes_count, 1);
    checked = (struct checked){0};
    assert_int_equal(client_request(api.client, "GET", "/nothing", NULL, (struct slice){0}, on_checked, &checked), 0);
    WAIT_FOR(&api, checked.done);
    assert_int_equal(checked.error, -ENOENT);
    assert_string_equal(checked.diag.message, "the API server answered 404 Not Found");
    http_server_free(TAKE(api.server));
    close(api.listen_fd);
    api.listen_fd = -1;
    checked = (struct checked){0};
    assert_int_equal(client_request(api.client, "GET", "/x", NULL, (struct slice){0}, on_checked, &checked), 0);
    WAIT_FOR(&api, checked.done);
    assert_int_equal(checked.error, -ECONNREFUSED);
    end(&api);
}

UNIT_TEST(paths_are_those_of_the_api) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(10000);
    const struct kube_kind *deployment = kube_kind_find(SLICE("apps"), SLICE("v1"), SLICE("Deployment")),
                           *pod = kube_kind_find(SLICE(""), SLICE("v1"), SLICE("Pod")), *node = kube_kind_find(SLICE(""), SLICE("v1"), SLICE("Node"));
    assert_string_equal(client_path(arena, deployment, "x", "y", "scale"), "/apis/apps/v1/namespaces/x/deployments/y/scale");
    assert_string_equal(client_path(arena, pod, NULL, NULL, NULL), "/api/v1/pods");
    assert_string_equal(client_path(arena, node, "ignored", "n", "status"), "/api/v1/nodes/n/status");
}

UNIT_TEST(kubeconfigs_are_read_and_what_is_wrong_is_named) {
    struct loop *loop;
    char path[64];
    assert_int_equal(loop_new(&loop), 0);
    snprintf(path, sizeof path, "/tmp/tidemill-kubeconfig-%d", getpid());
#define HEAD "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n- name: here\n  context: {cluster: c, user: u}\n"
    static const struct {
        const char *text, *message;
    } cases[] = {
        {HEAD "clusters:\n- name: c\n  cluster: {server: 'http://127.0.0.1:1'}\nusers:\n- name: u\n  user: {token: t}\n", NULL},
        {"kind: Config\n", "the kubeconfig has no current-context"},
        {"current-context: other\n", "the kubeconfig has no context \"other\", which is its current-context"},
        {HEAD, "the kubeconfig has no cluster \"c\" with a server"},
        {HEAD "clusters:\n- name: c\n  cluster: {server: 'http://127.0.0.1:1'}\n", "the kubeconfig has no user \"u\""},
        {HEAD "clusters:\n- name: c\n  cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: '%%'}\nusers: [{name: u, user: {}}]\n",
         "certificate-authority-data is not base64"},
        {HEAD "clusters:\n- name: c\n  cluster: {server: 'https://127.0.0.1:1', certificate-authority: nowhere.pem}\nusers: [{name: u, user: {}}]\n",
         "cannot read /tmp/nowhere.pem, which the kubeconfig names: No such file or directory"},
        {HEAD "clusters:\n- name: c\n  cluster: {server: 'http://127.0.0.1:1'}\nusers: [{name: u, user: {exec: {command: aws}}}]\n",
         "credential plugins are not supported: use a client certificate or a token"},
        {HEAD "clusters:\n- name: c\n  cluster: {server: 'ftp://x'}\nusers: [{name: u, user: {}}]\n",
         "cannot use ftp://x as the address of an API server: Invalid argument"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct client *client = NULL;
        struct diag diag = DIAG_INIT;
        assert_int_equal(sys_write_file_fast(-100, path, slice_of(cases[i].text), 0600), 0);
        int r = client_new_kubeconfig(loop, path, &client, &diag);
        assert_string_equal(diag.message, cases[i].message ? cases[i].message : "");
        assert_int_equal(r < 0, cases[i].message != NULL);
        client_free(client);
    }
    unlink(path);
    loop_free(loop);
}

UNIT_MAIN(UNIT(an_informer_follows_a_list_and_its_watch), UNIT(a_version_that_is_gone_leads_to_a_list_of_differences),
          UNIT(an_informer_outlives_a_server_that_fails), UNIT(an_informer_may_be_freed_in_its_callback), UNIT(answers_become_errors_with_words),
          UNIT(paths_are_those_of_the_api), UNIT(kubeconfigs_are_read_and_what_is_wrong_is_named))
