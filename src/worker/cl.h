/* The part of OpenCL 1.2 that the worker calls. Types and values are those of the Khronos headers
 * (cl.h, cl_icd.h); the numbers in CL_CALLS are places in the ICD dispatch table, which is the ABI
 * between the loader and a vendor's driver: the first word of every object points to that table.
 */
#ifndef WORKER_CL_H
#define WORKER_CL_H
#include <stddef.h>
#include <stdint.h>

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef void *cl_object; /* platform, device, context, queue, buffer, program, kernel, event */

enum {
    CL_SUCCESS = 0,
    CL_DEVICE_NOT_FOUND = -1,
    CL_PLATFORM_NOT_FOUND_KHR = -1001,
    CL_BUILD_PROGRAM_FAILURE = -11
};
enum { CL_PLATFORM_VERSION = 0x0901, CL_PLATFORM_NAME = 0x0902 };
enum {
    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002,
    CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F,
    CL_DEVICE_ENDIAN_LITTLE = 0x1026,
    CL_DEVICE_AVAILABLE = 0x1027,
    CL_DEVICE_COMPILER_AVAILABLE = 0x1028,
    CL_DEVICE_NAME = 0x102B,
    CL_DEVICE_VENDOR = 0x102C,
    CL_DRIVER_VERSION = 0x102D,
    CL_DEVICE_VERSION = 0x102F,
    CL_DEVICE_DOUBLE_FP_CONFIG = 0x1032
};
#define CL_DEVICE_TYPE_ALL 0xFFFFFFFFu
enum { CL_CONTEXT_PLATFORM = 0x1084, CL_PROGRAM_BUILD_LOG = 0x1183 };
enum { CL_QUEUE_PROFILING_ENABLE = 2, CL_MEM_READ_WRITE = 1, CL_MEM_READ_ONLY = 4 };
enum { CL_PROFILING_COMMAND_START = 0x1282, CL_PROFILING_COMMAND_END = 0x1283 };

#define CL_CALLS(X)                                                                                \
    X(0, cl_int, clGetPlatformIDs, (cl_uint, cl_object *, cl_uint *))                              \
    X(1, cl_int, clGetPlatformInfo, (cl_object, cl_uint, size_t, void *, size_t *))                \
    X(2, cl_int, clGetDeviceIDs, (cl_object, cl_ulong, cl_uint, cl_object *, cl_uint *))           \
    X(3, cl_int, clGetDeviceInfo, (cl_object, cl_uint, size_t, void *, size_t *))                  \
    X(4, cl_object, clCreateContext,                                                               \
      (const intptr_t *, cl_uint, const cl_object *, void *, void *, cl_int *))                    \
    X(9, cl_object, clCreateCommandQueue, (cl_object, cl_object, cl_ulong, cl_int *))              \
    X(14, cl_object, clCreateBuffer, (cl_object, cl_ulong, size_t, void *, cl_int *))              \
    X(18, cl_int, clReleaseMemObject, (cl_object))                                                 \
    X(26, cl_object, clCreateProgramWithSource,                                                    \
      (cl_object, cl_uint, const char **, const size_t *, cl_int *))                               \
    X(30, cl_int, clBuildProgram,                                                                  \
      (cl_object, cl_uint, const cl_object *, const char *, void *, void *))                       \
    X(33, cl_int, clGetProgramBuildInfo,                                                           \
      (cl_object, cl_object, cl_uint, size_t, void *, size_t *))                                   \
    X(34, cl_object, clCreateKernel, (cl_object, const char *, cl_int *))                          \
    X(38, cl_int, clSetKernelArg, (cl_object, cl_uint, size_t, const void *))                      \
    X(41, cl_int, clWaitForEvents, (cl_uint, const cl_object *))                                   \
    X(44, cl_int, clReleaseEvent, (cl_object))                                                     \
    X(45, cl_int, clGetEventProfilingInfo, (cl_object, cl_uint, size_t, void *, size_t *))         \
    X(47, cl_int, clFinish, (cl_object))                                                           \
    X(48, cl_int, clEnqueueReadBuffer,                                                             \
      (cl_object, cl_object, cl_uint, size_t, size_t, void *, cl_uint, const cl_object *,          \
       cl_object *))                                                                               \
    X(49, cl_int, clEnqueueWriteBuffer,                                                            \
      (cl_object, cl_object, cl_uint, size_t, size_t, const void *, cl_uint, const cl_object *,    \
       cl_object *))                                                                               \
    X(59, cl_int, clEnqueueNDRangeKernel,                                                          \
      (cl_object, cl_object, cl_uint, const size_t *, const size_t *, const size_t *, cl_uint,     \
       const cl_object *, cl_object *))

struct cl_api {
#define X(place, result, name, args) result(*name) args;
    CL_CALLS(X)
#undef X
};
#endif
