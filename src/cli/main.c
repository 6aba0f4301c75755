/* nnferry: carries trained neural networks between frameworks, offline. Finds the command, sets up
 * the process, runs it, prints what went wrong in one line and exits with the status.
 */
#include "base/child.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/host.h"
#include "worker/wire.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef NNFERRY_LIBEXEC
#define NNFERRY_LIBEXEC "/usr/libexec/nnferry"
#endif

#define COMMAND(name) extern const struct command name##_command;
#include "cli/list.h"
#undef COMMAND
#define COMMAND(name) &name##_command,
const struct command *const commands[] = {
#include "cli/list.h"
};
#undef COMMAND
const size_t n_commands = sizeof commands / sizeof *commands;

const struct command *command_find(struct str name)
{
    for (size_t i = 0; i < n_commands; i++)
        if (str_is(name, commands[i]->name))
            return commands[i];
    return NULL;
}

static enum status no_command(const char *word, struct err *e)
{
    const char *names[32], *near;
    for (size_t i = 0; i < n_commands && i < 31; i++) {
        names[i] = commands[i]->name;
        names[i + 1] = NULL;
    }
    near = nearest(word, names);
    return near ? err_set(e, ST_USAGE, NULL, "no command '%s'; is '%s' meant?", word, near)
                : err_set(e, ST_USAGE, NULL, "no command '%s'; see nnferry --help", word);
}

/* Before the first thread and before any input is open. */
static enum status start_spawner(struct err *e)
{
    const struct child_opt o = {.env = (const char *const *)environ,
                                .tmpdir = getenv("TMPDIR"),
                                .libexec = NNFERRY_LIBEXEC "/nnferry-worker",
                                .image = nnferry_worker_image,
                                .image_bytes = (size_t)((uintptr_t)nnferry_worker_image_end -
                                                        (uintptr_t)nnferry_worker_image)};
    return child_start(&o, e);
}

static enum status run(struct args *a, int argc, const char **argv, struct err *e)
{
    static const struct command top = {.name = "nnferry", .args = "COMMAND", .summary = ""};
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        print_fmt("nnferry %s\n", NNFERRY_VERSION);
        return ST_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        help_print(argc > 2 ? command_find(str_from(argv[2])) : NULL);
        return argc > 1 ? ST_OK : ST_USAGE;
    }
    a->cmd = &top;
    const struct command *c = command_find(str_from(word));
    if (!c)
        return no_command(word, e);
    TRY(args_parse(a, c, argc - 1, argv + 1, e));
    if (a->set[OPT_VERSION]) {
        print_fmt("nnferry %s\n", NNFERRY_VERSION);
        return ST_OK;
    }
    if (a->set[OPT_HELP]) {
        help_print(c);
        return ST_OK;
    }
    host_talk(a);
    if (c->devices)
        TRY(start_spawner(e));
    TRY(host_setup(a, e));
    return c->run(a, e);
}

int main(int argc, char **argv)
{
    static struct args a;
    struct err e = {0}, out_err = {0};
    host_signals();
#ifdef NNFERRY_FAULT
    const char *nth = getenv("NNFERRY_FAULT_ALLOC"), *forever = getenv("NNFERRY_FAULT_FOREVER");
    if (nth)
        mem_fault_at(strtoull(nth, NULL, 10), forever != NULL);
#endif
    enum status st = run(&a, argc, (const char **)(uintptr_t)argv, &e);
    if (a.set[OPT_JSON] && a.cmd && !a.set[OPT_HELP] && !a.set[OPT_VERSION])
        print_json_end(st, &e);
    child_stop();
    enum status end = print_end(&out_err);
    if (st != ST_OK && e.reason[0])
        host_error(&a, &e);
    if (st == ST_OK && end != ST_OK) {
        st = end;
        e = out_err;
        host_error(&a, &e);
    }
    return st == ST_SIGNAL ? ST_SIGNAL + e.signal : (int)st;
}
