/* challenge = scheme [ 1*SP ( token68 / #( token BWS "=" BWS ( token / quoted-string ) ) ) ], and challenges are separated by the same commas as
 * their parameters: a word that no "=" follows begins a new one. */
#include "registry/challenge.h"

static bool is_token(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~/", c));
}

static void skip(struct slice *rest, const char *what) {
    while (rest->len && strchr(what, rest->data[0]) && rest->data[0])
        *rest = slice_from(*rest, 1);
}

static struct slice take_token(struct slice *rest) {
    size_t len = 0;
    while (len < rest->len && is_token(rest->data[len]))
        len++;
    struct slice token = slice_head(*rest, len);
    *rest = slice_from(*rest, len);
    return token;
}

/* Into text, unquoted; false: too long, or its quotes do not end. */
static bool take_value(struct slice *rest, char *text, size_t size) {
    size_t len = 0;
    bool quoted = rest->len && rest->data[0] == '"', fits = true;
    if (quoted)
        *rest = slice_from(*rest, 1);
    while (rest->len && (quoted ? rest->data[0] != '"' : rest->data[0] > ' ' && rest->data[0] != ',')) { /* some leave the quotes out */
        if (quoted && rest->data[0] == '\\' && rest->len > 1)
            *rest = slice_from(*rest, 1);
        fits = fits && len + 1 < size && rest->data[0];
        if (fits)
            text[len++] = rest->data[0];
        *rest = slice_from(*rest, 1);
    }
    text[fits ? len : 0] = 0;
    if (!quoted)
        return fits;
    fits = fits && rest->len;
    skip(rest, "\"");
    return fits;
}

/* One "name=value" of a challenge; false when what comes is none, and nothing is taken. */
static bool take_parameter(struct slice *rest, struct challenges *into) {
    struct slice at = *rest, name = take_token(&at);
    char ignored[1024], *to = ignored;
    size_t size = sizeof ignored;
    skip(&at, " \t");
    if (!name.len || !at.len || at.data[0] != '=')
        return false;
    skip(&at, "= \t");
    if (into && slice_equal_nocase(name, SLICE("realm")))
        to = into->realm, size = sizeof into->realm;
    else if (into && slice_equal_nocase(name, SLICE("service")))
        to = into->service, size = sizeof into->service;
    else if (into && slice_equal_nocase(name, SLICE("scope")))
        to = into->scope, size = sizeof into->scope;
    if (!take_value(&at, to, size))
        to[0] = 0;
    *rest = at;
    return true;
}

void challenges_read(struct slice header, struct challenges *into) {
    struct slice rest = header;
    for (skip(&rest, ", \t"); rest.len; skip(&rest, ", \t")) {
        struct slice scheme = take_token(&rest);
        if (!scheme.len)
            return;
        bool bearer = slice_equal_nocase(scheme, SLICE("Bearer")) && !into->bearer;
        into->bearer = into->bearer || bearer;
        into->basic = into->basic || slice_equal_nocase(scheme, SLICE("Basic"));
        do
            skip(&rest, ", \t");
        while (take_parameter(&rest, bearer ? into : NULL));
    }
}
