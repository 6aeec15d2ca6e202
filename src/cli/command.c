/* Parsing by the table: the command is the longest run of leading words that the table knows; then flags (--name value, --name=value, -n value, -n,
 * --no-name for booleans) and arguments in any order; "--" ends the flags. Unknown words get a suggestion by edit distance. */
#include "cli/cli.h"
#include "cli/command_priv.h"
#include "cli/terminal_priv.h"

#include <stdio.h>

static const struct flag *find_in(const struct flag *flags, struct slice name, char letter) {
    for (; flags && flags->name; flags++)
        if (letter ? flags->letter == letter : slice_is(name, flags->name))
            return flags;
    return NULL;
}

static const struct flag *find_flag(const struct command *command, struct slice name, char letter) {
    const struct flag *flag = find_in(command->flags, name, letter);
    return flag ? flag : find_in(command->more_flags, name, letter);
}

static const struct flag *known_flag(const struct invocation *invocation, const char *name) {
    const struct flag *flag = find_flag(invocation->command, slice_of(name), 0);
    ASSERT(flag);
    return flag;
}

const char *invocation_item(const struct invocation *invocation, const char *name, size_t index) {
    const struct flag *flag = known_flag(invocation, name);
    for (size_t i = 0; i < invocation->values_count; i++)
        if (invocation->values[i].flag == flag && index-- == 0)
            return invocation->values[i].value;
    return NULL;
}

bool invocation_given(const struct invocation *invocation, const char *name) {
    return invocation_item(invocation, name, 0) != NULL;
}

const char *invocation_text(const struct invocation *invocation, const char *name) {
    const struct flag *flag = known_flag(invocation, name);
    const char *value = flag->fallback;
    for (size_t i = 0; i < invocation->values_count; i++)
        if (invocation->values[i].flag == flag)
            value = invocation->values[i].value;
    return value;
}

bool invocation_bool(const struct invocation *invocation, const char *name) {
    const char *value = invocation_text(invocation, name);
    return value && strcmp(value, "true") == 0;
}

int64_t invocation_number(const struct invocation *invocation, const char *name) {
    const char *value = invocation_text(invocation, name);
    int64_t number = 0;
    if (value)
        ASSERT(slice_parse_i64(slice_of(value), &number) == 0); /* checked while parsing */
    return number;
}

/* How many leading words of argv name this command; 0: not this one. */
static int match_words(const struct command *command, int argc, char **argv) {
    struct slice rest = slice_of(command->name);
    int words = 0;
    for (; rest.data; words++) {
        struct slice word = slice_cut(&rest, ' ');
        if (words >= argc || !slice_is(word, argv[words]))
            return 0;
    }
    return words;
}

static unsigned edit_distance(const char *a, const char *b) {
    unsigned row[64];
    size_t width = strlen(b);
    if (width >= ARRAY_LEN(row))
        return 99;
    for (size_t i = 0; i <= width; i++)
        row[i] = (unsigned)i;
    for (size_t y = 0; a[y]; y++) {
        unsigned diagonal = row[0]++;
        for (size_t x = 0; x < width; x++) {
            unsigned best = MIN(MIN(row[x], row[x + 1]) + 1, diagonal + (a[y] != b[x]));
            diagonal = row[x + 1];
            row[x + 1] = best;
        }
    }
    return row[width];
}

static const char *closest_command(const char *typed) {
    const char *best = NULL;
    unsigned best_distance = 3;
    for (const struct command *command = commands; command->name; command++) {
        unsigned distance = edit_distance(typed, command->name);
        if (distance < best_distance && !command->hidden) {
            best_distance = distance;
            best = command->name;
        }
    }
    return best;
}

static void print_wrapped(FILE *out, const char *text, int indent) {
    struct slice rest = slice_of(text);
    while (rest.data) {
        struct slice line = slice_cut(&rest, '\n');
        fprintf(out, "%*s%.*s\n", indent, "", SLICE_ARG(line));
    }
}

static void print_flags(FILE *out, const struct flag *flags) {
    for (; flags && flags->name; flags++) {
        char left[100], letter[8] = "    ";
        if (flags->letter)
            snprintf(letter, sizeof letter, "-%c, ", flags->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, flags->name, flags->value_name ? " " : "", flags->value_name ? flags->value_name : "");
        fprintf(out, "  %-34s %s", left, flags->help);
        if (flags->fallback)
            fprintf(out, " (default %s)", flags->fallback);
        fputc('\n', out);
    }
}

/* Prints the commands that begin with the words of `prefix` ("" for all). */
static void print_commands(FILE *out, const char *prefix) {
    size_t len = strlen(prefix);
    for (const struct command *command = commands; command->name; command++)
        if (!command->hidden && strncmp(command->name, prefix, len) == 0)
            fprintf(out, "  %-26s %s\n", command->name, command->summary);
}

static void print_overview(FILE *out) {
    fprintf(out, "tidemill turns one Linux machine into an application platform:\n"
                 "git push -> pipeline -> image -> deploy -> serve -> measure -> heal.\n\n"
                 "Usage: tidemill COMMAND [FLAGS] [ARGUMENTS]\n\nCommands:\n");
    print_commands(out, "");
    fprintf(out, "\n`tidemill COMMAND --help` explains one. First steps:\n"
                 "  tidemill up                       start the platform here (as root)\n"
                 "  tidemill app create hello         make an application; prints where to `git push`\n"
                 "  tidemill status                   what runs\n");
}

static void print_help(FILE *out, const struct command *command) {
    fprintf(out, "%s\n\nUsage: tidemill %s%s%s%s\n", command->summary, command->name, command->arguments[0] ? " " : "", command->arguments,
            command->flags || command->more_flags ? " [FLAGS]" : "");
    if (command->description) {
        fputc('\n', out);
        print_wrapped(out, command->description, 0);
    }
    if (command->flags) {
        fprintf(out, "\nFlags:\n");
        print_flags(out, command->flags);
    }
    if (command->more_flags) {
        fprintf(out, "%sCommon flags:\n", "\n");
        print_flags(out, command->more_flags);
    }
    if (command->examples) {
        fprintf(out, "\nExamples:\n");
        print_wrapped(out, command->examples, 2);
    }
}

static int misuse(const struct command *command, const char *format, const char *detail) {
    fprintf(stderr, "%stidemill: %s", terminal_color(stderr, TERMINAL_RED), terminal_color(stderr, TERMINAL_PLAIN));
    fprintf(stderr, format, detail);
    fprintf(stderr, "\nUsage: tidemill %s%s%s (`tidemill %s --help` tells more)\n", command->name, command->arguments[0] ? " " : "",
            command->arguments, command->name);
    return 2;
}

static int add_value(struct invocation *invocation, const struct flag *flag, const char *value) {
    int64_t number;
    if (flag->kind == FLAG_NUMBER && slice_parse_i64(slice_of(value), &number) < 0)
        return misuse(invocation->command, "--%s needs a whole number", flag->name);
    if (flag->kind == FLAG_FORMAT && strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
        return misuse(invocation->command, "\"%s\" is no output format: text or json was expected", value);
    if (invocation->values_count == INVOCATION_VALUES_MAX)
        return misuse(invocation->command, "too many flags (at --%s)", flag->name);
    invocation->values[invocation->values_count].flag = flag;
    invocation->values[invocation->values_count++].value = value;
    return 0;
}

/* Takes the flag at argv[*at] and, when it has one, its value. */
static int take_flag(struct invocation *invocation, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    bool is_long = word[1] == '-';
    struct slice name = slice_of(word + (is_long ? 2 : 1));
    ptrdiff_t equals = is_long ? slice_index(name, '=') : -1;
    const char *value = equals >= 0 ? name.data + equals + 1 : NULL;
    if (equals >= 0)
        name = slice_head(name, (size_t)equals);
    const struct flag *flag = find_flag(invocation->command, name, is_long ? 0 : word[1]);
    if (!flag && is_long && slice_starts(name, SLICE("no-"))) {
        flag = find_flag(invocation->command, slice_from(name, 3), 0);
        if (flag && flag->kind == FLAG_BOOL && !value)
            return add_value(invocation, flag, "false");
        flag = NULL;
    }
    if (!flag)
        return misuse(invocation->command, "unknown flag %s", word);
    if (!is_long && word[2])
        value = word + 2;
    if (flag->kind == FLAG_BOOL)
        return add_value(invocation, flag, value ? value : "true");
    if (!value && *at + 1 >= argc)
        return misuse(invocation->command, "%s needs a value", word);
    return add_value(invocation, flag, value ? value : argv[++*at]);
}

static int parse(struct invocation *invocation, int argc, char **argv) {
    bool flags_end = false;
    for (int i = 0; i < argc; i++) {
        if (!flags_end && strcmp(argv[i], "--") == 0) {
            flags_end = true;
        } else if (!flags_end && argv[i][0] == '-' && argv[i][1]) {
            int r = take_flag(invocation, argc, argv, &i);
            if (r)
                return r;
        } else if (invocation->arguments_count == invocation->command->arguments_max) {
            return misuse(invocation->command, "unexpected argument \"%s\"", argv[i]);
        } else {
            invocation->arguments[invocation->arguments_count++] = argv[i];
        }
    }
    if (invocation->arguments_count < invocation->command->arguments_min)
        return misuse(invocation->command, "missing argument: %s", invocation->command->arguments);
    return 0;
}

static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int unknown_command(int argc, char **argv) {
    char group[64];
    snprintf(group, sizeof group, "%s ", argv[0]);
    bool is_group = false;
    for (const struct command *command = commands; command->name; command++)
        is_group = is_group || strncmp(command->name, group, strlen(group)) == 0;
    if (is_group) {
        bool asked = argc == 1 || wants_help(argc, argv);
        if (!asked)
            fprintf(stderr, "tidemill: unknown command \"%s %s\"\n", argv[0], argv[1]);
        fprintf(asked ? stdout : stderr, "Commands of `tidemill %s`:\n", argv[0]);
        print_commands(asked ? stdout : stderr, group);
        return asked ? 0 : 2;
    }
    const char *closest = closest_command(argv[0]);
    fprintf(stderr, "tidemill: unknown command \"%s\"%s%s%s\n`tidemill --help` lists them all.\n", argv[0],
            closest ? ", did you mean `tidemill " : "", closest ? closest : "", closest ? "`?" : "");
    return 2;
}

int cli_main(int argc, char **argv) {
    argc--, argv++;
    bool help = argc > 0 && strcmp(argv[0], "help") == 0; /* `tidemill help app create` is `tidemill app create --help` */
    if (help)
        argc--, argv++;
    if (argc == 0 || argv[0][0] == '-') {
        bool version = argc > 0 && (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0);
        if (version) {
            printf("tidemill %s\n", TIDEMILL_VERSION);
            return 0;
        }
        if (argc == 0 || wants_help(argc, argv)) {
            print_overview(stdout);
            return 0;
        }
        fprintf(stderr, "tidemill: unknown flag %s: a command was expected first\n`tidemill --help` lists them all.\n", argv[0]);
        return 2;
    }
    struct invocation invocation = {0};
    int words = 0;
    for (const struct command *command = commands; command->name; command++) {
        int matched = match_words(command, argc, argv);
        if (matched <= words)
            continue;
        words = matched;
        invocation.command = command;
    }
    if (!invocation.command)
        return unknown_command(argc, argv);
    if (help || wants_help(argc - words, argv + words)) {
        print_help(stdout, invocation.command);
        return 0;
    }
    int r = parse(&invocation, argc - words, argv + words);
    return r ? r : invocation.command->run(&invocation);
}
