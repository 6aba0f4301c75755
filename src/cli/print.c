/* Standard output: text and JSON results. Nothing is lost silently: a write error sticks and
 * print_end reports it.
 */
#include "base/buf.h"
#include "cli/command.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct buf out, json_text;
static struct json_w json;
static bool json_open;
static int failed; /* errno of the first failed write */

static void flush(void)
{
    size_t at = 0;
    while (at < out.n && !failed) {
        ssize_t k = write(STDOUT_FILENO, out.p + at, out.n - at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            failed = errno;
        else
            at += (size_t)k;
    }
    out.n = 0;
}

void print_str(struct str s)
{
    buf_str(&out, s);
    if (out.n > 65536 || out.failed)
        flush();
}

void print_fmt(const char *fmt, ...)
{
    va_list ap;
    char small[1024];
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof small) {
        print_str((struct str){small, (size_t)n});
        return;
    }
    if (n < 0 || !buf_reserve(&out, (size_t)n + 1)) {
        failed = failed ? failed : ENOMEM;
        return;
    }
    va_start(ap, fmt);
    vsnprintf((char *)out.p + out.n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    out.n += (size_t)n;
}

void print_name(struct str s)
{
    char text[1024];
    /* in pieces: names may be long, and an escape takes four bytes */
    while (s.n) {
        size_t k = s.n < 200 ? s.n : 200;
        while (k < s.n && k > 1 && ((unsigned char)s.p[k] & 0xc0) == 0x80)
            k--;
        size_t n = err_escape(s.p, k, text, sizeof text);
        print_str((struct str){text, n});
        s = str_sub(s, k, s.n);
    }
}

static bool colored;

void print_set_color(bool on)
{
    colored = on;
}

void print_ink(enum ink ink, const char *word)
{
    static const char *const on[] = {
        [INK_GOOD] = "\033[32m", [INK_DOUBT] = "\033[33m", [INK_BAD] = "\033[31m"};
    print_fmt("%s%s%s", colored ? on[ink] : "", word, colored ? "\033[m" : "");
}

enum status print_end(struct err *e)
{
    flush();
    if (out.failed && !failed)
        failed = ENOMEM;
    buf_free(&out);
    buf_free(&json_text);
    return failed ? err_sys(e, ST_OUTPUT, "stdout", failed, "cannot write standard output") : ST_OK;
}

struct json_w *print_json(void)
{
    if (!json_open) {
        json_w_init(&json, &json_text, 1);
        json_w_object(&json);
        json_open = true;
    }
    /* a large listing leaves in pieces */
    if (json_text.n > 65536) {
        print_str(buf_as_str(&json_text));
        buf_clear(&json_text);
    }
    return &json;
}

bool print_json_open(void)
{
    return json_open;
}

void print_json_end(enum status st, const struct err *e)
{
    static const struct {
        enum status st;
        const char *name;
    } names[] = {{ST_OK, "ok"},           {ST_NO, "no"},         {ST_USAGE, "usage"},
                 {ST_INPUT, "input"},     {ST_CANNOT, "cannot"}, {ST_OUTPUT, "output"},
                 {ST_LIMIT, "limit"},     {ST_DEVICE, "device"}, {ST_BUG, "bug"},
                 {ST_STOPPED, "stopped"}, {ST_SIGNAL, "signal"}};
    struct json_w *w = print_json();
    const char *name = "bug";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].st == st)
            name = names[i].name;
    json_w_key(w, STR("result"));
    json_w_str(w, str_from(name));
    if (st != ST_OK && e->reason[0]) {
        json_w_key(w, STR("error"));
        json_w_object(w);
        json_w_key(w, STR("file"));
        json_w_str(w, str_from(e->file));
        if (e->has_offset) {
            json_w_key(w, STR("offset"));
            json_w_u64(w, e->offset);
        }
        if (e->code) {
            json_w_key(w, STR("code"));
            json_w_str(w, str_from(e->code));
        }
        if (e->tensor[0]) {
            json_w_key(w, STR("tensor"));
            json_w_str(w, str_from(e->tensor));
        }
        json_w_key(w, STR("reason"));
        json_w_str(w, str_from(e->reason));
        json_w_object_end(w);
    }
    json_w_key(w, STR("exit"));
    json_w_i64(w, st == ST_SIGNAL ? ST_SIGNAL + e->signal : (int64_t)st);
    json_w_object_end(w);
    buf_u8(&json_text, '\n');
    print_str(buf_as_str(&json_text));
    buf_clear(&json_text);
}
