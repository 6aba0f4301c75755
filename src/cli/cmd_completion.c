/* nnferry completion: a shell's completion script, from the option table and the command list. */
#include "cli/command.h"
#include <string.h>

static void words(const struct command *c, const char *between)
{
    bool first = true;
    for (const enum opt *o = c->opts; o && *o != OPT_N; o++, first = false)
        print_fmt("%s--%s", first ? "" : between, opt_info[*o].name);
    for (const enum opt *o = common_opts; *o != OPT_N; o++, first = false)
        print_fmt("%s--%s", first ? "" : between, opt_info[*o].name);
}

static void choices(const char *list)
{
    struct str rest = str_from(list), one;
    for (bool first = true; str_split(&rest, '|', &one); first = false) {
        print_fmt(first ? "" : " ");
        print_str(one);
    }
}

static void format_names(bool writes)
{
    bool first = true;
    for (size_t i = 0; i < n_formats; i++) {
        if (writes ? formats[i]->writes : formats[i]->reads) {
            print_fmt("%s%s", first ? "" : " ", formats[i]->name);
            first = false;
        }
    }
}

static void bash(void)
{
    print_fmt("_nnferry()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} "
              "prev=${COMP_WORDS[COMP_CWORD-1]}\n    COMPREPLY=()\n"
              "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (size_t i = 0; i < n_commands; i++)
        print_fmt("%s%s", i ? " " : "", commands[i]->name);
    print_fmt("' -- \"$cur\"))\n        return\n    fi\n    case $prev in\n");
    for (int o = 0; o < OPT_N; o++) {
        if (!opt_info[o].choices)
            continue;
        print_fmt("    --%s)\n        COMPREPLY=($(compgen -W '", opt_info[o].name);
        choices(opt_info[o].choices);
        print_fmt("' -- \"$cur\"))\n        return ;;\n");
    }
    print_fmt("    --format)\n        COMPREPLY=($(compgen -W '");
    format_names(true);
    print_fmt("' -- \"$cur\"))\n        return ;;\n    --input-format)\n"
              "        COMPREPLY=($(compgen -W '");
    format_names(false);
    print_fmt("' -- \"$cur\"))\n        return ;;\n    esac\n    case $cur in\n    -*)\n"
              "        case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < n_commands; i++) {
        print_fmt("        %s) COMPREPLY=($(compgen -W '", commands[i]->name);
        words(commands[i], " ");
        print_fmt("' -- \"$cur\")) ;;\n");
    }
    print_fmt("        esac ;;\n    *)\n        COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
              "    esac\n}\ncomplete -o filenames -F _nnferry nnferry\n");
}

/* a text inside single quotes of zsh's or fish's, where a single quote ends it */
static void quoted(const char *s)
{
    for (; *s; s++) {
        if (*s == '\'')
            print_fmt("'\\''");
        else if (*s == '[' || *s == ']' || *s == ':')
            print_fmt("\\%c", *s);
        else
            print_fmt("%c", *s);
    }
}

static void zsh_option(enum opt o)
{
    const struct opt_info *i = &opt_info[o];
    print_fmt("        '--%s[", i->name);
    quoted(i->help);
    print_fmt("]");
    if (i->arg) {
        print_fmt(":%s:", i->arg);
        if (i->choices) {
            print_fmt("(");
            choices(i->choices);
            print_fmt(")");
        } else if (o == OPT_FORMAT || o == OPT_INPUT_FORMAT) {
            print_fmt("(");
            format_names(o == OPT_FORMAT);
            print_fmt(")");
        } else {
            print_fmt("_files");
        }
    }
    print_fmt("' \\\n");
}

static void zsh(void)
{
    print_fmt("#compdef nnferry\nif (( CURRENT == 2 )); then\n    local -a commands=(\n");
    for (size_t i = 0; i < n_commands; i++) {
        print_fmt("        '%s:", commands[i]->name);
        quoted(commands[i]->summary);
        print_fmt("'\n");
    }
    print_fmt("    )\n    _describe command commands\n    return\nfi\nshift words\n"
              "(( CURRENT-- ))\ncase $words[1] in\n");
    for (size_t i = 0; i < n_commands; i++) {
        const struct command *c = commands[i];
        print_fmt("%s)\n    _arguments \\\n", c->name);
        for (const enum opt *o = c->opts; o && *o != OPT_N; o++)
            zsh_option(*o);
        for (const enum opt *o = common_opts; *o != OPT_N; o++)
            zsh_option(*o);
        print_fmt("        '*:file:_files' ;;\n");
    }
    print_fmt("esac\n");
}

static void fish_option(const char *command, enum opt o)
{
    const struct opt_info *i = &opt_info[o];
    print_fmt("complete -c nnferry -n '__fish_seen_subcommand_from %s' -l %s", command, i->name);
    if (i->letter)
        print_fmt(" -s %c", i->letter);
    if (i->choices) {
        print_fmt(" -x -a '");
        choices(i->choices);
        print_fmt("'");
    } else if (i->arg) {
        print_fmt(" -r");
    }
    print_fmt(" -d '");
    for (const char *s = i->help; *s; s++)
        print_fmt(*s == '\'' ? "\\'" : "%c", *s);
    print_fmt("'\n");
}

static void fish(void)
{
    for (size_t i = 0; i < n_commands; i++)
        print_fmt("complete -c nnferry -n __fish_use_subcommand -a %s -d '%s'\n", commands[i]->name,
                  commands[i]->summary);
    for (size_t i = 0; i < n_commands; i++) {
        const struct command *c = commands[i];
        for (const enum opt *o = c->opts; o && *o != OPT_N; o++)
            fish_option(c->name, *o);
        for (const enum opt *o = common_opts; *o != OPT_N; o++)
            fish_option(c->name, *o);
    }
}

static enum status run(struct args *a, struct err *e)
{
    const char *shell = a->arg[0];
    if (a->set[OPT_JSON])
        return err_set(e, ST_USAGE, NULL, "completion has no JSON form");
    if (strcmp(shell, "bash") == 0)
        bash();
    else if (strcmp(shell, "zsh") == 0)
        zsh();
    else if (strcmp(shell, "fish") == 0)
        fish();
    else
        return err_set(e, ST_USAGE, NULL, "completion takes bash, zsh or fish, not '%s'", shell);
    return ST_OK;
}

static const enum opt opts[] = {OPT_N};
const struct command completion_command = {
    "completion", "SHELL", "Print a completion script for bash, zsh or fish", opts, 1, 1,
    run,          false};
