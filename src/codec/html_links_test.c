/* Which links are led through the proxy, whole and byte by byte. */
#include "codec/codec.h"
#include "unit.h"

#define PROXY "/api/p/proxy"

static void check_pieces(const char *page, const char *expected, size_t piece) {
    struct html_links links;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    html_links_init(&links, PROXY);
    for (struct slice rest = slice_of(page); rest.len; rest = slice_from(rest, piece))
        assert_int_equal(html_links_write(&links, slice_head(rest, piece), &out), 0);
    assert_int_equal(html_links_end(&links, &out), 0);
    html_links_deinit(&links);
    assert_string_equal(out.data, expected);
}

static void check(const char *page, const char *expected) {
    check_pieces(page, expected, SIZE_MAX);
    check_pieces(page, expected, 1);
}

static void stays(const char *page) {
    check(page, page);
}

UNIT_TEST(links_from_the_root_are_led) {
    check("<a href=\"/x\">y</a>", "<a href=\"" PROXY "/x\">y</a>");
    check("<A class=c HREF = ' /x?a=b' id>/x</A>", "<A class=c HREF = ' " PROXY "/x?a=b' id>/x</A>");
    check("<img src=/i.png><form action=\"/go\" title='a>b'><base href=/ />",
          "<img src=" PROXY "/i.png><form action=\"" PROXY "/go\" title='a>b'><base href=" PROXY "/ />");
    check("<script src='/a.js'></script><link href='/b.css'>", "<script src='" PROXY "/a.js'></script><link href='" PROXY "/b.css'>");
    check("<a href='" PROXY "x'>", "<a href='" PROXY PROXY "x'>"); /* only looks like it */
}

UNIT_TEST(others_stay) {
    stays("<a href=\"x\"><a href=\"#x\"><a href=\"//host/x\"><a href=\"http://host/x\"><a href=''>");
    stays("<a href=\"" PROXY "/x\"><a href=\"" PROXY "\">");
    stays("<a title=\"/x\"><p href=\"/x\"><a data-href=\"/x\">");
    stays("a < b /x <3 <!-- <a href='/x'> -- > --><!DOCTYPE html></a href>");
    stays("<script>'<a href=\"/x\">'</script><style><a href='/x'></style>");
    stays("<a href=\"/x");
}

UNIT_TEST(raw_text_ends) {
    check("<script>a<</SCRIPT><a href='/x'>", "<script>a<</SCRIPT><a href='" PROXY "/x'>");
    check("<!----><a href='/x'>", "<!----><a href='" PROXY "/x'>");
    check("<!--><a href='/x'>", "<!--><a href='" PROXY "/x'>");
}

UNIT_TEST(a_tag_without_end_is_not_kept) {
    struct html_links links;
    CLEANUP(buffer_deinit) struct buffer page = BUFFER_INIT(MIB), out = BUFFER_INIT(MIB);
    buffer_append_text(&page, "<a href='");
    while (page.len < 3 * HTML_TAG_BYTES_MAX)
        buffer_append_byte(&page, 'x');
    html_links_init(&links, PROXY);
    assert_int_equal(html_links_write(&links, buffer_slice(&page), &out), 0);
    assert_true(slice_equal(buffer_slice(&out), buffer_slice(&page)));
    html_links_deinit(&links);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(links_from_the_root_are_led), cmocka_unit_test(others_stay), cmocka_unit_test(raw_text_ends),
                                       cmocka_unit_test(a_tag_without_end_is_not_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
