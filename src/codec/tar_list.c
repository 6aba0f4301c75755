/* Tars of others, as PyTorch wrote them before 0.1.10: headers of 512 bytes, each followed by its
 * data in whole blocks; two blocks of zeros end the archive, zeros fill it up. Byte map: tar.c.
 * A pax header ('x', 'g') in front of a member may tell times and owners, nothing that matters.
 */
#include "base/buf.h"
#include "base/checked.h"
#include "base/cursor.h"
#include "codec/tar.h"
#include <stdlib.h>
#include <string.h>

#define PAX_MAX 65536

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Octal digits between blanks, ended by NUL, blank or the field's end. */
static bool number(const uint8_t *p, size_t n, uint64_t *out)
{
    size_t i = 0;
    *out = 0;
    while (i < n && p[i] == ' ')
        i++;
    if (i == n || p[i] < '0' || p[i] > '7')
        return false;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        *out = *out << 3 | (uint64_t)(p[i] - '0');
    for (; i < n; i++)
        if (p[i] != 0 && p[i] != ' ')
            return false;
    return true;
}
static bool member_size(const uint8_t *h, uint64_t *out)
{
    if (h[124] != 0x80)
        return number(h + 124, 12, out);
    *out = 0;
    for (int i = 128; i < 136; i++)
        *out = *out << 8 | h[i];
    return all_zero(h + 125, 3);
}

static enum status check_header(struct cursor *c, const uint8_t *h, uint64_t at, uint64_t *bytes)
{
    uint64_t said, sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : h[i];
    if (!number(h + 148, 8, &said) || said != sum)
        return cur_fail(c, at + 148, "tar-checksum", "no tar header, or a damaged one");
    if (memcmp(h + 257, "ustar", 5) != 0 || !member_size(h, bytes))
        return cur_fail(c, at, "tar-header", "a header of another kind of tar");
    return ST_OK;
}

/* Records "LENGTH KEY=VALUE\n": none may say what the header says, too. */
static enum status check_pax(struct cursor *c, uint64_t bytes)
{
    static const char *const bad[] = {"path", "size", "linkpath", "GNU.sparse"};
    uint64_t at = c->pos;
    const uint8_t *p = bytes <= PAX_MAX ? cur_take(c, (size_t)bytes) : NULL;
    struct str rest = {(const char *)p, (size_t)bytes};
    if (!p)
        return cur_fail(c, at, "tar-pax", "a pax header of %llu bytes", (unsigned long long)bytes);
    while (rest.n) {
        uint64_t n;
        size_t blank = str_find(rest, ' ', 0);
        if (!str_u64(str_sub(rest, 0, blank), &n) || n <= blank + 1 || n > rest.n ||
            rest.p[n - 1] != '\n')
            return cur_fail(c, at, "tar-pax", "a damaged pax header");
        struct str record = str_sub(rest, blank + 1, (size_t)n - 1);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            if (str_starts(record, str_from(bad[i])))
                return cur_fail(c, at, "tar-pax", "a pax header that changes %s", bad[i]);
        rest = str_sub(rest, (size_t)n, rest.n);
    }
    return ST_OK;
}

/* One header and, of a file, its place; the cursor moves behind the data. *done at the end. */
static enum status next(struct cursor *c, struct arena *a, struct buf *list, bool *done)
{
    uint64_t at = c->pos, bytes = 0;
    const uint8_t *h = cur_take(c, TAR_BLOCK);
    if (!h)
        return c->err.status;
    if (all_zero(h, TAR_BLOCK)) {
        h = cur_take(c, TAR_BLOCK);
        *done = h && all_zero(h, TAR_BLOCK);
        return *done ? ST_OK : cur_fail(c, at, "tar-end", "one block of zeros does not end a tar");
    }
    if (check_header(c, h, at, &bytes) != ST_OK)
        return c->err.status;
    uint8_t type = h[156];
    struct tar_entry t = {.header = at, .data = c->pos, .bytes = bytes};
    struct str name = {(const char *)h, strnlen((const char *)h, 100)};
    if (type == '0' || type == 0) {
        if (h[345])
            return cur_fail(c, at + 345, "tar-header", "a member's name in two parts");
        t.name = arena_str(a, name.p, name.n);
        if (!t.name.p)
            return c->err.status = err_nomem(&c->err, name.n);
        buf_bytes(list, &t, sizeof t);
    } else if (type == 'x' || type == 'g') {
        if (check_pax(c, bytes) != ST_OK)
            return c->err.status;
    } else if (type != '5') {
        return cur_fail(c, at + 156, "tar-type", "a member that is no plain file");
    }
    cur_seek(c, t.data);
    cur_skip(c, bytes);
    cur_skip(c, tar_pad(bytes));
    return c->err.status;
}

static enum status fill(struct cursor *c)
{
    while (cur_left(c)) {
        const uint8_t *p = cur_take(c, TAR_BLOCK);
        if (!p)
            break;
        if (!all_zero(p, TAR_BLOCK))
            return cur_fail(c, c->pos - TAR_BLOCK, "tar-end", "bytes behind the end of the tar");
    }
    return c->err.status;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct tar_entry *)a)->name, ((const struct tar_entry *)b)->name);
}

enum status tar_list(struct file *f, struct arena *a, struct tar_entry **out, size_t *n,
                     struct err *e)
{
    struct cursor c;
    struct buf list = BUF_INIT;
    bool done = false;
    cur_file(&c, f, 0, file_size(f));
    while (!done && next(&c, a, &list, &done) == ST_OK && !list.failed)
        ;
    if (done)
        (void)fill(&c);
    enum status st = cur_ok(&c, e);
    cur_close(&c);
    if (st == ST_OK)
        st = buf_ok(&list, e);
    *n = list.n / sizeof(struct tar_entry);
    *out = st == ST_OK ? ARENA_ARRAY(a, struct tar_entry, *n + 1) : NULL;
    if (st == ST_OK && !*out)
        st = err_nomem(e, list.n);
    if (st == ST_OK && list.n)
        memcpy(*out, list.p, list.n);
    buf_free(&list);
    TRY(st);
    if (*n)
        qsort(*out, *n, sizeof **out, by_name);
    for (size_t i = 1; i < *n; i++)
        if (str_eq((*out)[i - 1].name, (*out)[i].name)) {
            (void)err_set(e, ST_INPUT, "tar-name-twice", "two members of one name");
            err_at(e, file_path(f), (*out)[i].header);
            return ST_INPUT;
        }
    return ST_OK;
}
