/* See host.h. */
#include "cli/host.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/out.h"
#include "base/par.h"
#include "base/stop.h"
#include "cli/command.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FLOOR_BYTES (UINT64_C(48) << 20)
#define OWN_BYTES (UINT64_C(8) << 20) /* the program, its stacks, its libraries */

struct host host;

/* First line of a small host file; false when it cannot be read. */
static bool host_line(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t k = read(fd, out, n - 1);
    close(fd);
    if (k <= 0)
        return false;
    out[k] = 0;
    out[strcspn(out, "\n")] = 0;
    return true;
}

static uint64_t host_number(const char *path)
{
    char line[64];
    uint64_t v;
    return host_line(path, line, sizeof line) && str_u64(str_from(line), &v) ? v : UINT64_MAX;
}

/* The folder of our cgroup under the given controller ("" = the unified hierarchy). */
static bool cgroup_dir(const char *controller, char *out, size_t n)
{
    char text[4096];
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t k = read(fd, text, sizeof text - 1);
    close(fd);
    struct str rest = {text, k > 0 ? (size_t)k : 0}, line, id, names;
    while (str_split(&rest, '\n', &line)) {
        struct str path = line;
        if (!str_split(&path, ':', &id) || !path.p || !str_split(&path, ':', &names) || !path.p)
            continue;
        if (str_is(names, controller)) {
            int m = snprintf(out, n, "/sys/fs/cgroup%s%s%.*s", controller[0] ? "/" : "", controller,
                             STR_ARG(path));
            return m > 0 && (size_t)m < n;
        }
    }
    return false;
}

static uint64_t cgroup_memory(void)
{
    char dir[1024], file[1100];
    uint64_t least = UINT64_MAX, v;
    static const struct {
        const char *controller, *file;
    } kinds[] = {{"", "memory.max"}, {"memory", "memory.limit_in_bytes"}};
    for (size_t i = 0; i < 2; i++) {
        if (!cgroup_dir(kinds[i].controller, dir, sizeof dir))
            continue;
        /* limits of the parents hold too; inside a container the path may only exist as "/" */
        for (;;) {
            snprintf(file, sizeof file, "%s/%s", dir, kinds[i].file);
            if ((v = host_number(file)) < least)
                least = v;
            char *slash = strrchr(dir, '/');
            if (!slash || slash - dir <= (ptrdiff_t)strlen("/sys/fs/cgroup"))
                break;
            *slash = 0;
        }
        snprintf(file, sizeof file, "/sys/fs/cgroup%s%s/%s", kinds[i].controller[0] ? "/" : "",
                 kinds[i].controller, kinds[i].file);
        if ((v = host_number(file)) < least)
            least = v;
    }
    return least;
}

/* What batch systems and ulimit leave us of address space or private memory. */
static uint64_t limit_memory(void)
{
    uint64_t least = UINT64_MAX;
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY)
        least = r.rlim_cur;
    if (getrlimit(RLIMIT_DATA, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur < least)
        least = r.rlim_cur;
    return least;
}

static uint64_t default_memory(void)
{
    uint64_t least = UINT64_C(1) << 30, cg = cgroup_memory();
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (cg != UINT64_MAX && cg / 2 < least)
        least = cg / 2;
    if (pages > 0 && page > 0 && (uint64_t)pages * (uint64_t)page / 4 < least)
        least = (uint64_t)pages * (uint64_t)page / 4;
    return least < FLOOR_BYTES ? FLOOR_BYTES : least;
}

static void set_threads(const struct args *a)
{
    static const char *const variables[] = {"SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"};
    host.threads = par_host_threads(&host.why);
    if (a->set[OPT_THREADS]) {
        host.threads = a->number[OPT_THREADS] < 1      ? 1
                       : a->number[OPT_THREADS] > 4096 ? 4096
                                                       : (int)a->number[OPT_THREADS];
        host.why = "--threads";
    } else {
        const char *who = NULL;
        for (size_t i = 0; i < 2; i++) {
            const char *v = getenv(variables[i]);
            struct str rest = str_from(v), first;
            uint64_t n;
            if (v && str_split(&rest, ',', &first) && str_u64(first, &n) && n > 0 &&
                n < (uint64_t)host.threads) {
                host.threads = (int)n;
                who = variables[i];
            }
        }
        if (who) {
            host.why = who;
            log_note("%s lowers the number of threads to %d", who, host.threads);
        }
    }
    par_set_threads(host.threads);
}

enum status host_setup(const struct args *a, struct err *e)
{
    host.memory = a->set[OPT_MEMORY] ? a->number[OPT_MEMORY] : default_memory();
    if (host.memory < FLOOR_BYTES)
        return err_set(e, ST_USAGE, NULL, "--memory must be at least 48M");
    /* address space or private memory that the session limits is not all for tensors */
    uint64_t limit = limit_memory(), own = limit / 8 > OWN_BYTES ? limit / 8 : OWN_BYTES;
    uint64_t room = limit > FLOOR_BYTES + own ? limit - own : FLOOR_BYTES;
    if (a->set[OPT_MEMORY] && room < host.memory)
        log_note("--memory is lowered to %llu bytes by a limit of this session (ulimit)",
                 (unsigned long long)room);
    if (room < host.memory)
        host.memory = room;
    mem_set_ceiling(host.memory);
    set_threads(a);
    if (a->set[OPT_IO])
        file_set_io(strcmp(a->text[OPT_IO], "mmap") == 0   ? IO_MMAP
                    : strcmp(a->text[OPT_IO], "read") == 0 ? IO_READ
                                                           : IO_AUTO);
    if (a->set[OPT_SIMD] && strcmp(a->text[OPT_SIMD], "scalar") == 0)
        cpu_limit(0);
    for (size_t i = 0; a->many[OPT_ROOT][i]; i++)
        dir_add_root(a->many[OPT_ROOT][i]);
    spool_set_dir(a->text[OPT_TMPDIR]);
    return ST_OK;
}

/* ---- signals ---- */

static void on_stop(int sig)
{
    stop_request(sig);
}

void host_signals(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR1};
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sigemptyset(&sa.sa_mask);
    sa.sa_handler = on_stop;
    /* taken even where the parent left them ignored: batch systems do, and still mean it. SIGHUP
     * and SIGINT stay ignored under nohup and in background jobs. */
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        struct sigaction old;
        if ((stops[i] == SIGHUP || stops[i] == SIGINT) && sigaction(stops[i], NULL, &old) == 0 &&
            old.sa_handler == SIG_IGN)
            continue;
        sigaction(stops[i], &sa, NULL);
    }
    sa.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &sa, NULL);
    sigaction(SIGXFSZ, &sa, NULL);
}

/* ---- messages ---- */

static struct {
    bool quiet, verbose, json, progress, terminal, color;
    uint64_t last_ns, last_tenth;
    bool drawn;
} talk;

static void put(struct str s)
{
    while (s.n) {
        ssize_t k = write(STDERR_FILENO, s.p, s.n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return;
        s = str_sub(s, (size_t)k, s.n);
    }
}

static void wipe(void)
{
    if (talk.drawn)
        put(STR("\r\033[K"));
    talk.drawn = false;
}

static void json_line(const char *level, const char *text)
{
    struct buf b = BUF_INIT;
    struct json_w w;
    json_w_init(&w, &b, 0);
    json_w_object(&w);
    json_w_key(&w, STR("level"));
    json_w_str(&w, str_from(level));
    json_w_key(&w, STR("message"));
    json_w_str(&w, str_from(text));
    json_w_object_end(&w);
    buf_u8(&b, '\n');
    put(buf_as_str(&b));
    buf_free(&b);
}

static void on_line(void *ctx, enum log_level level, const char *line)
{
    static const char *const names[] = {"warning", "note", "detail"};
    (void)ctx;
    if (talk.quiet || (level == LOG_DETAIL && !talk.verbose))
        return;
    wipe();
    if (talk.json) {
        json_line(names[level], line);
        return;
    }
    char text[4096];
    const char *word = level != LOG_WARN ? ""
                       : talk.color      ? "\033[33mwarning:\033[m "
                                         : "warning: ";
    int n = snprintf(text, sizeof text, "nnferry: %s%s\n", word, line);
    if (n > 0)
        put((struct str){text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1});
}

static void on_progress(void *ctx, uint64_t done, uint64_t total, const char *tensor)
{
    struct timespec ts;
    char text[256];
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    uint64_t step = talk.terminal ? 100000000u : UINT64_C(10000000000);
    if (talk.last_ns == 0)
        talk.last_ns = now;
    if (now - talk.last_ns < step || total == 0)
        return;
    talk.last_ns = now;
    int percent = (int)((double)done * 100.0 / (double)total);
    if (talk.json) {
        snprintf(text, sizeof text, "{\"level\":\"progress\",\"done\":%llu,\"total\":%llu}\n",
                 (unsigned long long)done, (unsigned long long)total);
    } else if (talk.terminal) {
        char name[64];
        err_escape(tensor ? tensor : "", tensor ? strlen(tensor) : 0, name, sizeof name);
        snprintf(text, sizeof text, "\r\033[K%3d %% %s", percent, name);
        talk.drawn = true;
    } else {
        snprintf(text, sizeof text, "nnferry: %d %%\n", percent);
    }
    put(str_from(text));
}

/* Whether what goes to fd is coloured: as --color says, else on a terminal that can show it. */
static bool wants_color(const struct args *a, int fd)
{
    const char *c = a->text[OPT_COLOR], *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if (c && strcmp(c, "auto") != 0)
        return strcmp(c, "always") == 0;
    return isatty(fd) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

void host_talk(const struct args *a)
{
    struct log_sink s = {NULL, on_line, NULL};
    const char *p = a->text[OPT_PROGRESS];
    talk.quiet = a->set[OPT_QUIET];
    talk.verbose = a->set[OPT_VERBOSE];
    talk.json = a->text[OPT_LOG] && strcmp(a->text[OPT_LOG], "json") == 0;
    talk.terminal = isatty(STDERR_FILENO) && !talk.json;
    talk.color = wants_color(a, STDERR_FILENO);
    print_set_color(wants_color(a, STDOUT_FILENO) && !a->set[OPT_JSON]);
    talk.progress = p && strcmp(p, "always") == 0  ? true
                    : p && strcmp(p, "never") == 0 ? false
                                                   : !talk.quiet;
    if (talk.progress)
        s.progress = on_progress;
    log_set_sink(&s);
}

void host_error(const struct args *a, const struct err *e)
{
    char line[2048], text[2100];
    (void)a;
    wipe();
    err_line(e, line, sizeof line);
    if (talk.json) {
        json_line("error", line);
        return;
    }
    const char *on = talk.color ? "\033[31m" : "", *off = talk.color ? "\033[m" : "";
    int n = snprintf(text, sizeof text, "%snnferry:%s %s\n", on, off, line);
    if (n > 0)
        put((struct str){text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1});
}
