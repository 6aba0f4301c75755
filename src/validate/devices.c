/* Listing and choosing devices. Everything in a worker's reply is foreign: counts are compared with
 * the arrays, texts must end inside their fields and are escaped before anyone prints them.
 */
#include "validate/devices.h"
#include "base/child.h"

#include <stdio.h>
#include <string.h>

enum { TYPE_CPU = 2, TYPE_GPU = 4, TYPE_ACCELERATOR = 8 }; /* CL_DEVICE_TYPE bits */

/* Escapes a field in place of itself; false when it does not end inside. */
static bool plain(char *text, size_t n)
{
    char out[WIRE_TEXT];
    if (!memchr(text, 0, n))
        return false;
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == ' ')
        len--;
    err_escape(text, len, out, n < sizeof out ? n : sizeof out);
    memcpy(text, out, strlen(out) + 1);
    return true;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

static bool check_device(struct wire_device *d)
{
    return plain(d->platform, sizeof d->platform) &&
           plain(d->platform_version, sizeof d->platform_version) &&
           plain(d->name, sizeof d->name) && plain(d->vendor, sizeof d->vendor) &&
           plain(d->version, sizeof d->version) && plain(d->driver, sizeof d->driver);
}

static const char *kind_of(uint64_t type)
{
    if (type & TYPE_GPU)
        return "gpu";
    if (type & TYPE_ACCELERATOR)
        return "accelerator";
    return type & TYPE_CPU ? "cpu" : "other";
}

static void add_rows(struct devices *out, const struct wire_devices *found,
                     const struct wire_vendor *v)
{
    for (uint32_t i = 0; i < found->n; i++) {
        if (out->n == DEVICES_MAX) {
            buf_fmt(&out->note, "more than %d devices: the rest is not listed\n", DEVICES_MAX);
            return;
        }
        struct device_row *r = &out->row[out->n++];
        memset(r, 0, sizeof *r);
        r->d = found->device[i];
        snprintf(r->kind, sizeof r->kind, "%s", kind_of(r->d.type));
        memcpy(r->via, found->via, sizeof r->via);
        memcpy(r->icd, v->icd, sizeof r->icd);
        memcpy(r->library, v->library, sizeof r->library);
        r->place = i;
        r->usable = r->d.available && r->d.compiler && r->d.little_endian;
    }
}

/* Opens one driver in a child of its own and lists its devices. Failures become notes. */
static enum status probe(const struct wire_vendor *v, const struct devices_opt *o,
                         struct wire_devices *found, struct devices *out, struct err *e)
{
    struct child *c;
    struct err why = {0};
    struct wire_ask ask = {.use_loader = !o->direct};
    const char *what = v->library[0] ? v->library : "libOpenCL.so.1";
    memcpy(ask.library, v->library, sizeof ask.library);
    enum status st = child_open(v->icd[0] ? v->icd : NULL, o->hello_ms, &c, NULL, &why);
    if (st == ST_OK) {
        memset(found, 0, sizeof *found);
        st =
            child_call(c, WIRE_OPEN, &ask, sizeof ask, -1, found, sizeof *found, o->probe_ms, &why);
        bool spoke = st == ST_OK || child_alive(c);
        child_close(c);
        if (spoke) {
            bool sound = found->n <= WIRE_MAX_DEVICES && found->n_platforms <= 1000 &&
                         plain(found->via, sizeof found->via) &&
                         plain(found->note, sizeof found->note);
            for (uint32_t i = 0; sound && i < found->n; i++)
                sound = check_device(&found->device[i]);
            if (!sound) {
                memset(found, 0, sizeof *found);
                st = err_set(&why, ST_DEVICE, "device-lied", "its list of devices cannot be");
            }
            if (found->note[0])
                buf_fmt(&out->note, "%s: %s\n", what, found->note);
        }
    }
    if (st == ST_SIGNAL || st == ST_LIMIT) {
        if (e)
            *e = why;
        return st;
    }
    if (st != ST_OK)
        buf_fmt(&out->note, "%s: %s\n", what, why.reason);
    else
        add_rows(out, found, v);
    return ST_OK;
}

static enum status list_vendors(const struct devices_opt *o, struct wire_vendors *v,
                                struct devices *out, struct err *e)
{
    struct child *c;
    struct wire_ask ask = {.use_loader = 1};
    if (o->vendors && strlen(o->vendors) >= sizeof ask.icd)
        return err_set(e, ST_USAGE, "vendors-too-long", "the vendor path is too long");
    if (o->vendors)
        memcpy(ask.icd, o->vendors, strlen(o->vendors) + 1);
    TRY(child_open(NULL, o->hello_ms, &c, &out->note, e));
    enum status st =
        child_call(c, WIRE_VENDORS, &ask, sizeof ask, -1, v, sizeof *v, o->probe_ms, e);
    child_close(c);
    TRY(st);
    bool sound = v->n <= WIRE_MAX_VENDORS && plain(v->loader, sizeof v->loader) &&
                 plain(v->loader_why, sizeof v->loader_why) && plain(v->folder, sizeof v->folder);
    for (uint32_t i = 0; sound && i < v->n; i++)
        sound =
            memchr(v->vendor[i].icd, 0, WIRE_PATH) && memchr(v->vendor[i].library, 0, WIRE_PATH);
    if (!sound)
        return err_set(e, ST_DEVICE, "device-lied", "the worker's list of vendors cannot be");
    return ST_OK;
}

enum status devices_list(const struct devices_opt *opt, struct devices *out, struct err *e)
{
    static struct wire_vendors v; /* large; one owner, like the child door */
    static struct wire_devices found;
    struct devices_opt o = *opt;
    o.hello_ms = o.hello_ms ? o.hello_ms : 10000;
    o.probe_ms = o.probe_ms ? o.probe_ms : 30000;
    memset(out, 0, sizeof *out);
    TRY(list_vendors(&o, &v, out, e));
    if (v.loader[0] == 0)
        buf_fmt(&out->note, "no OpenCL loader: %s\n", v.loader_why);
    if (v.folder_errno != 0)
        buf_fmt(&out->note, "%s: %s\n", v.folder, strerror(v.folder_errno));
    else if (v.n == 0)
        buf_fmt(&out->note, "%s: no .icd file names a driver\n",
                v.folder[0] ? v.folder
                : o.vendors ? o.vendors
                            : "/etc/OpenCL/vendors");
    if (v.n_more > 0)
        buf_fmt(&out->note, "%u more vendors are not looked at\n", v.n_more);
    for (uint32_t i = 0; i < v.n; i++) {
        if (has_control(v.vendor[i].icd) || has_control(v.vendor[i].library))
            buf_fmt(&out->note, "vendor %u: its path holds control bytes\n", i);
        else
            TRY(probe(&v.vendor[i], &o, &found, out, e));
    }
    if (v.n == 0 && v.loader[0] != 0 && !o.direct &&
        !o.vendors) { /* edge boards: the loader is the driver */
        struct wire_vendor alone = {"", ""};
        TRY(probe(&alone, &o, &found, out, e));
    }
    return buf_ok(&out->note, e);
}

void devices_free(struct devices *d)
{
    buf_free(&d->note);
    d->n = 0;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool holds(const char *text, const char *what)
{
    size_t n = strlen(what);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] && lower(text[i]) == lower(what[i]))
            i++;
        if (i == n)
            return true;
    }
    return false;
}

static bool fits(const struct device_row *r, const char *selector)
{
    return strcmp(r->kind, selector) == 0 || holds(r->d.name, selector) ||
           holds(r->d.platform, selector) || holds(r->d.vendor, selector) ||
           holds(r->d.driver, selector);
}

enum status devices_select(const struct devices *d, const char *selector,
                           const struct device_row **out, struct err *e)
{
    uint64_t number;
    *out = NULL;
    if (d->n == 0)
        return err_set(e, ST_DEVICE, "no-device", "this host shows no OpenCL device");
    if (!selector || !selector[0]) {
        static const char *const order[] = {"gpu", "accelerator", "cpu", "other"};
        for (size_t k = 0; k < sizeof order / sizeof order[0] && !*out; k++)
            for (size_t i = 0; i < d->n && !*out; i++)
                if (d->row[i].usable && strcmp(d->row[i].kind, order[k]) == 0)
                    *out = &d->row[i];
    } else if (str_u64(str_from(selector), &number)) {
        if (number < d->n)
            *out = &d->row[number];
    } else
        for (size_t i = 0; i < d->n && !*out; i++)
            if (fits(&d->row[i], selector))
                *out = &d->row[i];
    if (!*out)
        return err_set(e, ST_DEVICE, "no-device", "no OpenCL device fits \"%s\"",
                       selector ? selector : "");
    if (!(*out)->usable) {
        const struct device_row *r = *out;
        *out = NULL;
        return err_set(e, ST_DEVICE, "device-unusable", "%s %s", r->d.name,
                       !r->d.available  ? "is not available"
                       : !r->d.compiler ? "has no compiler"
                                        : "is big-endian");
    }
    return ST_OK;
}
