/* `tidemill up`: checks what the machine offers, prepares folders, and becomes the supervisor. A second process, forked before anything starts, waits
 * until the API is ready and tells the person where things are; with --detach the two change places, so that the command returns when the platform is
 * up. */
#include "cli/functions_priv.h"
#include "cli/roles_priv.h"
#include "cli/session_priv.h"
#include "cli/settings_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "supervisor/supervisor.h"
#include "sys/sys.h"

#define READY_TIMEOUT_MS 60000
#define LOOK_TIMEOUT_MS 2000       /* the socket is the supervisor's and takes connections before core answers them, or when core never starts */
#define NODE_READY_TIMEOUT_MS 5000 /* after the API */

enum readiness { NOTHING_READY, API_READY, ALL_READY };

struct account {
    uid_t uid;
    gid_t gid;
};

/* What `up` works out before it starts anything. */
struct plan {
    const struct settings *settings;
    struct account core, gateway;
    const char *executable;
    const char *const *argv, *const *check_argv, *folder; /* to become again */
    int lock; /* on the state folder: the supervisor's, and nobody else's when it becomes another program */
    struct supervisor_socket sockets[SUPERVISOR_SOCKETS_MAX];
    size_t sockets_count;
    struct supervisor_role roles[SUPERVISOR_ROLES_MAX];
    size_t roles_count;
};

static int find_account(const char *flag, const char *name, struct account *ret, struct diag *diag) {
    const struct passwd *entry = getpwnam(name);
    if (!entry) {
        diag_set(diag, -ENOENT, "the user \"%s\" does not exist", name);
        return diag_hint(diag, -ENOENT, "create it with `useradd --system --shell /usr/sbin/nologin %s`, or name another with --%s", name, flag);
    }
    *ret = (struct account){entry->pw_uid, entry->pw_gid};
    return 0;
}

static bool is_program(const char *name) {
    const char *path = getenv("PATH");
    struct slice rest = slice_of(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
    while (rest.data) {
        char candidate[PATH_MAX];
        struct slice folder = slice_cut(&rest, ':');
        snprintf(candidate, sizeof candidate, "%.*s/%s", SLICE_ARG(folder), name);
        if (access(candidate, X_OK) == 0)
            return true;
    }
    return false;
}

static int check_overlayfs(struct diag *diag) {
    if (mounts_kernel_has("overlay"))
        return 0;
    diag_set(diag, -ENODEV, "this kernel has no overlayfs, which containers need");
    return diag_hint(diag, -ENODEV, "load it with `modprobe overlay`, or use a kernel with CONFIG_OVERLAY_FS");
}

static int check_machine(struct diag *diag) {
    static const struct {
        const char *program, *package;
    } needed[] = {{"crun", "crun"}, {"conmon", "conmon"}, {"git", "git"}, {"buildah", "buildah"}};
    if (geteuid() != 0) {
        diag_set(diag, -EPERM, "`tidemill up` must run as root: it makes containers, networks and control groups");
        return diag_hint(diag, -EPERM, "try `sudo tidemill up`");
    }
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!is_program(needed[i].program)) {
            diag_set(diag, -ENOENT, "the program %s is missing", needed[i].program);
            return diag_hint(diag, -ENOENT, "install it with `apt-get install %s`", needed[i].package);
        }
    return check_overlayfs(diag);
}

static int make_folder(const char *path, mode_t mode, const struct account *owner, struct diag *diag) {
    int r = sys_mkdirs(path, 0755);
    if (r == 0 && (chmod(path, mode) < 0 || chown(path, owner->uid, owner->gid) < 0))
        r = -errno;
    return r < 0 ? diag_set(diag, r, "cannot prepare %s: %s", path, strerror(-r)) : 0;
}

static int make_folders(const struct plan *plan, struct diag *diag) {
    static const struct account root = {0, 0};
    const struct settings *settings = plan->settings;
    const struct {
        const char *base, *name;
        mode_t mode;
        const struct account *owner;
    } folders[] = {
        {settings->state, ".", 0755, &root},           {settings->state, "core", 0700, &plan->core},
        {settings->state, "pki", 0700, &plan->core},   {settings->state, "registry", 0755, &plan->core},
        {settings->state, "forge", 0700, &plan->core}, {settings->run, ".", 0755, &root},
        {settings->run, "job", 0755, &root},
    };
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        int r = make_folder(settings_path(settings, folders[i].base, folders[i].name), folders[i].mode, folders[i].owner, diag);
        if (r < 0)
            return r;
    }
    /* core writes the administrator's kubeconfig where it may; this is where people look for it. */
    const char *link_path = settings_path(settings, settings->state, "kubeconfig");
    if (symlink("pki/kubeconfig", link_path) < 0 && errno != EEXIST)
        return diag_set(diag, -errno, "cannot make %s: %s", link_path, strerror(errno));
    return 0;
}

static void add_socket(struct plan *plan, const char *name, const char *address, mode_t mode, const struct account *owner) {
    ASSERT(plan->sockets_count < SUPERVISOR_SOCKETS_MAX);
    plan->sockets[plan->sockets_count++] = (struct supervisor_socket){name, address, mode, owner->uid, owner->gid};
}

static const char *unix_address(const struct settings *settings, const char *name) {
    return arena_printf(settings->arena, "unix:%s/%s", settings->run, name);
}

static void plan_sockets(struct plan *plan) {
    static const struct account root = {0, 0};
    const struct settings *settings = plan->settings;
    add_socket(plan, "api", settings->api_listen, 0, &root);
    if (settings_api_pods_address(settings))
        add_socket(plan, "api-pods", settings_api_pods_address(settings), 0, &root);
    add_socket(plan, "api-unix", unix_address(settings, "api.sock"), 0666, &root); /* who one is follows from the peer's uid */
    add_socket(plan, "registry", settings->registry_listen, 0, &root);
    add_socket(plan, "registry-pods",
               arena_printf(settings->arena, "%s:%s", settings_bridge_address(settings), settings_port(settings->registry_listen)), 0, &root);
    add_socket(plan, "git", settings->git_listen, 0, &root);
    add_socket(plan, "job", unix_address(settings, "job/job.sock"), 0666, &root); /* every request carries a job's token */
    add_socket(plan, "node", unix_address(settings, "node.sock"), 0600, &plan->core);
    add_socket(plan, "http", settings->http_listen, 0, &root);
    add_socket(plan, "gateway", unix_address(settings, "gateway.sock"), 0660, &plan->core);
    add_socket(plan, "monitor", settings->monitor_listen, 0, &root);
}

static struct supervisor_role *add_role(struct plan *plan, const char *name, const char *const *sockets, const struct account *account,
                                        int oom_score_adj) {
    ASSERT(plan->roles_count < SUPERVISOR_ROLES_MAX);
    struct supervisor_role role = {.name = name, .argv = settings_argv(plan->settings, plan->executable, name), .socket_names = sockets};
    role.oom_score_adj = oom_score_adj;
    if (account) {
        role.drop_privileges = true;
        role.uid = account->uid;
        role.gid = account->gid;
    }
    plan->roles[plan->roles_count] = role;
    return &plan->roles[plan->roles_count++];
}

static void plan_roles(struct plan *plan) {
    static const char *const core[] = {"api", "api-pods", "api-unix", "registry", "registry-pods", "git", "job", NULL};
    static const char *const node[] = {"node", NULL};
    static const char *const gateway[] = {"http", "gateway", NULL};
    static const char *const monitor[] = {"monitor", NULL};
    /* Whoever goes first when memory is out is started again and misses some metrics; pods go before any of them. */
    add_role(plan, "core", core, &plan->core, -900);
    add_role(plan, "node", node, NULL, -950);
    add_role(plan, "gateway", gateway, &plan->gateway, -900)->overlaps = true;
    add_role(plan, "monitor", monitor, &plan->core, -500);
}

/* Roles that are not root must get at their folders; /root, for one, is closed to them. */
static int check_open(const struct settings *settings, const char *flag, const char *path, struct diag *diag) {
    const char *parent = arena_dup(settings->arena, slice_make(path, (size_t)(strrchr(path, '/') - path))); /* the folder itself is ours to open */
    const char *closed = parent ? executable_closed_folder(settings->arena, parent) : NULL;
    if (!closed)
        return 0;
    diag_set(diag, -EACCES, "--%s %s: other users cannot enter %s, and most of the platform does not run as root", flag, path, closed);
    return diag_hint(diag, -EACCES, "choose a folder elsewhere, or open this one with `chmod o+x %s`", closed);
}

static int make_plan(struct plan *plan, struct diag *diag) {
    int r = check_machine(diag);
    if (r == 0)
        r = find_account("user", plan->settings->user, &plan->core, diag);
    if (r == 0)
        r = find_account("gateway-user", plan->settings->gateway_user, &plan->gateway, diag);
    if (r == 0)
        r = check_open(plan->settings, "state", plan->settings->state, diag);
    if (r == 0)
        r = check_open(plan->settings, "run", plan->settings->run, diag);
    if (r == 0)
        r = make_folders(plan, diag);
    plan->executable = r == 0 ? executable_for_roles(plan->settings, diag) : NULL;
    if (!plan->executable)
        return r < 0 ? r : -EACCES;
    char folder[PATH_MAX];
    plan->folder = arena_strdup(plan->settings->arena, getcwd(folder, sizeof folder) ? folder : "/");
    plan->argv = reload_command(plan->settings->arena, NULL);
    plan->check_argv = reload_command(plan->settings->arena, "--check");
    if (!plan->folder || !plan->argv || !plan->check_argv)
        return diag_set(diag, -ENOMEM, "cannot tell how this program was started: is /proc mounted?");
    plan_sockets(plan);
    plan_roles(plan);
    return 0;
}

static bool answers(struct session *session, const char *path, struct session_answer *ret) {
    struct diag diag = DIAG_INIT;
    return session_call(session, "GET", path, NULL, (struct slice){NULL, 0}, ret, &diag) == 0;
}

static bool is_node_ready(const struct tree *node) {
    const struct tree *conditions = tree_path(node, "status.conditions");
    for (size_t i = 0; i < tree_count(conditions); i++)
        if (strcmp(tree_text_or(tree_find(tree_at(conditions, i), "type"), ""), "Ready") == 0)
            return strcmp(tree_text_or(tree_find(tree_at(conditions, i), "status"), ""), "True") == 0;
    return false;
}

static enum readiness look(const struct settings *settings) {
    struct session session;
    struct session_answer answer;
    struct diag diag = DIAG_INIT;
    enum readiness found = NOTHING_READY;
    char path[300];
    snprintf(path, sizeof path, "/api/v1/nodes/%s", settings->node_name);
    if (session_open_run(settings->run, &session, &diag) < 0)
        return found;
    session.timeout_ms = LOOK_TIMEOUT_MS;
    if (answers(&session, "/readyz", &answer))
        found = answers(&session, path, &answer) && is_node_ready(answer.tree) && session_node_answers(settings->run) ? ALL_READY : API_READY;
    session_close(&session);
    return found;
}

static void print_banner(const struct settings *settings) {
    const char *bold = terminal_color(stdout, TERMINAL_BOLD), *plain = terminal_color(stdout, TERMINAL_PLAIN);
    printf("%stidemill %s is up.%s\n\n", bold, TIDEMILL_VERSION, plain);
    settings_print_addresses(settings);
    printf("Next: `tidemill app create NAME`; `tidemill status` shows what runs; `tidemill down` stops it.\n");
    fflush(stdout);
}

int wait_until_ready(const struct settings *settings, pid_t pid) {
    int64_t now_ns = sys_monotonic_ns(), deadline_ns = now_ns + READY_TIMEOUT_MS * INT64_C(1000000), node_deadline_ns = 0;
    for (; now_ns < deadline_ns; now_ns = sys_monotonic_ns()) {
        int status;
        if (pid && waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        enum readiness found = look(settings);
        if (found == API_READY && !node_deadline_ns)
            node_deadline_ns = now_ns + NODE_READY_TIMEOUT_MS * INT64_C(1000000);
        bool late = node_deadline_ns && now_ns > node_deadline_ns;
        if (found == ALL_READY || late) {
            print_banner(settings);
            if (late)
                fprintf(stderr, "%swarning:%s the node does not run pods yet; the platform's log tells why\n",
                        terminal_color(stderr, TERMINAL_YELLOW), terminal_color(stderr, TERMINAL_PLAIN));
            return 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return terminal_error_text("the platform did not become ready within %d s; its log tells why", READY_TIMEOUT_MS / 1000);
}

/* From the root folder: git and others look at where they are, and the roles may not see the folder this was typed in. */
static int supervise(struct plan *plan) {
    struct diag diag = DIAG_INIT;
    if (chdir("/") < 0)
        return terminal_error_text("cannot change to the folder /: %s", strerror(errno));
    const struct supervisor_options options = {.run_dir = plan->settings->run,
                                               .sockets = plan->sockets,
                                               .sockets_count = plan->sockets_count,
                                               .roles = plan->roles,
                                               .roles_count = plan->roles_count,
                                               .reload_argv = plan->argv,
                                               .check_argv = plan->check_argv,
                                               .reload_dir = plan->folder};
    log_setup("supervisor", LOG_INFO);
    int r = supervisor_run(&options, &diag);
    return r < 0 ? terminal_error(&diag) : 0;
}

/* What this start wrote into the log, its end if that is long: why it failed. */
static void print_log_from(const char *path, off_t start) {
    char text[4096];
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (start < 0 || end <= start)
        return;
    ssize_t count = pread(fd, text, sizeof text, MAX(start, end - (off_t)sizeof text));
    if (count > 0)
        fwrite(text, 1, (size_t)count, stderr);
}

/* The supervisor in the background: a session of its own, its log in the run folder. Startup errors still reach the terminal. */
static int detach(struct plan *plan) {
    const char *log_path = settings_path(plan->settings, plan->settings->run, "tidemill.log");
    CLEANUP(fd_closep) int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (log_fd < 0)
        return terminal_error_text("cannot open %s: %s", log_path, strerror(errno));
    off_t log_start = lseek(log_fd, 0, SEEK_END);
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return terminal_error_text("cannot start another process: %s", strerror(errno));
    if (pid == 0) {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        setsid();
        dup2(null_fd, STDIN_FILENO);
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
        return supervise(plan);
    }
    close(TAKE_FD(plan->lock));
    int r = wait_until_ready(plan->settings, pid);
    if (r) {
        print_log_from(log_path, log_start);
        fprintf(stderr, "  log: %s\n", log_path);
    }
    return r;
}

static int stay(struct plan *plan) {
    fflush(NULL);
    if (supervisor_is_reloaded())
        return supervise(plan);
    pid_t supervisor = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != supervisor)
            _exit(0);
        close(TAKE_FD(plan->lock));
        _exit(wait_until_ready(plan->settings, 0));
    }
    return supervise(plan);
}

static bool has_port(const struct settings *settings, const char *address) {
    const char *const ours[] = {settings->api_listen, settings->http_listen, settings->registry_listen, settings->git_listen,
                                settings->monitor_listen};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (strcmp(settings_port(ours[i]), settings_port(address)) == 0)
            return true;
    return false;
}

/* Ports that what runs now has are ours to have next as well. */
static int check_ports(const struct invocation *invocation, const struct plan *plan, struct diag *diag) {
    struct settings running;
    int r = settings_read_running(invocation, &running, diag);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < plan->sockets_count; i++) {
        const struct supervisor_socket *socket = &plan->sockets[i];
        struct sys_address address;
        if (strncmp(socket->address, "unix:", 5) == 0 || sys_address_parse(socket->address, &address) < 0)
            continue;
        CLEANUP(fd_closep) int fd = sys_listen(&address, 1, 0);
        if (fd < 0 && !(fd == -EADDRINUSE && has_port(&running, socket->address)))
            r = diag_set(diag, fd, "cannot listen on %s for %s: %s", socket->address, socket->name, strerror(-fd));
    }
    settings_deinit(&running);
    return r;
}

int run_up(const struct invocation *invocation) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    if (settings_read(invocation, &settings, &diag) < 0)
        return terminal_error(&diag);
    struct plan plan = {.settings = &settings, .lock = -1};
    int r = make_plan(&plan, &diag);
    if (invocation_bool(invocation, "check")) {
        r = r == 0 ? check_ports(invocation, &plan, &diag) : r;
        settings_deinit(&settings);
        return r < 0 ? terminal_error(&diag) : 0;
    }
    if (r == 0) /* taken before the fork: so a running instance is told on the terminal, and not taken for ours */
        r = plan.lock = supervisor_lock(settings_path(&settings, settings.state, "lock"), &diag);
    if (r >= 0)
        r = settings_write_running(&settings, &diag);
    r = r < 0 ? terminal_error(&diag) : invocation_bool(invocation, "detach") && !supervisor_is_reloaded() ? detach(&plan) : stay(&plan);
    fd_closep(&plan.lock);
    settings_deinit(&settings);
    return r;
}
