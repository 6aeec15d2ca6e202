/* The commands that need no file of their own: version, completion. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"

#include <stdio.h>

int run_version(const struct invocation *invocation) {
    if (session_wants_json(invocation))
        printf("{\"version\":\"%s\"}\n", TIDEMILL_VERSION);
    else
        printf("tidemill %s\n", TIDEMILL_VERSION);
    return 0;
}

static void print_flag_words(const struct flag *flags) {
    for (; flags && flags->name; flags++)
        printf(" --%s", flags->name);
}

static bool takes_app(const struct command *command) {
    static const char *const arguments[] = {"APP", "[APP]", "ID|APP"};
    if (strncmp(command->name, "app ", 4) == 0 && strcmp(command->name, "app create") != 0)
        return command->arguments_max > 0;
    for (size_t i = 0; i < ARRAY_LEN(arguments); i++)
        if (slice_starts(slice_of(command->arguments), slice_of(arguments[i])))
            return true;
    return false;
}

/* Where an application is named, its name can be completed: a platform that does not answer gives none. */
static void print_app_words(void) {
    printf("    case \"$COMP_CWORD ${COMP_WORDS[*]:1:COMP_CWORD-1}\" in\n");
    for (const struct command *command = commands; command->name; command++)
        if (!command->hidden && takes_app(command))
            printf("    \"%d %s\")\n        words=$(tidemill app list 2>/dev/null | sed '1d;s/ .*//') ;;\n", strchr(command->name, ' ') ? 3 : 2,
                   command->name);
    printf("    esac\n");
}

/* A bash function from the table: the words of commands by position, then the flags of the command that matches. */
int run_completion(__attribute__((unused)) const struct invocation *invocation) {
    printf("# bash completion for tidemill; `source <(tidemill completion)` or install as /usr/share/bash-completion/completions/tidemill\n"
           "_tidemill() {\n    local current=\"${COMP_WORDS[COMP_CWORD]}\" words flags=\"\"\n    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (const struct command *command = commands; command->name; command++) {
        if (!strchr(command->name, ' '))
            continue;
        printf("    \"%s\") flags=\"--help", command->name);
        print_flag_words(command->flags);
        print_flag_words(command->more_flags);
        printf("\" ;;\n");
    }
    for (const struct command *command = commands; command->name; command++) {
        if (strchr(command->name, ' '))
            continue;
        printf("    \"%s \"*) flags=\"--help", command->name);
        print_flag_words(command->flags);
        print_flag_words(command->more_flags);
        printf("\" ;;\n");
    }
    printf("    esac\n    case $COMP_CWORD in\n    1) words=\"");
    const char *last = "";
    for (const struct command *command = commands; command->name; command++) {
        size_t len = strcspn(command->name, " ");
        if (command->hidden || (strncmp(last, command->name, len) == 0 && (last[len] == ' ' || !last[len])))
            continue;
        last = command->name;
        printf("%.*s ", (int)len, command->name);
    }
    printf("\" ;;\n    2) case \"${COMP_WORDS[1]}\" in\n");
    for (const struct command *command = commands; command->name; command++) {
        const char *blank = strchr(command->name, ' ');
        if (blank)
            printf("        %.*s) words=\"$words %s\" ;;&\n", (int)(blank - command->name), command->name, blank + 1);
    }
    printf("        esac ;;\n    esac\n");
    print_app_words();
    printf("    case \"$current\" in\n    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$current\")) ;;\n"
           "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default ;;\n    esac\n}\n"
           "complete -F _tidemill tidemill\n");
    return 0;
}
