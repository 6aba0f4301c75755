/* The OpenCL worker: a small dynamic program that the main, static one starts through the host's
 * own dynamic loader. It opens the ICD loader or a vendor's driver, lists devices, builds the
 * kernels and runs them on numbers in shared memory. It is expected to crash, hang or lie when a
 * driver does; the main program watches it and keeps no trust. See wire.h for the protocol.
 */
#include "worker/cl.h"
#include "worker/sys.h"
#include "worker/wire.h"

struct state {
    uint8_t *mem; /* shared with the main program */
    uint64_t mem_bytes;
    struct cl_api cl;
    cl_object platform_of[WIRE_MAX_DEVICES], device[WIRE_MAX_DEVICES];
    uint32_t n_devices;
    cl_object context, queue, in, out, params, kernel[NNF_KERNEL_N];
    size_t in_room, out_room, max_group;
};
static struct state S;
static union {
    struct wire_head head;
    unsigned char bytes[WIRE_MAX];
} G, R; /* got, reply */
static struct wire_vendors V;
static struct wire_devices D;

static const char *const kernel_names[] = NNF_KERNEL_NAMES;

/* struct msghdr, iovec and cmsghdr as the 64-bit ABI lays them out. */
struct iovec_ {
    void *base;
    size_t n;
};
struct msg_ {
    void *name;
    uint32_t name_n, pad0;
    struct iovec_ *iov;
    size_t iov_n;
    void *control;
    size_t control_n;
    uint32_t flags, pad1;
};
struct control_ {
    size_t n;
    int32_t level, type;
    int32_t fd, pad;
};

static void leave(int code)
{
    for (;;)
        sys_call(SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0);
}

static void send_bytes(const void *p, size_t n)
{
    struct iovec_ iov = {(void *)(uintptr_t)p, n};
    struct msg_ m = {0};
    m.iov = &iov;
    m.iov_n = 1;
    long r;
    do
        r = sys_call(SYS_SENDMSG, WIRE_FD, (long)&m, 0x4000 /* MSG_NOSIGNAL */, 0, 0, 0);
    while (r == -4);
    if (r != (long)n)
        leave(3);
}

static void reply(int32_t status, const char *why, const void *payload, uint32_t n)
{
    R.head = G.head;
    R.head.n_bytes = n;
    R.head.status = status;
    text_put(R.head.why, sizeof R.head.why, why);
    if (n > 0)
        memcpy(R.bytes + sizeof R.head, payload, n);
    send_bytes(R.bytes, sizeof R.head + n);
}

/* One request into G; *fd is the descriptor passed, or -1. The main program's end closing is the
 * order to go. */
static void receive(int *fd)
{
    struct control_ c = {0};
    struct iovec_ iov = {G.bytes, sizeof G};
    struct msg_ m = {0};
    m.iov = &iov;
    m.iov_n = 1;
    m.control = &c;
    m.control_n = sizeof c;
    long r;
    do
        r = sys_call(SYS_RECVMSG, WIRE_FD, (long)&m, 0x40000000 /* MSG_CMSG_CLOEXEC */, 0, 0, 0);
    while (r == -4);
    if (r < (long)sizeof G.head || G.head.magic != WIRE_MAGIC || G.head.version != WIRE_VERSION ||
        (size_t)r != sizeof G.head + G.head.n_bytes)
        leave(r == 0 ? 0 : 4);
    *fd = m.control_n >= 20 && c.level == 1 && c.type == 1 ? c.fd : -1;
}

/* ---- vendors: .icd files ---- */

static void add_vendor(const char *folder, const char *name)
{
    if (V.n == WIRE_MAX_VENDORS) {
        V.n_more++;
        return;
    }
    struct wire_vendor *v = &V.vendor[V.n];
    memset(v, 0, sizeof *v);
    text_put(v->icd, sizeof v->icd, folder);
    if (name[0] != 0) {
        text_add(v->icd, sizeof v->icd, "/");
        text_add(v->icd, sizeof v->icd, name);
    }
    long fd = sys_call(SYS_OPENAT, -100, (long)v->icd, 0x80000 /* O_CLOEXEC */, 0, 0, 0);
    if (fd < 0)
        return;
    long n = sys_call(SYS_READ, fd, (long)v->library, (long)sizeof v->library - 1, 0, 0, 0);
    sys_call(SYS_CLOSE, fd, 0, 0, 0, 0, 0);
    if (n <= 0)
        return;
    v->library[n] = 0;
    for (long i = 0; i < n; i++) /* first line, no trailing blanks */
        if (v->library[i] == '\n' || v->library[i] == '\r')
            v->library[i] = 0;
    for (size_t i = text_len(v->library); i > 0 && v->library[i - 1] == ' '; i--)
        v->library[i - 1] = 0;
    if (v->library[0] != 0)
        V.n++;
}

static void read_folder(const char *folder)
{
    text_put(V.folder, sizeof V.folder, folder);
    long fd = sys_call(SYS_OPENAT, -100, (long)folder, 0x80000 | SYS_O_DIRECTORY, 0, 0, 0);
    if (fd < 0) {
        V.folder_errno = (int32_t)-fd;
        return;
    }
    static char entries[8192] __attribute__((aligned(8)));
    for (;;) {
        long n = sys_call(SYS_GETDENTS64, fd, (long)entries, sizeof entries, 0, 0, 0);
        if (n <= 0)
            break;
        for (long at = 0; at < n;) { /* d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name */
            uint16_t length;
            memcpy(&length, entries + at + 16, 2);
            if (text_ends(entries + at + 19, ".icd"))
                add_vendor(folder, entries + at + 19);
            at += length;
        }
    }
    sys_call(SYS_CLOSE, fd, 0, 0, 0, 0, 0);
    for (uint32_t i = 1; i < V.n; i++) /* the folder's order is the file system's: sort */
        for (uint32_t k = i; k > 0 && text_less(V.vendor[k].icd, V.vendor[k - 1].icd); k--) {
            struct wire_vendor t = V.vendor[k];
            V.vendor[k] = V.vendor[k - 1];
            V.vendor[k - 1] = t;
        }
}

static void *open_loader(char *which, size_t which_n, char *why, size_t why_n)
{
    static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *lib = dlopen(names[i], DL_NOW);
        if (lib) {
            text_put(which, which_n, names[i]);
            return lib;
        }
        if (why[0] != 0)
            text_add(why, why_n, "; ");
        text_add(why, why_n, dlerror());
    }
    which[0] = 0;
    return 0;
}

static void do_vendors(const struct wire_ask *ask)
{
    memset(&V, 0, sizeof V);
    open_loader(V.loader, sizeof V.loader, V.loader_why, sizeof V.loader_why);
    if (ask->icd[0] == 0)
        read_folder("/etc/OpenCL/vendors");
    else if (text_ends(ask->icd, ".icd"))
        add_vendor(ask->icd, "");
    else if (text_ends(ask->icd, ".so") ||
             ask->icd[0] != '/') { /* a library, as ocl-icd reads it */
        text_put(V.vendor[0].icd, sizeof V.vendor[0].icd, ask->icd);
        text_put(V.vendor[0].library, sizeof V.vendor[0].library, ask->icd);
        V.n = 1;
    } else
        read_folder(ask->icd);
    reply(0, "", &V, sizeof V);
}

/* ---- devices ---- */

static int load_table(void **dispatch, void *lib)
{
    struct cl_api *api = &S.cl;
#define X(place, result, name, args)                                                               \
    {                                                                                              \
        void *f = lib ? dlsym(lib, #name) : dispatch ? dispatch[place] : 0;                        \
        if (!f)                                                                                    \
            return 0;                                                                              \
        memcpy(&api->name, &f, sizeof f);                                                          \
    }
    CL_CALLS(X)
#undef X
    return 1;
}

static void device_text(cl_object d, cl_uint what, char *dst, size_t n)
{
    static char all[4096];
    size_t got = 0;
    dst[0] = 0;
    if (S.cl.clGetDeviceInfo(d, what, sizeof all - 1, all, &got) != CL_SUCCESS || got >= sizeof all)
        return;
    all[got] = 0;
    text_put(dst, n, all);
}
static uint64_t device_number(cl_object d, cl_uint what, size_t bytes)
{
    uint64_t v = 0;
    size_t got = 0;
    if (S.cl.clGetDeviceInfo(d, what, bytes, &v, &got) != CL_SUCCESS || got > bytes)
        return 0;
    return v;
}

static void list_platform(cl_object platform)
{
    static char text[4096];
    struct wire_device one;
    size_t got = 0;
    memset(&one, 0, sizeof one);
    if (S.cl.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof text - 1, text, &got) ==
            CL_SUCCESS &&
        got < sizeof text) {
        text[got] = 0;
        text_put(one.platform, sizeof one.platform, text);
    }
    if (S.cl.clGetPlatformInfo(platform, CL_PLATFORM_VERSION, sizeof text - 1, text, &got) ==
            CL_SUCCESS &&
        got < sizeof text) {
        text[got] = 0;
        text_put(one.platform_version, sizeof one.platform_version, text);
    }
    D.n_platforms++;
    cl_object found[WIRE_MAX_DEVICES];
    cl_uint n = 0;
    cl_int r = S.cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, WIRE_MAX_DEVICES, found, &n);
    if (r != CL_SUCCESS || n == 0) {
        text_add(D.note, sizeof D.note, one.platform);
        text_add(D.note, sizeof D.note, " has no devices. ");
        return;
    }
    for (cl_uint i = 0; i < n && i < WIRE_MAX_DEVICES && D.n < WIRE_MAX_DEVICES; i++) {
        cl_object d = found[i];
        struct wire_device *w = &D.device[D.n];
        *w = one;
        device_text(d, CL_DEVICE_NAME, w->name, sizeof w->name);
        device_text(d, CL_DEVICE_VENDOR, w->vendor, sizeof w->vendor);
        device_text(d, CL_DEVICE_VERSION, w->version, sizeof w->version);
        device_text(d, CL_DRIVER_VERSION, w->driver, sizeof w->driver);
        w->type = device_number(d, CL_DEVICE_TYPE, 8);
        w->memory_bytes = device_number(d, CL_DEVICE_GLOBAL_MEM_SIZE, 8);
        w->max_alloc_bytes = device_number(d, CL_DEVICE_MAX_MEM_ALLOC_SIZE, 8);
        w->compute_units = (uint32_t)device_number(d, CL_DEVICE_MAX_COMPUTE_UNITS, 4);
        w->fp64 = device_number(d, CL_DEVICE_DOUBLE_FP_CONFIG, 8) != 0;
        w->little_endian = device_number(d, CL_DEVICE_ENDIAN_LITTLE, 4) != 0;
        w->available = device_number(d, CL_DEVICE_AVAILABLE, 4) != 0;
        w->compiler = device_number(d, CL_DEVICE_COMPILER_AVAILABLE, 4) != 0;
        S.platform_of[D.n] = platform;
        S.device[D.n] = d;
        D.n++;
    }
}

typedef cl_int (*get_platforms)(cl_uint, cl_object *, cl_uint *);

/* The vendor's own door, the way the ICD loader finds it. */
static get_platforms vendor_door(void *lib)
{
    void *(*find)(const char *);
    void *f = dlsym(lib, "clGetExtensionFunctionAddress");
    void *door = 0;
    if (f) {
        memcpy(&find, &f, sizeof f);
        door = find("clIcdGetPlatformIDsKHR");
    }
    if (!door)
        door = dlsym(lib, "clIcdGetPlatformIDsKHR");
    get_platforms g = 0;
    if (door)
        memcpy(&g, &door, sizeof door);
    return g;
}

static void do_open(const struct wire_ask *ask)
{
    enum { MAX_PLATFORMS = 16 };
    cl_object platform[MAX_PLATFORMS];
    cl_uint n = 0;
    memset(&D, 0, sizeof D);
    S.n_devices = 0;
    if (ask->use_loader || ask->library[0] == 0) {
        char why[WIRE_TEXT] = "";
        void *lib = open_loader(D.via, sizeof D.via, why, sizeof why);
        if (!lib)
            text_put(D.note, sizeof D.note, why);
        else if (!load_table(0, lib))
            text_put(D.note, sizeof D.note, "the loader lacks OpenCL 1.2 calls. ");
        else if (S.cl.clGetPlatformIDs(MAX_PLATFORMS, platform, &n) != CL_SUCCESS || n == 0) {
            n = 0;
            text_put(D.note, sizeof D.note, "the loader shows no platform. ");
        }
        for (cl_uint i = 0; i < n && i < MAX_PLATFORMS; i++)
            list_platform(platform[i]);
    }
    if (n == 0 && ask->library[0] != 0)
        D.note[0] = 0; /* what matters is whether the library opens */
    if (n == 0 && ask->library[0] != 0) {
        text_put(D.via, sizeof D.via, ask->library);
        void *lib = dlopen(ask->library, DL_NOW);
        if (!lib) {
            text_add(D.note, sizeof D.note, dlerror());
            reply(2, "the vendor's library cannot be opened", &D, sizeof D);
            return;
        }
        get_platforms door = vendor_door(lib);
        if (!door) {
            reply(38, "the vendor's library has no clIcdGetPlatformIDsKHR", &D, sizeof D);
            return;
        }
        cl_int r = door(MAX_PLATFORMS, platform, &n);
        if (r != CL_SUCCESS && r != CL_PLATFORM_NOT_FOUND_KHR) {
            reply(r, "clIcdGetPlatformIDsKHR", &D, sizeof D);
            return;
        }
        if (r != CL_SUCCESS)
            n = 0;
        for (cl_uint i = 0; i < n && i < MAX_PLATFORMS; i++) {
            void **dispatch;
            memcpy(&dispatch, platform[i], sizeof dispatch);
            if (i > 0 && dispatch != *(void ***)platform[0])
                continue; /* one table at a time: a vendor's platforms share theirs */
            if (dispatch && load_table(dispatch, 0))
                list_platform(platform[i]);
        }
    }
    S.n_devices = D.n;
    reply(0, "", &D, sizeof D);
}

/* ---- memory, build, run ---- */

static void do_memory(const struct wire_memory *m, int fd)
{
    if (S.mem)
        sys_call(SYS_MUNMAP, (long)S.mem, (long)S.mem_bytes, 0, 0, 0, 0);
    S.mem = 0;
    S.mem_bytes = 0;
    long p = sys_call(SYS_MMAP, 0, (long)m->n_bytes, 3, 1 /* MAP_SHARED */, fd, 0);
    sys_call(SYS_CLOSE, fd, 0, 0, 0, 0, 0);
    if (p < 0 && p > -4096) {
        reply((int32_t)-p, "mmap of the shared memory", 0, 0);
        return;
    }
    S.mem = (uint8_t *)p;
    S.mem_bytes = m->n_bytes;
    reply(0, "", 0, 0);
}

static int in_memory(uint64_t at, uint64_t n)
{
    return S.mem && n <= S.mem_bytes && at <= S.mem_bytes - n;
}

static uint64_t now_ns(void)
{
    int64_t t[2] = {0, 0};
    sys_call(SYS_CLOCK_GETTIME, 1, (long)t, 0, 0, 0, 0);
    return (uint64_t)t[0] * 1000000000u + (uint64_t)t[1];
}

static void do_build(const struct wire_build *b)
{
    static struct wire_built built;
    memset(&built, 0, sizeof built);
    if (b->device >= S.n_devices || !in_memory(b->source, b->source_bytes)) {
        reply(22, "no such device or source", &built, sizeof built);
        return;
    }
    uint64_t t0 = now_ns();
    cl_object dev = S.device[b->device];
    intptr_t prop[3] = {CL_CONTEXT_PLATFORM, (intptr_t)S.platform_of[b->device], 0};
    cl_int r = 0;
    S.context = S.cl.clCreateContext(prop, 1, &dev, 0, 0, &r);
    if (!S.context || r != CL_SUCCESS) {
        reply(r ? r : -1, "clCreateContext", &built, sizeof built);
        return;
    }
    S.queue = S.cl.clCreateCommandQueue(S.context, dev, CL_QUEUE_PROFILING_ENABLE, &r);
    if (!S.queue || r != CL_SUCCESS) {
        reply(r ? r : -1, "clCreateCommandQueue", &built, sizeof built);
        return;
    }
    S.max_group = (size_t)device_number(dev, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
    const char *text = (const char *)S.mem + b->source;
    size_t n = (size_t)b->source_bytes;
    cl_object program = S.cl.clCreateProgramWithSource(S.context, 1, &text, &n, &r);
    if (!program || r != CL_SUCCESS) {
        reply(r ? r : -1, "clCreateProgramWithSource", &built, sizeof built);
        return;
    }
    r = S.cl.clBuildProgram(program, 1, &dev,
                            b->fp64 ? "-cl-std=CL1.2 -DNNF_FP64=1" : "-cl-std=CL1.2 -DNNF_FP64=0",
                            0, 0);
    if (r != CL_SUCCESS) {
        static char log[65536];
        size_t got = 0;
        if (S.cl.clGetProgramBuildInfo(program, dev, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log,
                                       &got) == CL_SUCCESS &&
            got < sizeof log) {
            log[got] = 0;
            text_put(built.log, sizeof built.log, log);
        }
        reply(r, "clBuildProgram", &built, sizeof built);
        return;
    }
    for (int k = 0; k < NNF_KERNEL_N; k++) {
        S.kernel[k] = S.cl.clCreateKernel(program, kernel_names[k], &r);
        if (!S.kernel[k] || r != CL_SUCCESS) {
            reply(r ? r : -1, kernel_names[k], &built, sizeof built);
            return;
        }
    }
    S.params = S.cl.clCreateBuffer(S.context, CL_MEM_READ_ONLY, NNF_MAX_PARAMS * 8, 0, &r);
    if (!S.params || r != CL_SUCCESS) {
        reply(r ? r : -1, "clCreateBuffer (parameters)", &built, sizeof built);
        return;
    }
    built.build_ns = now_ns() - t0;
    reply(0, "", &built, sizeof built);
}

static cl_int make_room(cl_object *buffer, size_t *room, size_t want)
{
    if (*buffer && *room >= want)
        return CL_SUCCESS;
    if (*buffer)
        S.cl.clReleaseMemObject(*buffer);
    *buffer = 0;
    *room = 0;
    cl_int r = 0;
    *buffer = S.cl.clCreateBuffer(S.context, CL_MEM_READ_WRITE, want, 0, &r);
    if (!*buffer || r != CL_SUCCESS) {
        *buffer = 0;
        return r ? r : -1;
    }
    *room = want;
    return CL_SUCCESS;
}

#define STEP(call, what)                                                                           \
    do {                                                                                           \
        r = (call);                                                                                \
        if (r != CL_SUCCESS) {                                                                     \
            reply(r, what, &ran, sizeof ran);                                                      \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static void do_run(const struct wire_run *w)
{
    struct wire_ran ran = {0, 0};
    cl_int r;
    if (w->kernel >= NNF_KERNEL_N || !S.kernel[w->kernel] || w->in_bytes == 0 ||
        w->out_bytes == 0 || !in_memory(w->in, w->in_bytes) || !in_memory(w->out, w->out_bytes)) {
        reply(22, "no such kernel or memory", &ran, sizeof ran);
        return;
    }
    cl_object k = S.kernel[w->kernel], event = 0;
    size_t local = S.max_group >= 64 ? 64 : 1;
    size_t global = (size_t)((w->n_items + local - 1) / local * local);
    STEP(make_room(&S.in, &S.in_room, w->in_bytes), "clCreateBuffer (in)");
    STEP(make_room(&S.out, &S.out_room, w->out_bytes), "clCreateBuffer (out)");
    STEP(S.cl.clEnqueueWriteBuffer(S.queue, S.params, 1, 0, sizeof w->p, w->p, 0, 0, 0),
         "clEnqueueWriteBuffer (parameters)");
    STEP(S.cl.clEnqueueWriteBuffer(S.queue, S.in, 1, 0, w->in_bytes, S.mem + w->in, 0, 0, 0),
         "clEnqueueWriteBuffer (in)");
    STEP(S.cl.clEnqueueWriteBuffer(S.queue, S.out, 1, 0, w->out_bytes, S.mem + w->out, 0, 0, 0),
         "clEnqueueWriteBuffer (out)");
    STEP(S.cl.clSetKernelArg(k, 0, sizeof S.params, &S.params), "clSetKernelArg");
    STEP(S.cl.clSetKernelArg(k, 1, sizeof S.in, &S.in), "clSetKernelArg");
    STEP(S.cl.clSetKernelArg(k, 2, sizeof S.out, &S.out), "clSetKernelArg");
    STEP(S.cl.clEnqueueNDRangeKernel(S.queue, k, 1, 0, &global, &local, 0, 0, &event),
         "clEnqueueNDRangeKernel");
    STEP(S.cl.clWaitForEvents(1, &event), "clWaitForEvents");
    uint64_t from = 0, to = 0;
    if (S.cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, 8, &from, 0) ==
            CL_SUCCESS &&
        S.cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, 8, &to, 0) == CL_SUCCESS &&
        to > from)
        ran.kernel_ns = to - from;
    S.cl.clReleaseEvent(event);
    STEP(S.cl.clEnqueueReadBuffer(S.queue, S.out, 1, 0, w->out_bytes, S.mem + w->out, 0, 0, 0),
         "clEnqueueReadBuffer");
    ran.sum = wire_sum(S.mem + w->out, w->out_bytes);
    reply(0, "", &ran, sizeof ran);
}

__attribute__((visibility("hidden"), noreturn, used)) void worker_main(void)
{
    struct {
        struct wire_head head;
        struct wire_hello hello;
    } hi = {{WIRE_MAGIC, WIRE_VERSION, WIRE_HELLO, 0, sizeof(struct wire_hello), 0, ""},
            {NNF_ABI_VERSION, 0, sizeof(struct wire_head), sizeof(struct wire_run)}};
    hi.hello.pid = (uint32_t)sys_call(SYS_GETPID, 0, 0, 0, 0, 0, 0);
    send_bytes(&hi, sizeof hi);
    for (;;) {
        int fd = -1;
        receive(&fd);
        const void *payload = G.bytes + sizeof G.head;
        static const uint32_t want[] = {
            [WIRE_VENDORS] = sizeof(struct wire_ask),   [WIRE_OPEN] = sizeof(struct wire_ask),
            [WIRE_MEMORY] = sizeof(struct wire_memory), [WIRE_BUILD] = sizeof(struct wire_build),
            [WIRE_RUN] = sizeof(struct wire_run),       [WIRE_BYE] = 0};
        if (G.head.type < WIRE_VENDORS || G.head.type > WIRE_BYE ||
            G.head.n_bytes != want[G.head.type])
            leave(5);
        switch (G.head.type) {
        case WIRE_VENDORS:
            do_vendors((const struct wire_ask *)payload);
            break;
        case WIRE_OPEN:
            do_open((const struct wire_ask *)payload);
            break;
        case WIRE_MEMORY:
            do_memory((const struct wire_memory *)payload, fd);
            break;
        case WIRE_BUILD:
            do_build((const struct wire_build *)payload);
            break;
        case WIRE_RUN:
            do_run((const struct wire_run *)payload);
            break;
        default:
            reply(0, "", 0, 0);
            leave(0);
        }
    }
}
