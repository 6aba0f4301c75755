/* Publishing: what a target's name holds before and after, what is refused, what is left. */
#include "base/mem.h"
#include "base/out.h"
#include "base/out_temp.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static struct err e;

static char *in_dir(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void holds(const char *name, const char *text)
{
    char got[256] = "";
    FILE *f = fopen(in_dir(name), "r");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got - 1, f);
    got[n] = 0;
    fclose(f);
    assert_string_equal(got, text);
}

static int entries(void)
{
    DIR *d = opendir(dir);
    int n = -2;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct out *begin(const char *name, bool force, bool is_dir)
{
    struct out *o;
    struct out_opt opt = {force, is_dir};
    assert_int_equal(out_begin(in_dir(name), &opt, &o, &e), ST_OK);
    return o;
}

static void add_text(struct out *o, const char *rel, const char *text)
{
    int id;
    assert_int_equal(out_add(o, str_from(rel), strlen(text), &id, &e), ST_OK);
    assert_int_equal(out_pwrite(o, id, text, strlen(text), 0, &e), ST_OK);
}

static void a_file_appears_whole(void **state)
{
    (void)state;
    struct out *o = begin("a", false, false);
    add_text(o, "", "hello");
    assert_int_equal(path_kind(in_dir("a")), PATH_NONE);
    assert_int_equal(path_kind(out_temp_path(o)), PATH_FILE);
    assert_int_equal(out_sync(o, &e), ST_OK);
    assert_int_equal(path_kind(in_dir("a")), PATH_NONE);
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    holds("a", "hello");
    assert_int_equal(entries(), 1);
    unlink(in_dir("a"));
}

/* Room taken ahead of a growing file's end is given back. */
static void grow(bool synced)
{
    static uint8_t piece[(3u << 20) + 1];
    struct out *o = begin("g", false, false);
    struct stat st;
    uint64_t at = 0;
    int id;
    assert_int_equal(out_add(o, STR(""), OUT_GROWS, &id, &e), ST_OK);
    for (int i = 0; i < 6; i++, at += sizeof piece)
        assert_int_equal(out_pwrite(o, id, piece, sizeof piece, at, &e), ST_OK);
    assert_int_equal(out_truncate(o, id, at, &e), ST_OK);
    if (synced) {
        out_write_back(o);
        out_sync_begin(o);
    }
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    assert_int_equal(stat(in_dir("g"), &st), 0);
    assert_int_equal(st.st_size, at);
    assert_true((uint64_t)st.st_blocks * 512 < at + ((uint64_t)1 << 20));
    unlink(in_dir("g"));
}

static void growing(void **state)
{
    (void)state;
    grow(false);
    grow(true);
}

static void what_was_written_reads_back(void **state)
{
    (void)state;
    struct out *o = begin("a", false, false);
    char got[8] = "";
    int id;
    assert_int_equal(out_add(o, STR(""), OUT_GROWS, &id, &e), ST_OK);
    assert_int_equal(out_pwrite(o, id, "hello", 5, 3, &e), ST_OK);
    assert_int_equal(out_pread(o, id, got, 5, 3, &e), ST_OK);
    assert_string_equal(got, "hello");
    assert_int_equal(out_pread(o, id, got, 5, 4, &e), ST_OUTPUT); /* one byte short */
    assert_string_equal(e.code, "readback");
    assert_int_equal(out_pread(o, id + 1, got, 1, 0, &e), ST_BUG);
    out_end(o);
}

/* What a sync under way does to the times of a file is no change of ours; to others' it is. */
static void times_that_move(void **state)
{
    const struct timespec t[2] = {{1, 0}, {1, 0}};
    (void)state;
    put("a", "text");
    for (int ours = 0; ours < 2; ours++) {
        struct file *f;
        file_set_ours(ours);
        assert_int_equal(file_open(in_dir("a"), &f, &e), ST_OK);
        file_set_ours(false);
        assert_int_equal(file_check(f, &e), ST_OK);
        assert_int_equal(utimensat(AT_FDCWD, in_dir("a"), ours ? NULL : t, 0), 0);
        assert_int_equal(file_check(f, &e), ours ? ST_OK : ST_INPUT);
        assert_int_equal(truncate(in_dir("a"), 3 - ours), 0);
        e = (struct err){0};
        assert_int_equal(file_check(f, &e), ST_INPUT);
        assert_string_equal(e.code, "input-changed");
        file_close(f);
    }
    unlink(in_dir("a"));
}

static void unpublished_leaves_nothing(void **state)
{
    (void)state;
    struct out *o = begin("a", false, false);
    add_text(o, "", "hello");
    out_end(o);
    assert_int_equal(entries(), 0);
    o = begin("d", false, true);
    add_text(o, "x/y/z", "hello");
    out_end(o);
    assert_int_equal(entries(), 0);
}

static void an_existing_target_is_kept(void **state)
{
    (void)state;
    struct out *o;
    struct out_opt opt = {false, false}, dir_opt = {true, true};
    put("a", "old");
    assert_int_equal(out_begin(in_dir("a"), &opt, &o, &e), ST_OUTPUT);
    assert_string_equal(e.code, "exists");
    assert_int_equal(out_begin(in_dir("a"), &dir_opt, &o, &e), ST_OUTPUT); /* no folder */
    unlink(in_dir("a"));
    /* made by someone else meanwhile */
    o = begin("a", false, false);
    add_text(o, "", "mine");
    put("a", "theirs");
    assert_int_equal(out_sync(o, &e), ST_OK);
    assert_int_equal(out_publish(o, &e), ST_OUTPUT);
    assert_string_equal(e.code, "exists");
    out_end(o);
    holds("a", "theirs");
    assert_int_equal(entries(), 1);
    unlink(in_dir("a"));
}

static void force_replaces(void **state)
{
    (void)state;
    put("a", "old");
    struct out *o = begin("a", true, false);
    add_text(o, "", "new");
    holds("a", "old");
    out_sync_begin(o);
    assert_int_equal(out_sync(o, &e), ST_OK);
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    holds("a", "new");
    o = begin("a", true, false);
    add_text(o, "", "newer");
    out_sync_begin(o); /* and given up */
    out_end(o);
    holds("a", "new");
    unlink(in_dir("a"));
    mkdir(in_dir("d"), 0777);
    put("d/left", "old");
    o = begin("d", true, true);
    add_text(o, "sub/new", "new");
    out_sync_begin(o); /* out_publish waits for it */
    holds("d/left", "old");
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    holds("d/sub/new", "new");
    assert_int_equal(path_kind(in_dir("d/left")), PATH_NONE);
    assert_int_equal(entries(), 1);
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(out_remove_tree(fd, "d"), 0);
    close(fd);
}

/* Every renameat of this program passes here; lost: it is done, and its answer says otherwise, as
 * over NFS when the first answer was lost. */
static bool lost;

int renameat(int from, const char *a, int to, const char *b)
{
    int rc = (int)syscall(SYS_renameat2, from, a, to, b, 0);
    if (rc == 0 && lost) {
        errno = ENOENT;
        rc = -1;
    }
    return rc;
}

static void an_answer_is_lost(void **state)
{
    (void)state;
    put("a", "old");
    struct out *o = begin("a", true, false);
    add_text(o, "", "new");
    lost = true;
    assert_int_equal(out_publish(o, &e), ST_OK);
    lost = false;
    out_end(o);
    holds("a", "new");
    assert_int_equal(entries(), 1);
    o = begin("a", true, false); /* and where the rename was indeed not done */
    add_text(o, "", "newer");
    assert_int_equal(mkdir(in_dir("b"), 0777), 0);
    assert_int_equal(rename(in_dir("a"), in_dir("b/a")), 0);
    assert_int_equal(mkdir(in_dir("a"), 0777), 0);
    assert_int_equal(out_publish(o, &e), ST_OUTPUT);
    out_end(o);
    holds("b/a", "new");
    assert_int_equal(rmdir(in_dir("a")), 0);
    unlink(in_dir("b/a"));
    assert_int_equal(rmdir(in_dir("b")), 0);
    assert_int_equal(entries(), 0);
}

static void a_link_is_replaced_not_followed(void **state)
{
    (void)state;
    put("real", "precious");
    assert_int_equal(symlink("real", in_dir("a")), 0);
    struct out *o = begin("a", true, false);
    add_text(o, "", "new");
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    holds("real", "precious");
    holds("a", "new");
    unlink(in_dir("a"));
    unlink(in_dir("real"));
}

static void output_is_input(void **state)
{
    (void)state;
    struct file *f;
    put("in", "input");
    assert_int_equal(symlink("in", in_dir("soft")), 0);
    assert_int_equal(link(in_dir("in"), in_dir("hard")), 0);
    assert_int_equal(file_open(in_dir("in"), &f, &e), ST_OK);
    static const char *const names[] = {"in", "soft", "hard"};
    for (int i = 0; i < 3; i++) {
        struct out *o = begin(names[i], true, false);
        assert_int_equal(out_not_input(o, f, &e), ST_INPUT);
        assert_string_equal(e.code, "output-is-input");
        out_end(o);
    }
    struct out *o = begin("other", true, false);
    assert_int_equal(out_not_input(o, f, &e), ST_OK);
    out_end(o);
    file_close(f);
    unlink(in_dir("soft"));
    unlink(in_dir("hard"));
    unlink(in_dir("in"));
    /* a folder that holds the input */
    mkdir(in_dir("d"), 0777);
    put("d/in", "input");
    assert_int_equal(file_open(in_dir("d/in"), &f, &e), ST_OK);
    o = begin("d", true, true);
    assert_int_equal(out_not_input(o, f, &e), ST_INPUT);
    out_end(o);
    file_close(f);
    holds("d/in", "input");
    unlink(in_dir("d/in"));
    rmdir(in_dir("d"));
    assert_int_equal(entries(), 0);
}

static void many_files_few_descriptors(void **state)
{
    (void)state;
    struct out *o = begin("d", false, true);
    char name[32], text[32];
    int id[200];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "part-%03d", i);
        assert_int_equal(out_add(o, str_from(name), 0, &id[i], &e), ST_OK);
    }
    for (int i = 199; i >= 0; i--) {
        snprintf(text, sizeof text, "number %d", i);
        assert_int_equal(out_pwrite(o, id[i], text, strlen(text), 0, &e), ST_OK);
    }
    assert_int_equal(out_truncate(o, id[7], 6, &e), ST_OK);
    assert_int_equal(out_sync(o, &e), ST_OK);
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    holds("d/part-000", "number 0");
    holds("d/part-199", "number 199");
    holds("d/part-007", "number");
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(out_remove_tree(fd, "d"), 0);
    close(fd);
}

/* Every pwrite of this program passes here, and stays while the gate is shut. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int inside;

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
    inside++;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    inside--;
    return syscall(SYS_pwrite64, fd, p, n, off);
}

static int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

struct one_write {
    struct out *o;
    int id;
    enum status st;
};

static void *write_one(void *ctx)
{
    struct one_write *w = ctx;
    struct err own;
    w->st = out_pwrite(w->o, w->id, "text", 4, 0, &own);
    return NULL;
}

/* Threads that write to more files at once than may be open wait for each other: what they leave
 * open would be missed by the readers for good. */
static void many_writers_few_descriptors(void **state)
{
    const struct timespec pause = {0, 1000000};
    struct rlimit was, few;
    struct one_write w[12];
    pthread_t thread[12];
    char name[32];
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    struct out *o = begin("d", false, true);
    few = was;
    few.rlim_cur = 16; /* a quarter of it is for output */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "part-%d", i);
        w[i] = (struct one_write){.o = o};
        assert_int_equal(out_add(o, str_from(name), 0, &w[i].id, &e), ST_OK);
    }
    int open_now = descriptors();
    pthread_mutex_lock(&gate);
    for (int i = 0; i < 12; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, write_one, &w[i]), 0);
    while (inside < 4)
        (void)nanosleep(&pause, NULL);
    for (int i = 0; i < 200 && inside == 4; i++) /* a fifth has time enough to come */
        (void)nanosleep(&pause, NULL);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < 12; i++)
        pthread_join(thread[i], NULL);
    assert_true(descriptors() <= open_now);
    for (int i = 0; i < 12; i++)
        assert_int_equal(w[i].st, ST_OK);
    assert_int_equal(out_sync(o, &e), ST_OK);
    assert_int_equal(out_publish(o, &e), ST_OK);
    out_end(o);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    holds("d/part-11", "text");
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(out_remove_tree(fd, "d"), 0);
    close(fd);
}

static void dead_temporaries_go_live_ones_stay(void **state)
{
    (void)state;
    char live[OUT_NAME_MAX], dead[OUT_NAME_MAX], elsewhere[OUT_NAME_MAX];
    out_temp_name("a", 5, live);
    put(live, "mine");
    /* the same owner but for a process that has ended */
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    char from[16], to[16];
    snprintf(from, sizeof from, "-%ld-", (long)getpid());
    snprintf(to, sizeof to, "-%ld-", (long)pid);
    while (!(waitpid(pid, NULL, 0) == pid))
        ;
    char *at = strstr(live, from);
    assert_non_null(at);
    snprintf(dead, sizeof dead, "%.*s%s%s", (int)(at - live), live, to, at + strlen(from));
    put(dead, "gone");
    snprintf(elsewhere, sizeof elsewhere, ".a.nnferry-otherhost-1-00.1.1.0");
    put(elsewhere, "theirs");
    struct out *o = begin("a", false, false);
    assert_int_equal(path_kind(in_dir(dead)), PATH_NONE);
    assert_int_equal(path_kind(in_dir(live)), PATH_FILE);
    assert_int_equal(path_kind(in_dir(elsewhere)), PATH_FILE);
    out_end(o);
    unlink(in_dir(live));
    unlink(in_dir(elsewhere));
    assert_int_equal(entries(), 0);
}

static void bad_names(void **state)
{
    (void)state;
    struct out *o;
    struct out_opt opt = {false, false};
    int id;
    assert_int_equal(out_begin("/", &opt, &o, &e), ST_OUTPUT);
    assert_int_equal(out_begin(in_dir(".."), &opt, &o, &e), ST_OUTPUT);
    assert_int_equal(out_begin(in_dir("no/such/folder"), &opt, &o, &e), ST_OUTPUT);
    o = begin("d", false, true);
    static const char *const bad[] = {"../x", "/x", "a//b", "a/../b", "."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(out_add(o, str_from(bad[i]), 0, &id, &e), ST_BUG);
    out_end(o);
    assert_int_equal(entries(), 0);
}

static void a_spool_leaves_no_name(void **state)
{
    (void)state;
    struct spool *s;
    char got[6] = "";
    assert_int_equal(spool_open(in_dir("target"), &s, &e), ST_OK);
    assert_int_equal(spool_pwrite(s, "hello", 5, 100000, &e), ST_OK);
    assert_int_equal(entries(), 0);
    assert_int_equal(spool_pread(s, got, 5, 100000, &e), ST_OK);
    assert_string_equal(got, "hello");
    assert_int_equal(spool_pread(s, got, 5, 200000, &e), ST_OUTPUT);
    spool_close(s);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/nnferry-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

/* Over NFS an unlinked file in use has a name still, of the client's making: a spool must not be
 * closed to be opened again by what is only a name for messages. */
static void what_has_no_name_stays_open(void **state)
{
    struct rlimit was, few;
    struct file *f;
    char got[5] = "";
    (void)state;
    put("a", "text");
    int fd = open(in_dir("a"), O_RDONLY);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = was;
    few.rlim_cur = 8; /* none to keep */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    enum status st = file_keep(fd, "no/such/name", &f, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(st, ST_OK);
    assert_int_equal(file_pread(f, got, 4, 0, &e), ST_OK);
    assert_string_equal(got, "text");
    assert_int_equal(file_check(f, &e), ST_OK);
    file_close(f);
    unlink(in_dir("a"));
}

static void *charge_too_much(void *stop)
{
    while (!*(_Atomic bool *)stop)
        if (mem_charge((uint64_t)1 << 40) == 0)
            mem_uncharge((uint64_t)1 << 40);
    return NULL;
}

/* What does not fit takes no room from what does. */
static void a_charge_refused_is_nobodys_loss(void **state)
{
    _Atomic bool stop = false;
    pthread_t thread;
    int refused = 0;
    (void)state;
    uint64_t was = mem_ceiling();
    mem_set_ceiling((uint64_t)1 << 32);
    assert_int_equal(mem_charge(16), 0);
    assert_int_equal(mem_charge(UINT64_MAX), -1); /* no sum wraps round */
    mem_uncharge(16);
    assert_int_equal(pthread_create(&thread, NULL, charge_too_much, &stop), 0);
    for (int i = 0; i < 300000; i++) {
        if (mem_charge(16) == 0)
            mem_uncharge(16);
        else
            refused++;
    }
    stop = true;
    pthread_join(thread, NULL);
    mem_set_ceiling(was);
    assert_int_equal(refused, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_file_appears_whole),
                                       cmocka_unit_test(growing),
                                       cmocka_unit_test(what_was_written_reads_back),
                                       cmocka_unit_test(times_that_move),
                                       cmocka_unit_test(unpublished_leaves_nothing),
                                       cmocka_unit_test(an_existing_target_is_kept),
                                       cmocka_unit_test(force_replaces),
                                       cmocka_unit_test(an_answer_is_lost),
                                       cmocka_unit_test(a_link_is_replaced_not_followed),
                                       cmocka_unit_test(output_is_input),
                                       cmocka_unit_test(many_files_few_descriptors),
                                       cmocka_unit_test(many_writers_few_descriptors),
                                       cmocka_unit_test(dead_temporaries_go_live_ones_stay),
                                       cmocka_unit_test(bad_names),
                                       cmocka_unit_test(a_spool_leaves_no_name),
                                       cmocka_unit_test(what_has_no_name_stays_open),
                                       cmocka_unit_test(a_charge_refused_is_nobodys_loss)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
