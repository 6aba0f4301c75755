/* OpenCL devices of this host, and why there are none. Each vendor's driver is probed in a child
 * of its own, so that one that crashes or hangs costs only itself.
 */
#ifndef VALIDATE_DEVICES_H
#define VALIDATE_DEVICES_H
#include "base/buf.h"
#include "worker/wire.h"

#define DEVICES_MAX 64

/* Texts are plain: control bytes are escaped. */
struct device_row {
    struct wire_device d;
    char kind[16];           /* "gpu", "cpu", "accelerator", "other" */
    char via[WIRE_PATH];     /* what was opened: "libOpenCL.so.1" or the vendor's library */
    char icd[WIRE_PATH];     /* the .icd file, "" when the loader alone was asked */
    char library[WIRE_PATH]; /* what it names */
    uint32_t place;          /* the device's number within its driver */
    bool usable;             /* available, with a compiler, little-endian */
};
struct devices {
    struct device_row row[DEVICES_MAX];
    size_t n;
    struct buf note; /* lines: what was tried, what failed and how. Free with devices_free */
};
struct devices_opt {
    /* An .icd file, a folder of them, or a library, instead of the host's /etc/OpenCL/vendors (what
     * OCL_ICD_VENDORS means); NULL = the host's. */
    const char *vendors;
    bool direct;            /* pass the ICD loader by: open the vendors' libraries themselves */
    int hello_ms, probe_ms; /* deadlines; 0: 10 s, 30 s */
};
/* Needs child_start. ST_DEVICE only when no worker can be started at all; no device is ST_OK with
 * n == 0 and the reasons in note. Free with devices_free in any case. */
MUSTCHECK enum status devices_list(const struct devices_opt *o, struct devices *out, struct err *e);
void devices_free(struct devices *d);
/* NULL or "": the first usable, GPUs before others. A number: that row. "gpu", "cpu",
 * "accelerator": the first of that kind. Other text: the first whose name, platform, vendor or
 * driver holds it, letters in any case. NULL and ST_DEVICE "no-device" when none fits. */
MUSTCHECK enum status devices_select(const struct devices *d, const char *selector,
                                     const struct device_row **out, struct err *e);
#endif
