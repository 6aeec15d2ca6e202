/* A page's links, rewritten as they pass (the API server's proxy: upstream does the same, so that dashboards work behind it).
 *
 *   TEXT ── "<" ──► TAG ── ">" ──► its links are rewritten ──► TEXT, or RAW after <script>, <style> … until their end tag
 *                    └─ "<!--" ──► COMMENT ── "-->" ──► TEXT
 *
 * 1. Every byte passes once and in order; only a tag is held back until its end is there, at most HTML_TAG_BYTES_MAX of it.
 * 2. Nothing but the values of attributes that hold links of their element changes; what cannot be understood passes as it is.
 * 3. A link is led through the proxy when it begins with one "/" and not with the prefix already; relative ones work by themselves, and what names
 *    another server is left alone. Links that scripts or style sheets make up are not seen. */
#include "codec/html_links.h"

#include <strings.h>

static const struct {
    const char *attribute, *elements; /* elements between blanks */
} holders[] = {
    {"href", " a area base link "},
    {"src", " audio embed frame iframe img input script source track video "},
    {"action", " form "},
    {"formaction", " button input "},
    {"poster", " video "},
    {"data", " object "},
    {"codebase", " applet object "},
    {"cite", " blockquote del ins q "},
    {"longdesc", " frame iframe img "},
    {"background", " body "},
    {"manifest", " html "},
};
static const char *const raw_elements[] = {"script", "style", "textarea", "title", "xmp", "noscript"};

void html_links_init(struct html_links *links, const char *prefix) {
    *links = (struct html_links){.prefix = prefix, .tag = BUFFER_INIT(HTML_TAG_BYTES_MAX)};
}

void html_links_deinit(struct html_links *links) {
    buffer_deinit(&links->tag);
}

/* --- one tag --- */

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_letter(char c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static size_t skip_blanks(struct slice tag, size_t at) {
    while (at < tag.len && is_blank(tag.data[at]))
        at++;
    return at;
}

static size_t skip_name(struct slice tag, size_t at) {
    while (at < tag.len && !is_blank(tag.data[at]) && !strchr("=/>", tag.data[at]))
        at++;
    return at;
}

static struct slice element_of(struct slice tag) {
    struct slice name = slice_from(tag, 1);
    return slice_head(name, skip_name(name, 0));
}

static bool holds_link(struct slice element, struct slice attribute) {
    for (size_t i = 0; i < ARRAY_LEN(holders); i++) {
        if (!slice_equal_nocase(attribute, slice_of(holders[i].attribute)))
            continue;
        struct slice rest = slice_of(holders[i].elements);
        while (rest.data)
            if (slice_equal_nocase(slice_cut(&rest, ' '), element))
                return element.len > 0;
    }
    return false;
}

static bool is_led(const struct html_links *links, struct slice value) {
    struct slice prefix = slice_of(links->prefix);
    bool inside = slice_starts(value, prefix) && (value.len == prefix.len || strchr("/?#", value.data[prefix.len]));
    return slice_starts(value, SLICE("/")) && !slice_starts(value, SLICE("//")) && !inside;
}

/* The value that begins at `at`, and where it ends: its quotes apart. */
static struct slice value_at(struct slice tag, size_t at, size_t *ret_end) {
    char quote = at < tag.len && (tag.data[at] == '"' || tag.data[at] == '\'') ? tag.data[at] : 0;
    size_t start = at + (quote != 0), end = start;
    while (end < tag.len && (quote ? tag.data[end] != quote : !is_blank(tag.data[end]) && tag.data[end] != '>'))
        end++;
    *ret_end = MIN(end + (quote != 0), tag.len);
    return (struct slice){tag.data + start, end - start};
}

static int put_tag(const struct html_links *links, struct slice tag, struct buffer *out) {
    struct slice element = element_of(tag);
    size_t at = 1 + element.len, copied = 0;
    while (at < tag.len) {
        size_t start = at = skip_blanks(tag, at);
        at = skip_name(tag, at);
        struct slice attribute = {tag.data + start, at - start};
        at = skip_blanks(tag, at);
        if (at >= tag.len || tag.data[at] != '=') {
            at += attribute.len == 0; /* "/" or ">" */
            continue;
        }
        struct slice value = value_at(tag, skip_blanks(tag, at + 1), &at);
        size_t before = (size_t)(value.data - tag.data) + skip_blanks(value, 0);
        if (!holds_link(element, attribute) || !is_led(links, slice_from(value, skip_blanks(value, 0))))
            continue;
        buffer_append(out, tag.data + copied, before - copied);
        buffer_append_text(out, links->prefix);
        copied = before;
    }
    return buffer_append_slice(out, slice_from(tag, copied));
}

/* --- the page --- */

/* Its text is no HTML. */
static bool begins_raw(struct html_links *links, struct slice tag) {
    struct slice element = element_of(tag);
    for (size_t i = 0; i < ARRAY_LEN(raw_elements); i++)
        if (slice_equal_nocase(element, slice_of(raw_elements[i]))) {
            memcpy(links->raw, raw_elements[i], strlen(raw_elements[i]) + 1);
            return true;
        }
    return false;
}

static int end_tag(struct html_links *links, struct buffer *out) {
    struct slice tag = buffer_slice(&links->tag);
    int error = put_tag(links, tag, out);
    links->matched = 0;
    links->place = begins_raw(links, tag) ? HTML_RAW : HTML_TEXT;
    buffer_reset(&links->tag);
    return error;
}

/* As it is: it is none, or too long. */
static int give_up_tag(struct html_links *links, struct buffer *out) {
    int error = buffer_append_slice(out, buffer_slice(&links->tag));
    buffer_reset(&links->tag);
    links->place = HTML_TEXT;
    return error;
}

static int read_tag(struct html_links *links, char c, struct buffer *out) {
    static const char opening[] = "<!--";
    if (buffer_append_byte(&links->tag, c) == -EMSGSIZE) {
        int error = give_up_tag(links, out);
        return error ? error : buffer_append_byte(out, c);
    }
    struct slice tag = buffer_slice(&links->tag);
    if (buffer_error(&links->tag))
        return buffer_error(&links->tag);
    if (tag.len == 2 && !is_letter(c) && c != '/' && c != '!')
        return give_up_tag(links, out);
    if (slice_is(tag, opening)) {
        int error = give_up_tag(links, out);
        links->place = HTML_COMMENT;
        links->matched = 2; /* "<!-->" is a whole one */
        return error;
    }
    if (links->quote) {
        links->quote = c == links->quote ? 0 : links->quote;
        return 0;
    }
    /* A quote opens a value only after "=": elsewhere it is a letter like others. */
    size_t before = tag.len - 1;
    while ((c == '"' || c == '\'') && before > 0 && is_blank(tag.data[before - 1]))
        before--;
    if ((c == '"' || c == '\'') && before > 0 && tag.data[before - 1] == '=')
        links->quote = c;
    return c == '>' ? end_tag(links, out) : 0;
}

static void read_raw(struct html_links *links, char c) {
    size_t len = strlen(links->raw), at = links->matched;
    bool fits = at == 0 ? c == '<' : at == 1 ? c == '/' : at < len + 2 && (c | 0x20) == links->raw[at - 2];
    links->matched = fits ? at + 1 : c == '<';
    if (links->matched == len + 2)
        links->place = HTML_TEXT;
}

static void read_comment(struct html_links *links, char c) {
    if (c == '>' && links->matched >= 2)
        links->place = HTML_TEXT;
    links->matched = c == '-' ? links->matched + 1 : 0;
}

int html_links_write(struct html_links *links, struct slice page, struct buffer *out) {
    int error = 0;
    for (size_t i = 0; i < page.len && !error; i++) {
        if (links->place == HTML_TEXT) {
            ptrdiff_t next = slice_index(slice_from(page, i), '<');
            struct slice text = slice_head(slice_from(page, i), next < 0 ? page.len : (size_t)next);
            error = buffer_append_slice(out, text);
            i += text.len;
            if (i == page.len || error)
                break;
            links->place = HTML_TAG;
            links->quote = 0;
        }
        char c = page.data[i];
        if (links->place == HTML_TAG) {
            error = read_tag(links, c, out);
            continue;
        }
        if (links->place == HTML_RAW)
            read_raw(links, c);
        else if (links->place == HTML_COMMENT)
            read_comment(links, c);
        error = buffer_append_byte(out, c);
    }
    return error;
}

int html_links_end(struct html_links *links, struct buffer *out) {
    return give_up_tag(links, out);
}
