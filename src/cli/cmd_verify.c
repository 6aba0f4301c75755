/* nnferry verify: reads every byte of an archive and checks all that can be checked. */
#include "cli/command.h"
#include "format/archive.h"

static enum status run(struct args *a, struct err *e)
{
    struct archive_facts f = {0};
    enum status st = archive_verify(a->arg[0], &f, e);
    if (st != ST_OK) {
        err_file(e, a->arg[0]);
        return st;
    }
    if (a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_key(w, STR("frames"));
        json_w_u64(w, f.n_frames);
        json_w_key(w, STR("members"));
        json_w_u64(w, f.n_members);
        json_w_key(w, STR("tensors"));
        json_w_u64(w, f.n_tensors);
        json_w_key(w, STR("stored_bytes"));
        json_w_u64(w, f.stored_bytes);
        json_w_key(w, STR("raw_bytes"));
        json_w_u64(w, f.raw_bytes);
        return ST_OK;
    }
    char stored[32], raw[32];
    size_text(f.stored_bytes, stored, sizeof stored);
    size_text(f.raw_bytes, raw, sizeof raw);
    print_fmt("%s: ", a->arg[0]);
    print_ink(INK_GOOD, "verified");
    print_fmt(": %llu tensors, %llu members, %llu frames, %s (%s unpacked)\n",
              (unsigned long long)f.n_tensors, (unsigned long long)f.n_members,
              (unsigned long long)f.n_frames, stored, raw);
    return ST_OK;
}

static const enum opt opts[] = {OPT_N};
const struct command verify_command = {
    "verify", "ARCHIVE", "Check an archive's structure, checksums and digests", opts, 1, 1,
    run,      false};
