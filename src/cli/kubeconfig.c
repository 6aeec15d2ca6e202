/* `tidemill kubeconfig`: the administrator's as it stands in the state folder; or one for somebody else, with a token that is made for the purpose.
 * The cluster's part (address, authority) is taken from the administrator's. `tidemill token …` lists and ends such tokens. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/settings_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "sys/sys.h"

#define ACCOUNT_HOURS 720

static int read_admin(const struct invocation *invocation, struct buffer *out, struct diag *diag) {
    struct settings settings;
    int r = settings_read_running(invocation, &settings, diag);
    if (r < 0)
        return r;
    const char *path = settings_path(&settings, settings.state, "kubeconfig");
    r = sys_read_file(AT_FDCWD, path, MIB, out);
    if (r < 0) {
        diag_set(diag, r, "cannot read %s: %s", path, strerror(-r));
        diag_hint(diag, r, r == -ENOENT ? "it is written when the platform starts: `tidemill up`" : "run this as root");
    }
    settings_deinit(&settings);
    return r;
}

/* --- a token --- */

struct person {
    const char *name, *namespace; /* namespace: of a service account; otherwise NULL */
    int64_t hours;                /* 0: no end */
};

static int ask_account(struct session *session, const struct person *person, const char **ret, struct diag *diag) {
    struct session_answer answer;
    char *path = arena_printf(session->arena, "/api/v1/namespaces/%s/serviceaccounts/%s/token", person->namespace, person->name);
    char *body = arena_printf(session->arena,
                              "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenRequest\",\"spec\":{\"expirationSeconds\":%" PRId64 "}}",
                              (person->hours ? person->hours : ACCOUNT_HOURS) * 3600);
    int r = path && body ? session_call(session, "POST", path, "application/json", slice_of(body), &answer, diag) : -ENOMEM;
    if (r == 0)
        *ret = tree_text_or(tree_path(answer.tree, "status.token"), NULL);
    return r == 0 && !*ret ? diag_set(diag, -EPROTO, "the answer holds no token") : r;
}

static int ask_user(struct session *session, const struct invocation *invocation, const struct person *person, const char **ret, struct diag *diag) {
    struct session_answer answer;
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(64 * KIB);
    buffer_append_text(&body, "{\"user\":");
    json_format_string(&body, slice_of(person->name));
    buffer_append_text(&body, ",\"groups\":[");
    const char *group;
    for (size_t i = 0; (group = invocation_item(invocation, "group", i)); i++) {
        buffer_append_text(&body, i ? "," : "");
        json_format_string(&body, slice_of(group));
    }
    int r = buffer_printf(&body, "],\"expiresSeconds\":%" PRId64 "}", person->hours * 3600);
    r = r ? r : session_call(session, "POST", "/tidemill/tokens", "application/json", buffer_slice(&body), &answer, diag);
    if (r == 0)
        *ret = tree_text_or(tree_find(answer.tree, "token"), NULL);
    return r == 0 && !*ret ? diag_set(diag, -EPROTO, "the answer holds no token") : r;
}

/* --- the file --- */

/* The value behind "key: " in the administrator's file, which core wrote. */
static struct slice value_of(struct slice text, const char *key) {
    ptrdiff_t at = slice_find(text, slice_of(key));
    struct slice rest = at < 0 ? (struct slice){NULL, 0} : slice_from(text, (size_t)at + strlen(key));
    return slice_trim(slice_cut(&rest, '\n'));
}

static void print_config(struct slice admin, const char *server, const char *user, const char *namespace, const char *token) {
    struct slice name = value_of(admin, "current-context: "), address = server ? slice_of(server) : value_of(admin, "server: "),
                 authority = value_of(admin, "certificate-authority-data: ");
    printf("apiVersion: v1\nkind: Config\nclusters:\n- name: %.*s\n  cluster:\n    server: %.*s\n    certificate-authority-data: %.*s\n",
           SLICE_ARG(name), SLICE_ARG(address), SLICE_ARG(authority));
    CLEANUP(buffer_deinit) struct buffer quoted = BUFFER_INIT(4 * KIB);
    json_format_string(&quoted, slice_of(user));
    printf("users:\n- name: %s\n  user:\n    token: %s\n", quoted.data, token);
    printf("contexts:\n- name: %.*s\n  context:\n    cluster: %.*s\n    user: %s\n    namespace: %s\ncurrent-context: %.*s\n", SLICE_ARG(name),
           SLICE_ARG(name), quoted.data, namespace ? namespace : "default", SLICE_ARG(name));
}

static int read_person(const struct invocation *invocation, struct arena *arena, struct person *ret, struct diag *diag) {
    const char *account = invocation_text(invocation, "service-account"), *slash = account ? strchr(account, '/') : NULL;
    ret->hours = invocation_given(invocation, "expires") ? invocation_number(invocation, "expires") : 0;
    if (ret->hours < 0 || ret->hours > 24 * 3650)
        return diag_set(diag, -EINVAL, "--expires takes a number of hours, at most ten years");
    if (account && invocation->arguments_count)
        return diag_set(diag, -EINVAL, "either USER or --service-account, not both");
    if (account && (!slash || !name_is_dns_label(slice_make(account, (size_t)(slash - account))) || !name_is_dns_subdomain(slice_of(slash + 1))))
        return diag_set(diag, -EINVAL, "--service-account takes NAMESPACE/NAME, not \"%s\"", account);
    ret->namespace = account ? arena_dup(arena, slice_make(account, (size_t)(slash - account))) : NULL;
    ret->name = account ? slash + 1 : invocation->arguments[0];
    return 0;
}

static int make(const struct invocation *invocation, struct slice admin, struct diag *diag) {
    struct session session;
    struct person person = {.name = NULL};
    const char *token = NULL;
    int r = session_open(invocation, &session, diag);
    if (r < 0)
        return r;
    r = read_person(invocation, session.arena, &person, diag);
    if (r == 0)
        r = person.namespace ? ask_account(&session, &person, &token, diag) : ask_user(&session, invocation, &person, &token, diag);
    if (r == 0)
        print_config(admin, invocation_text(invocation, "server"), person.name, person.namespace, token);
    session_close(&session);
    return r;
}

int run_kubeconfig(const struct invocation *invocation) {
    struct diag diag = DIAG_INIT;
    CLEANUP(buffer_deinit) struct buffer admin = BUFFER_INIT(MIB);
    int r = read_admin(invocation, &admin, &diag);
    bool other = invocation->arguments_count > 0 || invocation_given(invocation, "service-account");
    if (r == 0 && other)
        r = make(invocation, buffer_slice(&admin), &diag);
    else if (r == 0)
        fwrite(admin.data, 1, admin.len, stdout);
    return r < 0 ? terminal_error(&diag) : 0;
}

/* --- tokens there are --- */

static const char *groups_text(struct arena *arena, const struct tree *groups) {
    const char *text = "";
    for (size_t i = 0; i < tree_count(groups) && text; i++)
        text = arena_printf(arena, "%s%s%s", text, i ? "," : "", tree_text_or(tree_at(groups, i), ""));
    return text ? text : "";
}

static void print_tokens(struct session *session, const struct tree *list) {
    struct terminal_table table = {.columns = 4};
    terminal_table_row(&table, (const char *const[]){"NAME", "USER", "GROUPS", "EXPIRES"});
    for (size_t i = 0; i < tree_count(list); i++) {
        const struct tree *token = tree_at(list, i);
        int64_t expires_s = tree_int_or(tree_find(token, "expires"), 0);
        char when[TIMESTAMP_BYTES] = "never";
        if (expires_s)
            timestamp_format(expires_s * 1000000000, when);
        const char *cells[] = {tree_text_or(tree_find(token, "name"), ""), tree_text_or(tree_find(token, "user"), ""),
                               groups_text(session->arena, tree_find(token, "groups")), when};
        terminal_table_row(&table, cells);
    }
    terminal_table_print(&table);
}

int run_token_list(const struct invocation *invocation) {
    struct session session;
    struct session_answer answer;
    struct diag diag = DIAG_INIT;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = session_call(&session, "GET", "/tidemill/tokens", NULL, (struct slice){NULL, 0}, &answer, &diag), result = 0;
    if (r < 0)
        result = terminal_error(&diag);
    else if (session_wants_json(invocation))
        printf("%.*s", SLICE_ARG(answer.body));
    else
        print_tokens(&session, tree_find(answer.tree, "tokens"));
    session_close(&session);
    return result;
}

int run_token_revoke(const struct invocation *invocation) {
    struct session session;
    struct session_answer answer;
    struct diag diag = DIAG_INIT;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    char *path = arena_printf(session.arena, "/tidemill/tokens/%s", invocation->arguments[0]);
    int r = path ? session_call(&session, "DELETE", path, NULL, (struct slice){NULL, 0}, &answer, &diag) : -ENOMEM;
    int result = r < 0 ? terminal_error(&diag) : 0;
    session_close(&session);
    return result;
}
