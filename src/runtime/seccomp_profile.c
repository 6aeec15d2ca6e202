/* A seccomp profile that somebody wrote (securityContext.seccompProfile.type: Localhost), in the JSON of Docker, containerd and the OCI runtime
 * specification, compiled for this machine's native architecture: calls of other architectures answer ENOSYS.
 *
 * Entries apply as their `includes` and `excludes` say (capabilities, architectures, kernel versions); names that this libseccomp does not know are
 * skipped, as everywhere. Several conditions on one argument of one entry are alternatives, on different arguments they come together. Notification
 * is refused: nobody would answer. `flags` are those of loading a filter, which crun does; they are not needed for what a filter decides. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "codec/codec.h"
#include "runtime/bundle.h"
#include "runtime/seccomp.h"
#include "runtime/seccomp_priv.h"

#define NAMES_MAX 20000
#define ARGUMENTS_MAX 6

struct compiler {
    scmp_filter_ctx context;
    uint64_t capabilities;
    uint32_t default_action;
    size_t names;
    struct diag *diag;
};

static bool read_action(const struct tree *from, int64_t errno_value, uint32_t *ret) {
    static const struct {
        const char *name;
        uint32_t action;
    } actions[] = {{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},      {"SCMP_ACT_LOG", SCMP_ACT_LOG},
                   {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD}, {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
                   {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},        {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS}};
    const char *name = tree_text_or(from, "");
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(name, actions[i].name) == 0)
            return *ret = actions[i].action, true;
    if (strcmp(name, "SCMP_ACT_ERRNO") == 0)
        return *ret = SCMP_ACT_ERRNO((uint32_t)errno_value & 0xffff), true;
    if (strcmp(name, "SCMP_ACT_TRACE") == 0)
        return *ret = SCMP_ACT_TRACE((uint32_t)errno_value & 0xffff), true;
    return false;
}

/* --- does an entry apply? --- */

static bool has_text(const struct tree *list, const char *text) {
    for (size_t i = 0; i < tree_count(list); i++)
        if (strcmp(tree_text_or(tree_at(list, i), ""), text) == 0)
            return true;
    return false;
}

static const char *native_name(void) {
#ifdef __aarch64__
    return "arm64";
#else
    return "amd64";
#endif
}

/* The kernel is at least "5.11". */
static bool kernel_is(const char *version) {
    struct utsname name;
    unsigned wanted[2] = {0}, is[2] = {0};
    struct slice rest = slice_of(version), own;
    if (uname(&name) < 0)
        return false;
    own = slice_of(name.release);
    for (size_t i = 0; i < 2; i++) {
        struct slice a = slice_cut(&rest, '.'), b = slice_cut(&own, '.');
        for (size_t k = 0; k < a.len && k < 6 && a.data[k] >= '0' && a.data[k] <= '9'; k++)
            wanted[i] = wanted[i] * 10 + (unsigned)(a.data[k] - '0');
        for (size_t k = 0; k < b.len && k < 6 && b.data[k] >= '0' && b.data[k] <= '9'; k++)
            is[i] = is[i] * 10 + (unsigned)(b.data[k] - '0');
    }
    return is[0] != wanted[0] ? is[0] > wanted[0] : is[1] >= wanted[1];
}

static bool applies(const struct compiler *compiler, const struct tree *entry) {
    const struct tree *includes = tree_find(entry, "includes"), *excludes = tree_find(entry, "excludes");
    const struct tree *caps = tree_find(includes, "caps"), *not_caps = tree_find(excludes, "caps");
    const char *since = tree_text_or(tree_find(includes, "minKernel"), NULL), *until = tree_text_or(tree_find(excludes, "minKernel"), NULL);
    for (size_t i = 0; i < tree_count(caps); i++)
        if (!(compiler->capabilities & bundle_capability(slice_of(tree_text_or(tree_at(caps, i), "")))))
            return false;
    for (size_t i = 0; i < tree_count(not_caps); i++)
        if (compiler->capabilities & bundle_capability(slice_of(tree_text_or(tree_at(not_caps, i), ""))))
            return false;
    if (tree_count(tree_find(includes, "arches")) && !has_text(tree_find(includes, "arches"), native_name()))
        return false;
    return !has_text(tree_find(excludes, "arches"), native_name()) && (!since || kernel_is(since)) && !(until && kernel_is(until));
}

/* --- rules --- */

static bool read_argument(const struct tree *from, struct scmp_arg_cmp *ret) {
    static const struct {
        const char *name;
        enum scmp_compare op;
    } ops[] = {{"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_LE", SCMP_CMP_LE},
               {"SCMP_CMP_EQ", SCMP_CMP_EQ}, {"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT}};
    int64_t index = tree_int_or(tree_find(from, "index"), -1);
    uint64_t value = (uint64_t)tree_int_or(tree_find(from, "value"), 0), second = (uint64_t)tree_int_or(tree_find(from, "valueTwo"), 0);
    const char *op = tree_text_or(tree_find(from, "op"), "");
    if (index < 0 || index >= ARGUMENTS_MAX)
        return false;
    if (strcmp(op, "SCMP_CMP_MASKED_EQ") == 0)
        return *ret = (struct scmp_arg_cmp){(unsigned)index, SCMP_CMP_MASKED_EQ, value, second}, true;
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (strcmp(op, ops[i].name) == 0)
            return *ret = (struct scmp_arg_cmp){(unsigned)index, ops[i].op, value, 0}, true;
    return false;
}

static int add_rule(const struct compiler *compiler, uint32_t action, int number, const struct scmp_arg_cmp *arguments, unsigned count) {
    int r = seccomp_rule_add_array(compiler->context, action, number, count, arguments);
    return r == -EEXIST ? 0 : r;
}

static int add_call(const struct compiler *compiler, const struct tree *entry, uint32_t action, const char *name) {
    struct scmp_arg_cmp arguments[ARGUMENTS_MAX];
    const struct tree *list = tree_find(entry, "args");
    size_t count = tree_count(list);
    int number = seccomp_syscall_resolve_name(name), r = 0;
    bool alternatives = false, used[ARGUMENTS_MAX] = {false};
    if (number == __NR_SCMP_ERROR)
        return 0;
    if (count > ARGUMENTS_MAX)
        return diag_set(compiler->diag, -EINVAL, "%s has more than %d conditions", name, ARGUMENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!read_argument(tree_at(list, i), &arguments[i]))
            return diag_set(compiler->diag, -EINVAL, "a condition on %s has an unknown index or op", name);
        alternatives = alternatives || used[arguments[i].arg];
        used[arguments[i].arg] = true;
    }
    if (!alternatives)
        return add_rule(compiler, action, number, arguments, (unsigned)count);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = add_rule(compiler, action, number, &arguments[i], 1);
    return r;
}

static int add_entry(struct compiler *compiler, const struct tree *entry, int64_t default_errno) {
    const struct tree *names = tree_find(entry, "names");
    const char *single = tree_text_or(tree_find(entry, "name"), NULL);
    uint32_t action;
    if (!read_action(tree_find(entry, "action"), tree_int_or(tree_find(entry, "errnoRet"), default_errno), &action))
        return diag_set(compiler->diag, -EINVAL, "\"%.64s\" is no action that can be enforced", tree_text_or(tree_find(entry, "action"), ""));
    if (action == compiler->default_action || !applies(compiler, entry))
        return 0;
    int r = single ? add_call(compiler, entry, action, single) : 0;
    for (size_t i = 0; r == 0 && i < tree_count(names); i++) {
        if (++compiler->names > NAMES_MAX)
            return diag_set(compiler->diag, -E2BIG, "more than %d system calls", NAMES_MAX);
        r = add_call(compiler, entry, action, tree_text_or(tree_at(names, i), ""));
    }
    return r;
}

static int compile(struct compiler *compiler, const struct tree *profile, struct buffer *out) {
    const struct tree *list = tree_find(profile, "syscalls");
    int64_t default_errno = tree_int_or(tree_find(profile, "defaultErrnoRet"), EPERM);
    if (!read_action(tree_find(profile, "defaultAction"), default_errno, &compiler->default_action))
        return diag_set(compiler->diag, -EINVAL, "defaultAction is missing or unknown");
    compiler->context = seccomp_init(compiler->default_action);
    if (!compiler->context)
        return -ENOMEM;
    int r = seccomp_attr_set(compiler->context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    for (size_t i = 0; r == 0 && i < tree_count(list); i++)
        r = add_entry(compiler, tree_at(list, i), EPERM);
    return r < 0 ? r : seccomp_export(compiler->context, out);
}

int seccomp_profile_program(struct slice json, uint64_t capabilities, struct buffer *out, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(32 * SECCOMP_PROFILE_BYTES_MAX);
    struct compiler compiler = {.capabilities = capabilities, .diag = diag};
    struct tree *profile = NULL;
    int r = arena ? json_parse(arena, json, &(struct json_options){.allow_duplicates = true}, &profile, diag) : -ENOMEM;
    if (r == 0)
        r = compile(&compiler, profile, out);
    if (compiler.context)
        seccomp_release(compiler.context);
    return r;
}
