/* nnferry devices: OpenCL platforms and devices, and why there are none. */
#include "cli/command.h"
#include "validate/devices.h"
#include <stdlib.h>
#include <string.h>

static void json_device(size_t i, const struct device_row *r)
{
    struct json_w *w = print_json();
    const struct {
        const char *key, *value;
    } texts[] = {{"kind", r->kind},
                 {"name", r->d.name},
                 {"vendor", r->d.vendor},
                 {"version", r->d.version},
                 {"driver", r->d.driver},
                 {"platform", r->d.platform},
                 {"platform_version", r->d.platform_version},
                 {"via", r->via},
                 {"library", r->library}};
    json_w_object(w);
    json_w_key(w, STR("number"));
    json_w_u64(w, i);
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        json_w_key(w, str_from(texts[k].key));
        json_w_str(w, str_from(texts[k].value));
    }
    json_w_key(w, STR("memory_bytes"));
    json_w_u64(w, r->d.memory_bytes);
    json_w_key(w, STR("compute_units"));
    json_w_u64(w, r->d.compute_units);
    json_w_key(w, STR("fp64"));
    json_w_bool(w, r->d.fp64 != 0);
    json_w_key(w, STR("usable"));
    json_w_bool(w, r->usable);
    json_w_object_end(w);
}

static void text_device(size_t i, const struct device_row *r)
{
    char memory[32];
    size_text(r->d.memory_bytes, memory, sizeof memory);
    print_fmt("%zu: %s: %s\n"
              "   platform %s, %s\n"
              "   driver %s, %s, by %s\n"
              "   %s, %u compute units, fp64 %s%s\n",
              i, r->kind, r->d.name, r->d.platform, r->d.platform_version, r->d.driver,
              r->d.version, r->via, memory, r->d.compute_units, r->d.fp64 ? "yes" : "no",
              r->usable ? "" : ", not usable");
}

static enum status run(struct args *a, struct err *e)
{
    struct devices d = {0};
    struct devices_opt o = {.vendors = getenv("OCL_ICD_VENDORS")};
    enum status st = devices_list(&o, &d, e);
    size_t usable = 0;
    if (st == ST_OK && a->set[OPT_JSON]) {
        json_w_key(print_json(), STR("devices"));
        json_w_array(print_json());
    }
    for (size_t i = 0; st == ST_OK && i < d.n; i++) {
        usable += d.row[i].usable;
        (a->set[OPT_JSON] ? json_device : text_device)(i, &d.row[i]);
    }
    if (st == ST_OK && a->set[OPT_JSON]) {
        json_w_array_end(print_json());
        json_w_key(print_json(), STR("notes"));
        json_w_str(print_json(), buf_as_str(&d.note));
    } else if (st == ST_OK) {
        struct str rest = buf_as_str(&d.note), line;
        if (d.n == 0)
            print_fmt("no OpenCL device\n");
        while (rest.n && str_split(&rest, '\n', &line)) {
            if (line.n == 0)
                continue;
            print_fmt("note: "); /* plain already */
            print_str(line);
            print_fmt("\n");
        }
    }
    devices_free(&d);
    if (st == ST_OK && usable == 0) {
        *e = (struct err){.status = ST_NO};
        return ST_NO;
    }
    return st;
}

static const enum opt opts[] = {OPT_N};
const struct command devices_command = {
    "devices", "",  "List OpenCL platforms and devices, and why there are none", opts, 0, 0,
    run,       true};
