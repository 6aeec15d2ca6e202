#include "registry/sites.h"

#include "codec/codec.h"

static int wrong(struct diag *diag, const char *file, const struct tree *node, const char *registry, const char *what) {
    diag_at(diag, file, (int)node->line, (int)node->column);
    return diag_set(diag, -EINVAL, "%s: %s, found %s", registry, what, tree_type_name(node));
}

static int read_mirrors(const struct tree *list, const char *file, struct site *site, struct diag *diag) {
    if (list->type != TREE_LIST)
        return wrong(diag, file, list, site->registry, "mirrors must be a list of URLs");
    if (tree_count(list) > SITE_MIRRORS_MAX) {
        diag_at(diag, file, (int)list->line, (int)list->column);
        return diag_set(diag, -EINVAL, "%s: %zu mirrors; at most %d are asked", site->registry, tree_count(list), SITE_MIRRORS_MAX);
    }
    for (size_t i = 0; i < tree_count(list); i++) {
        const struct tree *item = tree_at(list, i);
        const char *url = tree_text_or(item, "");
        if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)
            return wrong(diag, file, item, site->registry, "a mirror must be a URL: https://HOST[/PATH] or http://HOST[/PATH]");
        site->mirrors[site->mirrors_count++] = url;
    }
    return 0;
}

static int read_site(const struct tree_entry *entry, const char *file, struct site *site, struct diag *diag) {
    *site = (struct site){.registry = entry->key.data};
    if (entry->value->type != TREE_MAP)
        return wrong(diag, file, entry->value, site->registry, "expected mirrors, ca or insecure");
    for (size_t i = 0; i < entry->value->children->count; i++) {
        const struct tree_entry *field = &entry->value->children->items[i];
        int r = 0;
        if (slice_is(field->key, "mirrors"))
            r = read_mirrors(field->value, file, site, diag);
        else if (slice_is(field->key, "ca") && field->value->type == TREE_STRING)
            site->ca = field->value->string.data;
        else if (slice_is(field->key, "insecure") && field->value->type == TREE_BOOL)
            site->insecure = tree_bool_or(field->value, false);
        else
            r = wrong(diag, file, field->value, site->registry, "expected mirrors (a list), ca (a path) or insecure (true or false)");
        if (r < 0)
            return r;
    }
    return 0;
}

int sites_parse(struct arena *arena, struct slice yaml, const char *file, struct sites *ret, struct diag *diag) {
    struct tree *root = NULL;
    *ret = (struct sites){0};
    int r = yaml_parse_one(arena, yaml, &root, diag);
    if (r < 0)
        diag_at(diag, file, -1, -1);
    if (r < 0 || root->type == TREE_NULL)
        return r;
    if (root->type != TREE_MAP)
        return wrong(diag, file, root, "registries", "expected a mapping of registries");
    ret->items = ARENA_ARRAY(arena, struct site, root->children->count);
    if (root->children->count && !ret->items)
        return -ENOMEM;
    for (size_t i = 0; r == 0 && i < root->children->count; i++)
        r = read_site(&root->children->items[i], file, &ret->items[ret->count++], diag);
    return r;
}

const struct site *sites_find(const struct sites *sites, const char *registry) {
    static const struct site nothing = {.registry = ""};
    const struct site *any = &nothing;
    for (size_t i = 0; i < sites->count; i++) {
        if (strcmp(sites->items[i].registry, registry) == 0)
            return &sites->items[i];
        if (strcmp(sites->items[i].registry, "*") == 0)
            any = &sites->items[i];
    }
    return any;
}
