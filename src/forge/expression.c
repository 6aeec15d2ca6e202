/* Expressions of rules, as GitLab's pipeline expression language has them.
 *
 * Why an own evaluator: it is fifteen productions, must report what was expected, and must be bounded: at most EXPRESSION_TOKENS_MAX tokens,
 * EXPRESSION_DEPTH_MAX parentheses, and patterns run with a match limit (PCRE2 backtracks; GitLab's RE2 does not).
 *
 * Grammar:   or := and ("||" and)*    and := comparison ("&&" comparison)*
 *            comparison := "(" or ")" | operand (("==" | "!=" | "=~" | "!~") operand)?
 *            operand := $NAME | "text" | 'text' | /pattern/flags | null | true | false
 * Strings have no escapes and no interpolation. The right side of =~ is a pattern or a variable whose value is written as one ("/re/i"); any other
 * value is taken as the pattern itself. An unset left side matches nothing. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "forge/expression.h"

#include <ctype.h>
#include <pcre2.h>

#define MATCH_LIMIT 100000
#define PATTERN_BYTES_MAX 1024

enum token_type {
    TOKEN_END,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_VARIABLE,
    TOKEN_STRING,
    TOKEN_PATTERN,
    TOKEN_NULL,
    TOKEN_TRUE,
    TOKEN_FALSE,
    TOKEN_EQUAL,
    TOKEN_NOT_EQUAL,
    TOKEN_MATCH,
    TOKEN_NOT_MATCH,
    TOKEN_AND,
    TOKEN_OR
};

struct token {
    enum token_type type;
    struct slice text; /* name, string or pattern without its delimiters */
    bool ignore_case;
    size_t offset;
};

/* A node is an operand (by the token it came from) or an operation on two. */
struct expression {
    enum token_type type;
    const char *text;
    size_t text_len;
    bool ignore_case;
    struct expression *left, *right;
};

struct parser {
    struct arena *arena;
    struct slice text;
    size_t at;
    size_t tokens;
    int depth;
    struct token next;
    struct diag *diag;
};

/* --- tokens --- */

static const struct {
    const char *text;
    enum token_type type;
} symbols[] = {{"==", TOKEN_EQUAL}, {"!=", TOKEN_NOT_EQUAL}, {"=~", TOKEN_MATCH}, {"!~", TOKEN_NOT_MATCH},
               {"&&", TOKEN_AND},   {"||", TOKEN_OR},        {"(", TOKEN_OPEN},   {")", TOKEN_CLOSE}},
  words[] = {{"null", TOKEN_NULL}, {"true", TOKEN_TRUE}, {"false", TOKEN_FALSE}};

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static int complain(struct parser *parser, size_t offset, const char *what) {
    diag_set(parser->diag, -EINVAL, "%s at character %zu of \"%.*s\"", what, offset + 1, SLICE_ARG(slice_head(parser->text, 200)));
    return diag_hint(parser->diag, -EINVAL, "an expression looks like: $CI_COMMIT_BRANCH == \"main\" && $NAME =~ /^v[0-9]/");
}

static int read_quoted(struct parser *parser, char end) {
    size_t start = parser->at + 1;
    bool escapes = end == '/'; /* only patterns have them: \/ */
    size_t at = start;
    while (at < parser->text.len && parser->text.data[at] != end)
        at += escapes && parser->text.data[at] == '\\' ? 2 : 1;
    if (at >= parser->text.len)
        return complain(parser, parser->at, end == '/' ? "a pattern without its closing /" : "a string without its closing quote");
    parser->next.text = slice_make(parser->text.data + start, at - start);
    parser->at = at + 1;
    if (end != '/')
        return 0;
    for (; parser->at < parser->text.len && isalpha((unsigned char)parser->text.data[parser->at]); parser->at++) {
        char flag = parser->text.data[parser->at];
        if (flag == 'i')
            parser->next.ignore_case = true;
        else if (flag != 'm' && flag != 's' && flag != 'U')
            return complain(parser, parser->at, "an unknown flag of a pattern (i is known)");
    }
    return 0;
}

static int read_word(struct parser *parser) {
    struct slice rest = slice_from(parser->text, parser->at);
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        if (slice_starts(rest, slice_of(symbols[i].text))) {
            parser->next.type = symbols[i].type;
            parser->at += strlen(symbols[i].text);
            return 0;
        }
    }
    bool variable = rest.data[0] == '$';
    size_t len = variable;
    while (len < rest.len && is_word(rest.data[len]))
        len++;
    struct slice word = slice_from(slice_head(rest, len), variable);
    parser->at += len;
    if (variable && word.len > 0) {
        parser->next.type = TOKEN_VARIABLE;
        parser->next.text = word;
        return 0;
    }
    for (size_t i = 0; !variable && i < ARRAY_LEN(words); i++) {
        if (slice_is(word, words[i].text)) {
            parser->next.type = words[i].type;
            return 0;
        }
    }
    return complain(parser, parser->next.offset,
                    variable ? "a $ without the name of a variable (${NAME} is not allowed here)" : "an unknown word or sign");
}

static int advance(struct parser *parser) {
    while (parser->at < parser->text.len && isspace((unsigned char)parser->text.data[parser->at]))
        parser->at++;
    parser->next = (struct token){.type = TOKEN_END, .offset = parser->at};
    if (parser->at >= parser->text.len)
        return 0;
    if (++parser->tokens > EXPRESSION_TOKENS_MAX)
        return complain(parser, parser->at, "too many words");
    char c = parser->text.data[parser->at];
    if (c == '"' || c == '\'') {
        parser->next.type = TOKEN_STRING;
        return read_quoted(parser, c);
    }
    if (c == '/') {
        parser->next.type = TOKEN_PATTERN;
        return read_quoted(parser, c);
    }
    return read_word(parser);
}

/* --- patterns --- */

static pcre2_code *compile(struct slice pattern, bool ignore_case, char message[128]) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    if (pattern.len > PATTERN_BYTES_MAX)
        return NULL;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)(pattern.data ? pattern.data : ""), pattern.len, ignore_case ? PCRE2_CASELESS : 0, &code, &offset, NULL);
    if (!compiled && message)
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, 128);
    return compiled;
}

static int match(struct slice pattern, bool ignore_case, const char *subject, bool *ret, struct diag *diag) {
    char message[128] = "too long";
    pcre2_code *code = compile(pattern, ignore_case, message);
    if (!code)
        return diag_set(diag, -EINVAL, "the pattern /%.*s/ is not valid: %s", SLICE_ARG(slice_head(pattern, 100)), message);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    int found = PCRE2_ERROR_NOMEMORY;
    if (data && context) {
        pcre2_set_match_limit(context, MATCH_LIMIT);
        found = pcre2_match(code, (PCRE2_SPTR)subject, strlen(subject), 0, 0, data, context);
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    *ret = found >= 0;
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return diag_set(diag, -EINVAL, "the pattern /%.*s/ takes too long on this value", SLICE_ARG(slice_head(pattern, 100)));
    return 0;
}

/* --- parsing --- */

static int parse_or(struct parser *parser, struct expression **ret);

static struct expression *node_new(struct parser *parser, enum token_type type, struct expression *left, struct expression *right) {
    struct expression *node = ARENA_NEW(parser->arena, struct expression);
    if (node)
        *node = (struct expression){.type = type, .left = left, .right = right};
    return node;
}

static int parse_operand(struct parser *parser, struct expression **ret) {
    struct token token = parser->next;
    if (token.type < TOKEN_VARIABLE || token.type > TOKEN_FALSE)
        return complain(parser, token.offset, "a variable, string, pattern or null was expected");
    if (token.type == TOKEN_PATTERN) {
        char message[128] = "too long";
        pcre2_code *code = compile(token.text, token.ignore_case, message);
        if (!code)
            return complain(parser, token.offset, message);
        pcre2_code_free(code);
    }
    struct expression *node = node_new(parser, token.type, NULL, NULL);
    if (!node)
        return -ENOMEM;
    node->text = arena_dup(parser->arena, token.text);
    node->text_len = token.text.len;
    node->ignore_case = token.ignore_case;
    *ret = node;
    return node->text ? advance(parser) : -ENOMEM;
}

static int parse_comparison(struct parser *parser, struct expression **ret) {
    int error;
    if (parser->next.type == TOKEN_OPEN) {
        if (++parser->depth > EXPRESSION_DEPTH_MAX)
            return complain(parser, parser->next.offset, "too many nested parentheses");
        if ((error = advance(parser)) || (error = parse_or(parser, ret)))
            return error;
        parser->depth--;
        if (parser->next.type != TOKEN_CLOSE)
            return complain(parser, parser->next.offset, "a closing parenthesis was expected");
        return advance(parser);
    }
    struct expression *left = NULL, *right = NULL;
    if ((error = parse_operand(parser, &left)))
        return error;
    *ret = left;
    struct token sign = parser->next;
    if (sign.type < TOKEN_EQUAL || sign.type > TOKEN_NOT_MATCH)
        return left->type == TOKEN_PATTERN ? complain(parser, sign.offset, "a pattern stands only behind =~ or !~") : 0;
    if ((error = advance(parser)))
        return error;
    size_t right_offset = parser->next.offset;
    if ((error = parse_operand(parser, &right)))
        return error;
    bool matching = sign.type == TOKEN_MATCH || sign.type == TOKEN_NOT_MATCH;
    if (matching && right->type != TOKEN_PATTERN && right->type != TOKEN_VARIABLE)
        return complain(parser, right_offset, "a pattern like /^v/ or a variable was expected");
    if (left->type == TOKEN_PATTERN || (!matching && right->type == TOKEN_PATTERN))
        return complain(parser, sign.offset, "a pattern stands only behind =~ or !~");
    *ret = node_new(parser, sign.type, left, right);
    return *ret ? 0 : -ENOMEM;
}

static int parse_and(struct parser *parser, struct expression **ret) {
    int error = parse_comparison(parser, ret);
    while (!error && parser->next.type == TOKEN_AND) {
        struct expression *right = NULL;
        if ((error = advance(parser)) || (error = parse_comparison(parser, &right)))
            break;
        *ret = node_new(parser, TOKEN_AND, *ret, right);
        error = *ret ? 0 : -ENOMEM;
    }
    return error;
}

static int parse_or(struct parser *parser, struct expression **ret) {
    int error = parse_and(parser, ret);
    while (!error && parser->next.type == TOKEN_OR) {
        struct expression *right = NULL;
        if ((error = advance(parser)) || (error = parse_and(parser, &right)))
            break;
        *ret = node_new(parser, TOKEN_OR, *ret, right);
        error = *ret ? 0 : -ENOMEM;
    }
    return error;
}

int expression_parse(struct arena *arena, struct slice text, struct expression **ret, struct diag *diag) {
    struct parser parser = {.arena = arena, .text = text, .diag = diag};
    struct expression *root = NULL;
    int error = advance(&parser);
    if (!error)
        error = parse_or(&parser, &root);
    if (!error && parser.next.type != TOKEN_END)
        error = complain(&parser, parser.next.offset, "==, !=, =~, !~, && or || was expected");
    if (!error)
        *ret = root;
    return error;
}

/* --- evaluating --- */

struct evaluation {
    expression_lookup_fn *lookup;
    void *userdata;
    struct diag *diag;
};

/* The text of an operand; NULL is null. */
static const char *operand_value(const struct evaluation *evaluation, const struct expression *node) {
    switch (node->type) {
    case TOKEN_VARIABLE: return evaluation->lookup(evaluation->userdata, node->text);
    case TOKEN_NULL: return NULL;
    case TOKEN_TRUE: return "true";
    case TOKEN_FALSE: return "false";
    default: return node->text;
    }
}

static int evaluate_match(const struct evaluation *evaluation, const struct expression *node, bool *ret) {
    const char *left = operand_value(evaluation, node->left);
    struct slice pattern = slice_make(node->right->text, node->right->text_len);
    bool ignore_case = node->right->ignore_case;
    if (node->right->type == TOKEN_VARIABLE) {
        const char *value = operand_value(evaluation, node->right);
        if (!value || !left) {
            *ret = false;
            return 0;
        }
        pattern = slice_of(value);
        const char *slash = pattern.len > 1 && value[0] == '/' ? strrchr(value + 1, '/') : NULL;
        if (slash) { /* written as a pattern: "/re/i" */
            ignore_case = strchr(slash + 1, 'i') != NULL;
            pattern = slice_make(value + 1, (size_t)(slash - value) - 1);
        }
    }
    if (!left) {
        *ret = false;
        return 0;
    }
    return match(pattern, ignore_case, left, ret, evaluation->diag);
}

static int evaluate(const struct evaluation *evaluation, const struct expression *node, bool *ret) {
    int error;
    switch (node->type) {
    case TOKEN_AND:
    case TOKEN_OR:
        error = evaluate(evaluation, node->left, ret);
        return error || *ret == (node->type == TOKEN_OR) ? error : evaluate(evaluation, node->right, ret);
    case TOKEN_MATCH:
    case TOKEN_NOT_MATCH:
        error = evaluate_match(evaluation, node, ret);
        *ret = *ret == (node->type == TOKEN_MATCH);
        return error;
    case TOKEN_EQUAL:
    case TOKEN_NOT_EQUAL: {
        const char *left = operand_value(evaluation, node->left), *right = operand_value(evaluation, node->right);
        bool equal = left && right ? strcmp(left, right) == 0 : left == right;
        *ret = equal == (node->type == TOKEN_EQUAL);
        return 0;
    }
    case TOKEN_FALSE: *ret = false; return 0;
    default: {
        const char *value = operand_value(evaluation, node);
        *ret = value && *value;
        return 0;
    }
    }
}

int expression_evaluate(const struct expression *expression, expression_lookup_fn *lookup, void *userdata, bool *ret, struct diag *diag) {
    const struct evaluation evaluation = {.lookup = lookup, .userdata = userdata, .diag = diag};
    bool value = false;
    int error = evaluate(&evaluation, expression, &value);
    if (!error)
        *ret = value;
    return error;
}
