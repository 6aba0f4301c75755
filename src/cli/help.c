/* --help, from the option table and the command list. */
#include "cli/command.h"
#include <stdio.h>
#include <string.h>

static void option_line(enum opt o)
{
    const struct opt_info *i = &opt_info[o];
    char left[64];
    snprintf(left, sizeof left, "%c%c%s--%s%s%s", i->letter ? '-' : ' ',
             i->letter ? i->letter : ' ', i->letter ? ", " : "  ", i->name, i->arg ? " " : "",
             i->arg ? i->arg : "");
    if (strlen(left) > 31)
        print_fmt("  %s\n  %-31s %s\n", left, "", i->help);
    else
        print_fmt("  %-31s %s\n", left, i->help);
}

void help_print(const struct command *c)
{
    if (c) {
        print_fmt("Usage: nnferry %s [OPTION]... %s\n%s.\n\n", c->name, c->args, c->summary);
        for (const enum opt *o = c->opts; o && *o != OPT_N; o++)
            option_line(*o);
        if (c->opts && c->opts[0] != OPT_N)
            print_fmt("\n");
        for (const enum opt *o = common_opts; *o != OPT_N; o++)
            option_line(*o);
        print_fmt("\nThe manual: nnferry man %s\n", c->name);
        return;
    }
    print_fmt("Usage: nnferry COMMAND [OPTION]... ARG...\n"
              "Carries trained neural networks between frameworks, offline.\n\nCommands:\n");
    for (size_t i = 0; i < n_commands; i++)
        print_fmt("  %-12s %s\n", commands[i]->name, commands[i]->summary);
    print_fmt(
        "\nnnferry COMMAND --help lists a command's options; nnferry man nnferry is the manual.\n"
        "Exit: 0 done, 1 the answer is no, 2 usage, 3 bad input, 4 not expressible,\n"
        "7 output error, 8 a limit was hit, 9 device, 70 a bug, 75 stopped, 128+N signal N.\n");
}
