/* Nobody gives away what he has not: the rules a role would hold are compared with those of its writer.
 *
 * A rule is a product (verbs × groups × resources × names, or verbs × paths). It is taken apart into its smallest parts, and each part must be within
 * one of the writer's rules. What is missing is told as upstream tells it: parts that differ in the verb alone are put together again, sorted.
 * The product is bounded by PARTS_MAX: a role that is larger can only be written by one who may write any. */
#include "api/rbac_priv.h"

#define PARTS_MAX 20000

struct part {
    const char *verb, *group, *resource, *name, *path; /* name NULL: any; path NULL: a resource */
};

struct held {
    VECTOR(const struct kube_policy_rule *) rules;
    bool failed;
};

static bool collect(void *userdata, const struct rbac_grant *grant, const struct kube_policy_rule *rule) {
    (void)grant;
    struct held *held = userdata;
    if (rule && VECTOR_PUSH(&held->rules, rule))
        held->failed = true;
    return !held->failed;
}

/* "*" covers all; a resource itself; and every subresource of that name by "*" + "/scale". */
static bool covers_resource(const struct kube_string_list *list, const char *resource) {
    const char *slash = strchr(resource, '/');
    for (size_t i = 0; i < list->count; i++)
        if (slash && !strncmp(list->items[i], "*/", 2) && !strcmp(list->items[i] + 2, slash + 1))
            return true;
    return rbac_list_covers(list, resource);
}

static bool covers_path(const struct kube_string_list *list, const char *path) {
    for (size_t i = 0; i < list->count; i++) {
        struct slice pattern = slice_of(list->items[i]);
        if (slice_is(pattern, path) || (slice_ends(pattern, SLICE("*")) && slice_starts(slice_of(path), slice_head(pattern, pattern.len - 1))))
            return true;
    }
    return false;
}

static bool covers_name(const struct kube_string_list *list, const char *name) {
    if (!list->count)
        return true;
    for (size_t i = 0; name && i < list->count; i++)
        if (!strcmp(list->items[i], name))
            return true;
    return false;
}

static bool covers_part(const struct held *held, const struct part *part) {
    for (size_t i = 0; i < held->rules.count; i++) {
        const struct kube_policy_rule *rule = held->rules.items[i];
        if (!rbac_list_covers(&rule->verbs, part->verb))
            continue;
        if (part->path ? covers_path(&rule->non_resource_urls, part->path)
                       : rbac_list_covers(&rule->api_groups, part->group) && covers_resource(&rule->resources, part->resource) &&
                             covers_name(&rule->resource_names, part->name))
            return true;
    }
    return false;
}

/* --- what is missing --- */

struct missing {
    VECTOR(struct part) parts;
    size_t parts_seen;
    bool failed;
};

static void check_part(const struct held *held, const struct part *part, struct missing *missing) {
    if (++missing->parts_seen > PARTS_MAX || (!covers_part(held, part) && VECTOR_PUSH(&missing->parts, *part)))
        missing->failed = true;
}

/* In the order of the written rule, the verb last, so that parts that differ in it alone follow one another. */
static void check_resources(const struct held *held, const struct kube_policy_rule *rule, struct missing *missing) {
    size_t names = MAX(rule->resource_names.count, 1);
    for (size_t g = 0; g < rule->api_groups.count; g++)
        for (size_t r = 0; r < rule->resources.count; r++)
            for (size_t at = 0; at < names * rule->verbs.count && !missing->failed; at++) {
                const struct part part = {.verb = rule->verbs.items[at % rule->verbs.count],
                                          .group = rule->api_groups.items[g],
                                          .resource = rule->resources.items[r],
                                          .name = rule->resource_names.count ? rule->resource_names.items[at / rule->verbs.count] : NULL};
                check_part(held, &part, missing);
            }
}

static void check_paths(const struct held *held, const struct kube_policy_rule *rule, struct missing *missing) {
    for (size_t p = 0; p < rule->non_resource_urls.count; p++)
        for (size_t v = 0; v < rule->verbs.count && !missing->failed; v++) {
            const struct part part = {.verb = rule->verbs.items[v], .path = rule->non_resource_urls.items[p]};
            check_part(held, &part, missing);
        }
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_but_verb(const struct part *a, const struct part *b) {
    return same_text(a->group, b->group) && same_text(a->resource, b->resource) && same_text(a->name, b->name) && same_text(a->path, b->path);
}

static void put_line(const struct missing *missing, size_t first, struct buffer *out) {
    const struct part *part = &missing->parts.items[first];
    if (part->path)
        buffer_printf(out, "{NonResourceURLs:[\"%s\"], Verbs:[", part->path);
    else
        buffer_printf(out, "{APIGroups:[\"%s\"], Resources:[\"%s\"], ", part->group, part->resource);
    if (!part->path && part->name)
        buffer_printf(out, "ResourceNames:[\"%s\"], ", part->name);
    buffer_append_text(out, part->path ? "" : "Verbs:[");
    for (size_t i = first; i < missing->parts.count; i++)
        if (same_but_verb(part, &missing->parts.items[i]))
            buffer_printf(out, "%s\"%s\"", i == first ? "" : " ", missing->parts.items[i].verb);
    buffer_append_text(out, "]}");
}

static int compare_lines(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

#define LINES_MAX 64 /* a message that names more helps nobody */

/* Parts may be many, lines are few: each is compared with the first parts of the lines so far. */
static bool has_line(const struct missing *missing, const size_t *firsts, size_t count, size_t part) {
    for (size_t i = 0; i < count; i++)
        if (same_but_verb(&missing->parts.items[firsts[i]], &missing->parts.items[part]))
            return true;
    return false;
}

static void put_sorted(const struct missing *missing, struct buffer *out) {
    char *lines[LINES_MAX];
    size_t firsts[LINES_MAX], count = 0;
    for (size_t i = 0; i < missing->parts.count && count < LINES_MAX; i++) {
        CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(4 * KIB);
        if (has_line(missing, firsts, count, i))
            continue;
        put_line(missing, i, &line);
        char *text = buffer_take(&line);
        if (!text) /* too long to be told */
            continue;
        firsts[count] = i;
        lines[count++] = text;
    }
    qsort(lines, count, sizeof *lines, compare_lines);
    for (size_t i = 0; i < count; i++) {
        buffer_printf(out, "%s%s", i ? "\n" : "", lines[i]);
        free(lines[i]);
    }
}

bool rbac_covers(const struct rbac *rbac, const struct api_user *user, const char *namespace, const struct kube_policy_rule_array *wanted,
                 struct buffer *ret_missing) {
    struct held held = {.failed = false};
    struct missing missing = {.failed = false};
    rbac_visit(rbac, user, namespace, collect, &held);
    for (size_t i = 0; i < wanted->count && !held.failed; i++) {
        check_resources(&held, &wanted->items[i], &missing);
        check_paths(&held, &wanted->items[i], &missing);
    }
    bool covered = !held.failed && !missing.failed && !missing.parts.count;
    if (!covered)
        put_sorted(&missing, ret_missing);
    VECTOR_DEINIT(&held.rules);
    VECTOR_DEINIT(&missing.parts);
    return covered;
}
