/* What the main program and the OpenCL worker say to each other, over one SOCK_SEQPACKET pair (the
 * worker's descriptor WIRE_FD). A message is a head and a payload, in one packet; n_bytes is the
 * payload's size and must equal what arrived. Every request is answered by one reply with the same
 * type and seq, or by the worker's death. Both ends are little-endian programs of one build, but
 * the main program trusts nothing in a reply: sizes, counts, numbers and texts are checked.
 *
 * Numbers travel in shared memory: one memfd passed with WIRE_MEMORY (SCM_RIGHTS), sealed against
 * shrinking and growing. Source of the OpenCL values: the Khronos OpenCL 1.2 specification.
 */
#ifndef WORKER_WIRE_H
#define WORKER_WIRE_H
#include "opencl/abi.h"
#include <stdint.h>

#define WIRE_FD 3
#define WIRE_MAGIC 0x6e664f43u
#define WIRE_VERSION 1u
#define WIRE_MAX 61440u /* one packet, head included */
#define WIRE_MAX_DEVICES 32
#define WIRE_MAX_VENDORS 32
#define WIRE_NAME 128
#define WIRE_PATH 256
#define WIRE_TEXT 1024

enum wire_type {
    WIRE_HELLO = 1, /* worker to main, unasked, once: struct wire_hello */
    WIRE_VENDORS,   /* wire_ask -> wire_vendors: the .icd files and the loader */
    WIRE_OPEN,      /* wire_ask -> wire_devices: open one vendor or the loader, list devices */
    WIRE_MEMORY,    /* wire_memory + descriptor -> empty: replaces the shared memory */
    WIRE_BUILD,     /* wire_build (source text in shared memory) -> wire_built */
    WIRE_RUN,       /* wire_run -> wire_ran */
    WIRE_BYE        /* empty -> empty, then the worker exits */
};
struct wire_head {
    uint32_t magic;
    uint16_t version, type;
    uint32_t seq;
    uint32_t n_bytes;
    int32_t status; /* replies: 0, or an OpenCL error (negative), or an errno (positive) */
    char why[252];  /* replies: the step that failed, in words */
};

struct wire_hello {
    uint32_t abi, pid;
    uint32_t head_bytes, run_bytes; /* sizeof, so that two builds never talk past each other */
};
struct wire_ask {
    char library[WIRE_PATH]; /* OPEN: vendor library, "" = the loader alone */
    char icd[WIRE_PATH];     /* VENDORS: file or folder to read, "" = the host's own folder */
    uint32_t use_loader;     /* OPEN: try libOpenCL.so.1 first */
    uint32_t pad;
};
struct wire_vendor {
    char icd[WIRE_PATH];     /* the file that named it */
    char library[WIRE_PATH]; /* what it names */
};
struct wire_vendors {
    char loader[WIRE_PATH]; /* "" when it cannot be opened */
    char loader_why[WIRE_TEXT];
    char folder[WIRE_PATH];
    int32_t folder_errno; /* of opening it */
    uint32_t n;           /* vendors listed */
    uint32_t n_more;      /* found beyond WIRE_MAX_VENDORS */
    uint32_t pad;
    struct wire_vendor vendor[WIRE_MAX_VENDORS];
};
struct wire_device {
    char platform[WIRE_NAME], platform_version[WIRE_NAME];
    char name[WIRE_NAME], vendor[WIRE_NAME], version[WIRE_NAME], driver[WIRE_NAME];
    uint64_t type, memory_bytes, max_alloc_bytes; /* type: CL_DEVICE_TYPE bits */
    uint32_t compute_units, fp64, little_endian, available, compiler, pad;
};
struct wire_devices {
    char via[WIRE_PATH]; /* what was opened */
    char note[WIRE_TEXT];
    uint32_t n_platforms, n;
    struct wire_device device[WIRE_MAX_DEVICES];
};
struct wire_memory {
    uint64_t n_bytes;
};
struct wire_build {
    uint32_t device, fp64;
    uint64_t source, source_bytes; /* in shared memory */
};
struct wire_built {
    char log[WIRE_TEXT];
    uint64_t build_ns;
};
struct wire_run {
    uint32_t kernel, n_params;
    uint64_t n_items;
    uint64_t in, in_bytes;   /* in shared memory, read */
    uint64_t out, out_bytes; /* in shared memory, read and written */
    int64_t p[NNF_MAX_PARAMS];
};
struct wire_ran {
    uint64_t kernel_ns; /* by the device's own clock */
    uint64_t sum;       /* wire_sum of the out bytes */
};

/* A digest of what was put into shared memory, so that a stray write shows: FNV-1a over 8-byte
 * words, the tail byte by byte. Not against malice: results are also computed again natively. */
static inline uint64_t wire_sum(const void *data, uint64_t n)
{
    const uint8_t *p = (const uint8_t *)data;
    uint64_t h = 0xcbf29ce484222325u;
    while (n >= 8) {
        uint64_t v;
        __builtin_memcpy(&v, p, 8);
        h = (h ^ v) * 0x100000001b3u;
        h ^= h >> 29;
        p += 8;
        n -= 8;
    }
    while (n-- > 0)
        h = (h ^ *p++) * 0x100000001b3u;
    return h;
}

/* The embedded worker program, from embed.S. */
extern const unsigned char nnferry_worker_image[], nnferry_worker_image_end[];
#endif
