/* A worker that dies, hangs, lies or cheats: validate answers the same from the native executor,
 * with a note, and with a device named it is ST_DEVICE. The false worker is this program run again
 * with the cheat's name; it speaks wire.h and computes with the native kernels.
 */
#include "base/child.h"
#include "base/mem.h"
#include "tests/lib/twins.h"
#include "validate/devices.h"
#include "validate/native.h"
#include "validate/validate.h"
#include "worker/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the false worker ---- */

static union {
    struct wire_head head;
    uint8_t bytes[3 * WIRE_MAX];
} in, out;
static const char *cheat;
static uint8_t *mem;
static uint64_t mem_bytes;
static int mem_fd = -1;
static unsigned n_runs;

static bool is(const char *name)
{
    return strcmp(cheat, name) == 0;
}

static void say(const void *payload, uint32_t n, int32_t status)
{
    size_t total = sizeof out.head + n;
    out.head = in.head;
    out.head.n_bytes = n;
    out.head.status = status;
    snprintf(out.head.why, sizeof out.head.why, "%s", status ? "false worker" : "");
    memcpy(out.bytes + sizeof out.head, payload, n);
    if (in.head.type == WIRE_RUN) {
        if (is("over-long"))
            total += 64;
        if (is("long-header"))
            out.head.n_bytes += 1000000;
        if (is("huge"))
            total = 2 * WIRE_MAX;
        if (is("short"))
            total -= 4;
        if (is("empty"))
            total = 0;
        if (is("wrong-seq"))
            out.head.seq++;
        if (is("wrong-magic"))
            out.head.magic ^= 1;
        if (is("wrong-type"))
            out.head.type = WIRE_BUILD;
        if (is("endless-text"))
            memset(out.head.why, 'x', sizeof out.head.why);
        if (is("twice"))
            if (send(WIRE_FD, out.bytes, total, 0) < 0)
                _exit(9);
    }
    if (send(WIRE_FD, out.bytes, total, MSG_NOSIGNAL) < 0)
        _exit(9);
}

static void listen_(void)
{
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {in.bytes, sizeof in};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.room,
                       .msg_controllen = sizeof control.room};
    if (recvmsg(WIRE_FD, &m, 0) < (ssize_t)sizeof in.head)
        _exit(0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c)
        memcpy(&mem_fd, CMSG_DATA(c), sizeof mem_fd);
}

static void false_run(void)
{
    struct wire_run w;
    struct wire_ran ran = {1000, 0};
    memcpy(&w, in.bytes + sizeof in.head, sizeof w);
    n_runs++;
    if (is("killed"))
        raise(SIGKILL);
    if (is("crashes"))
        raise(SIGSEGV);
    if (is("leaves"))
        _exit(0);
    if (is("hangs"))
        pause();
    if (is("hangs-later") && n_runs > 20)
        pause();
    if (is("error")) {
        say(&ran, sizeof ran, -5);
        return;
    }
    /* The seals must hold: a window that shrinks under main is a SIGBUS there. */
    if (is("shrinks") && (ftruncate(mem_fd, 0) == 0 || errno != EPERM))
        raise(SIGABRT);
    if (is("grows") && (ftruncate(mem_fd, (off_t)mem_bytes * 2) == 0 || errno != EPERM))
        raise(SIGABRT);
    nnf_run_f64((int)w.kernel, w.p, mem + w.in, mem + w.out, 0, (int64_t)w.n_items);
    uint8_t *result = mem + w.out;
    double *number = (double *)(void *)result;
    size_t n = w.out_bytes / 8;
    if (is("late-flip"))
        ran.sum = wire_sum(result, w.out_bytes);
    if (is("late-flip") || (is("flip") && n_runs % 3 == 1))
        result[w.out_bytes / 2] ^= 0x40;
    if (is("flip-exponent") && w.kernel == NNF_LINEAR)
        result[8 * (n / 2) + 7] ^= 0x10; /* one value of one side */
    if (is("zeros"))
        memset(result, 0, w.out_bytes);
    if (is("all-equal") && w.kernel == NNF_COMPARE)
        for (size_t i = 0; i < n; i += NNF_COMPARE_WIDTH)
            number[i + NNF_C_MAX_ABS] = number[i + NNF_C_FAILS] = number[i + NNF_C_SQUARES] = 0;
    if (is("counts") && w.kernel == NNF_COMPARE)
        number[NNF_C_FAILS] = 1e300;
    if (is("nan"))
        number[n - 1] = NAN;
    if (is("writes-input"))
        memset(mem + w.in, 0xff, w.in_bytes);
    if (!is("late-flip"))
        ran.sum = wire_sum(result, w.out_bytes);
    if (is("time"))
        ran.kernel_ns = ~UINT64_C(0);
    say(&ran, sizeof ran, 0);
}

static int false_worker(void)
{
    static struct wire_vendors v;
    static struct wire_devices d;
    static struct wire_built b;
    in.head = (struct wire_head){.magic = WIRE_MAGIC, .version = WIRE_VERSION, .type = WIRE_HELLO};
    struct wire_hello hello = {NNF_ABI_VERSION, (uint32_t)getpid(), sizeof(struct wire_head),
                               sizeof(struct wire_run)};
    if (is("no-hello"))
        pause();
    if (is("dies-at-once")) {
        fprintf(stderr, "these are\x1b[31m my last words\n");
        return 3;
    }
    if (is("other-build"))
        hello.run_bytes++;
    say(&hello, sizeof hello, 0);
    snprintf(v.loader, sizeof v.loader, "libfalse.so");
    snprintf(v.vendor[0].icd, sizeof v.vendor[0].icd, "/false.icd");
    snprintf(v.vendor[0].library, sizeof v.vendor[0].library, "libfalse.so");
    v.n = is("many-vendors") ? 0xffffffffu : 1;
    if (is("endless-vendor"))
        memset(v.vendor[0].library, 'x', sizeof v.vendor[0].library);
    d.n_platforms = 1;
    d.n = is("many-devices") ? WIRE_MAX_DEVICES + 1 : is("no-devices") ? 0 : 1;
    snprintf(d.device[0].name, sizeof d.device[0].name, "False\x1b[2J device");
    if (is("endless-name"))
        memset(d.device[0].name, 'x', sizeof d.device[0].name);
    d.device[0].type = 4;
    d.device[0].fp64 = d.device[0].little_endian = d.device[0].available = 1;
    d.device[0].compiler = !is("no-compiler");
    d.device[0].max_alloc_bytes = UINT64_C(1) << 40;
    for (unsigned opened = 0;;) {
        listen_();
        switch (in.head.type) {
        case WIRE_VENDORS:
            say(&v, sizeof v, 0);
            break;
        case WIRE_OPEN:
            if (is("crashes-probing"))
                raise(SIGSEGV);
            if (is("hangs-probing"))
                pause();
            opened++;
            say(&d, sizeof d, 0);
            break;
        case WIRE_MEMORY: {
            struct wire_memory m;
            memcpy(&m, in.bytes + sizeof in.head, sizeof m);
            mem_bytes = m.n_bytes;
            mem = mmap(NULL, mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd, 0);
            if (mem == MAP_FAILED)
                return 5;
            say("", 0, 0);
            break;
        }
        case WIRE_BUILD:
            if (is("build-fails")) {
                memset(b.log, 'x', sizeof b.log); /* and its log does not end */
                say(&b, sizeof b, -11);
                break;
            }
            say(&b, sizeof b, 0);
            break;
        case WIRE_RUN:
            false_run();
            break;
        default:
            return 0;
        }
    }
}

/* ---- the tests ---- */

static const char *self;

static void with_cheat(const char *name)
{
    struct err e = {0};
    struct child_opt o = {.image_path = self, .image_arg = name};
    assert_int_equal(child_start(&o, &e), ST_OK);
}

static enum status run(struct twin_net *t, struct twin_net *f, const char *device, int ms,
                       struct validate_report *r, struct err *e)
{
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .device = device,
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN,
                             .deadline_ms = ms};
    return validate_run(&t->plan, &t->layers, "pytorch", &f->plan, &f->layers, "flax", pair, &o, r,
                        e);
}

static void honest_false_worker_is_believed(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r;
    struct err e = {0};
    static const char *const fair[] = {"honest", "shrinks", "grows"};
    for (size_t i = 0; i < sizeof fair / sizeof fair[0]; i++) {
        twin_torch(&t);
        twin_flax(&f);
        with_cheat(fair[i]);
        assert_int_equal(run(&t, &f, "0", 20000, &r, &e), ST_OK);
        assert_int_equal(r.overall, VERDICT_EQUAL);
        assert_false(r.fallback);
        assert_true(r.kernel_ns > 0);
        assert_true(str_find(r.executor, '\x1b', 0) == r.executor.n);
        validate_free(&r);
        child_stop();
        twin_free(&t);
        twin_free(&f);
    }
}

static const struct {
    const char *cheat, *code;
    bool slow; /* needs its deadline to pass */
} cheats[] = {
    {"no-hello", "device-hung", true},
    {"dies-at-once", "device-died", false},
    {"other-build", "device-lied", false},
    {"many-vendors", "device-lied", false},
    {"endless-vendor", "device-lied", false},
    {"many-devices", "no-device", false},
    {"no-devices", "no-device", false},
    {"endless-name", "no-device", false},
    {"no-compiler", "no-device", false},
    {"crashes-probing", "no-device", false},
    {"hangs-probing", "no-device", true},
    {"build-fails", "device-failed", false},
    {"killed", "device-died", false},
    {"crashes", "device-died", false},
    {"leaves", "device-died", false},
    {"hangs", "device-hung", true},
    {"hangs-later", "device-hung", true},
    {"error", "device-failed", false},
    {"over-long", "device-lied", false},
    {"long-header", "device-lied", false},
    {"huge", "device-lied", false},
    {"short", "device-lied", false},
    {"empty", NULL, false},
    {"wrong-seq", "device-lied", false},
    {"wrong-magic", "device-lied", false},
    {"wrong-type", "device-lied", false},
    {"endless-text", "device-lied", false},
    {"twice", "device-lied", false},
    {"late-flip", "device-lied", false},
    {"flip", "device-lied", false},
    {"flip-exponent", "device-lied", false},
    {"zeros", "device-lied", false},
    {"counts", "device-lied", false},
    {"nan", "device-lied", false},
    {"time", "device-lied", false},
};

/* Whatever it does: the native answer, a note; an error when the device was named. */
static void bad_workers_change_nothing(void **s)
{
    (void)s;
    for (size_t i = 0; i < sizeof cheats / sizeof cheats[0]; i++) {
        struct twin_net t, f;
        struct validate_report r;
        struct err e = {0};
        int ms = cheats[i].slow ? 1500 : 20000;
        twin_torch(&t);
        twin_flax(&f);
        with_cheat(cheats[i].cheat);
        enum status st = run(&t, &f, NULL, ms, &r, &e);
        if (st != ST_OK || r.overall != VERDICT_EQUAL || !r.fallback)
            print_error("%s: %d %s, overall %d, fallback %d\n", cheats[i].cheat, (int)st, e.reason,
                        (int)r.overall, (int)r.fallback);
        assert_int_equal(st, ST_OK);
        assert_int_equal(r.overall, VERDICT_EQUAL);
        assert_int_equal(r.n_equal, L_N);
        assert_true(r.fallback && r.note.n > 0);
        assert_true(str_find(r.note, '\x1b', 0) == r.note.n);
        validate_free(&r);
        child_stop();
        with_cheat(cheats[i].cheat);
        st = run(&t, &f, "gpu", ms, &r, &e);
        print_message("%-16s %s: %s\n", cheats[i].cheat, e.code ? e.code : "", e.reason);
        assert_int_equal(st, ST_DEVICE);
        if (cheats[i].code && strcmp(cheats[i].cheat, "no-compiler") != 0)
            assert_string_equal(e.code, cheats[i].code);
        validate_free(&r);
        child_stop();
        twin_free(&t);
        twin_free(&f);
    }
    assert_int_equal(mem_in_use(), 0);
}

/* The other lie: calling equal what is not. */
static void a_lie_of_equality_is_caught(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r;
    struct err e = {0};
    twin_torch(&t);
    twin_flax(&f);
    twin_data(&f, L_BN, LEAF_VAR)[3] *= 1.01f;
    with_cheat("all-equal");
    assert_int_equal(run(&t, &f, NULL, 20000, &r, &e), ST_OK);
    assert_int_equal(r.overall, VERDICT_DIFFERS);
    assert_int_equal(r.layer[L_BN].verdict, VERDICT_DIFFERS);
    assert_int_equal(r.n_differs, 1);
    assert_true(r.fallback);
    validate_free(&r);
    child_stop();
    twin_free(&t);
    twin_free(&f);
}

static void no_spawner_is_told(void **s)
{
    (void)s;
    struct devices *d = calloc(1, sizeof *d);
    struct err e = {0};
    assert_int_equal(devices_list(&(struct devices_opt){0}, d, &e), ST_DEVICE);
    assert_string_equal(e.code, "device-spawn");
    devices_free(d);
    free(d);
    struct child_opt o = {.image_path = "/nonexistent/worker"};
    assert_int_equal(child_start(&o, &e), ST_OK);
    struct child *c;
    struct buf tried = BUF_INIT;
    assert_int_equal(child_open(NULL, 1000, &c, &tried, &e), ST_DEVICE);
    assert_true(tried.n > 0);
    buf_free(&tried);
    child_stop();
}

/* Each way that can fail is told, and the next one tried. */
static void ways_are_tried_in_turn(void **s)
{
    (void)s;
    struct err e = {0};
    struct child *c;
    struct buf tried = BUF_INIT;
    static const char noise[] = "not a program";
    struct child_opt o = {
        .image = noise, .image_bytes = sizeof noise, .libexec = "/nonexistent", .tmpdir = "/tmp"};
    assert_int_equal(child_start(&o, &e), ST_OK);
    assert_int_equal(child_open(NULL, 3000, &c, &tried, &e), ST_DEVICE);
    print_message("%.*s", (int)tried.n, (const char *)tried.p);
    struct str t = buf_as_str(&tried);
    assert_true(str_find_str(t, STR("worker from memory"), 0) < t.n);
    assert_true(str_find_str(t, STR("worker from libexec: /nonexistent: No such file"), 0) < t.n);
    assert_true(str_find_str(t, STR("worker from the temporary folder"), 0) < t.n);
    buf_free(&tried);
    child_stop();
}

int main(int argc, char **argv)
{
    static char path[512];
    if (argc > 1) {
        cheat = argv[1];
        _exit(false_worker());
    }
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return 1;
    self = path;
    struct err e = {0};
    struct child *c;
    with_cheat("honest");
    if (child_open(NULL, 20000, &c, NULL, &e) != ST_OK) {
        child_stop(); /* an emulator runs no other program */
        printf("this program cannot be run as a worker here: %s\n", e.reason);
        return 77;
    }
    child_close(c);
    child_stop();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_false_worker_is_believed),
        cmocka_unit_test(bad_workers_change_nothing),
        cmocka_unit_test(a_lie_of_equality_is_caught),
        cmocka_unit_test(no_spawner_is_told),
        cmocka_unit_test(ways_are_tried_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
