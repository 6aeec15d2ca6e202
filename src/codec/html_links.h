/* Links of an HTML page that is read behind a proxy: what begins with "/" gets the proxy's own path in front. Works on the page as it streams. */
#ifndef TIDEMILL_CODEC_HTML_LINKS_H
#define TIDEMILL_CODEC_HTML_LINKS_H

#include "base/base.h"

#define HTML_TAG_BYTES_MAX (16 * KIB) /* a longer tag passes as it is */

struct html_links {
    const char *prefix; /* "/proxy", without a slash at its end; borrowed; made of characters that mean nothing in HTML */
    struct buffer tag;  /* the one that is being read, from its "<" */
    enum html_place { HTML_TEXT, HTML_TAG, HTML_COMMENT, HTML_RAW } place;
    char quote;     /* within a tag: of the value; 0: none */
    char raw[12];   /* HTML_RAW: the element ("script") whose end is waited for */
    size_t matched; /* of that end, or of the comment's */
};

/* Owns memory while a tag is open: html_links_deinit. */
void html_links_init(struct html_links *links, const char *prefix);
void html_links_deinit(struct html_links *links);
/* Appends to `out` what is known of the page so far. 0 or the buffer's error. */
int html_links_write(struct html_links *links, struct slice page, struct buffer *out);
/* What was held back, at the end of the page. */
int html_links_end(struct html_links *links, struct buffer *out);

#endif
