/* Names in PyTorch's pickles that we give a meaning to. Matching is byte-exact; a name that is not
 * here is an opaque node, or refused when its module runs code (codec/pickle_names.c).
 * Source: pytorch/pytorch torch/_utils.py, torch/storage.py, torch/_weights_only_unpickler.py.
 */
#include "format/pytorch.h"

#define STORAGE(name, t)                                                                           \
    {"torch", name, PT_STORAGE + (t)}, {"torch.cuda", name, PT_STORAGE + (t)},                     \
    {                                                                                              \
        "torch.storage", name, PT_STORAGE + (t)                                                    \
    }
#define REBUILD(name, tag)                                                                         \
    {                                                                                              \
        "torch._utils", name, tag                                                                  \
    }
/* up to torch 1.13 the package was a private one */
#define DCP(name, tag)                                                                             \
    {"torch.distributed.checkpoint.metadata", name, tag},                                          \
    {                                                                                              \
        "torch.distributed._shard.checkpoint.metadata", name, tag                                  \
    }
#define CLASS(name)                                                                                \
    {"torch", name, PT_CLASS},                                                                     \
    {                                                                                              \
        "torch.cuda", name, PT_CLASS                                                               \
    }
const struct pk_allow pytorch_allow[] = {
    STORAGE("DoubleStorage", DT_F64),
    STORAGE("FloatStorage", DT_F32),
    STORAGE("HalfStorage", DT_F16),
    STORAGE("BFloat16Storage", DT_BF16),
    STORAGE("LongStorage", DT_I64),
    STORAGE("IntStorage", DT_I32),
    STORAGE("ShortStorage", DT_I16),
    STORAGE("CharStorage", DT_I8),
    STORAGE("ByteStorage", DT_U8),
    STORAGE("BoolStorage", DT_BOOL),
    STORAGE("ComplexDoubleStorage", DT_C128),
    STORAGE("ComplexFloatStorage", DT_C64),
    STORAGE("QInt8Storage", DT_I8),
    STORAGE("QUInt8Storage", DT_U8),
    STORAGE("QInt32Storage", DT_I32),
    {"torch", "QUInt4x2Storage", PT_STORAGE_PACKED},
    {"torch", "QUInt2x4Storage", PT_STORAGE_PACKED},
    {"torch.storage", "UntypedStorage", PT_STORAGE_UNTYPED},
    {"torch", "UntypedStorage", PT_STORAGE_UNTYPED},
    {"torch.storage", "_UntypedStorage", PT_STORAGE_UNTYPED},

    REBUILD("_rebuild_tensor", PT_REBUILD),
    REBUILD("_rebuild_tensor_v2", PT_REBUILD_V2),
    REBUILD("_rebuild_tensor_v3", PT_REBUILD_V3),
    REBUILD("_rebuild_parameter", PT_PARAMETER),
    REBUILD("_rebuild_parameter_with_state", PT_PARAMETER_STATE),
    REBUILD("_rebuild_qtensor", PT_QTENSOR),
    REBUILD("_rebuild_sparse_tensor", PT_SPARSE),
    REBUILD("_rebuild_nested_tensor", PT_NESTED),
    REBUILD("_rebuild_meta_tensor_no_storage", PT_META),
    REBUILD("_rebuild_device_tensor_from_numpy", PT_FROM_NUMPY),
    REBUILD("_rebuild_device_tensor_from_cpu_tensor", PT_FROM_NUMPY),
    {"torch._tensor", "_rebuild_from_type_v2", PT_FROM_TYPE},
    {"torch.tensor", "_rebuild_from_type_v2", PT_FROM_TYPE},

    {"torch", "per_tensor_affine", PT_QSCHEME_TENSOR},
    {"torch", "per_tensor_symmetric", PT_QSCHEME_TENSOR},
    {"torch", "per_channel_affine", PT_QSCHEME_CHANNEL},
    {"torch", "per_channel_symmetric", PT_QSCHEME_CHANNEL},
    {"torch", "per_channel_affine_float_qparams", PT_QSCHEME_CHANNEL},
    {"torch", "Size", PT_SIZE},
    {"torch", "device", PT_PLAIN},
    {"torch.serialization", "_get_layout", PT_PLAIN},
    {"torch", "Tensor", PT_CLASS},
    {"torch._tensor", "Tensor", PT_CLASS},
    {"torch.nn.parameter", "Parameter", PT_VARIABLE},
    {"torch.autograd.variable", "Variable", PT_VARIABLE},
    {"torch.nn.parameter", "Buffer", PT_CLASS},
    CLASS("DoubleTensor"),
    CLASS("FloatTensor"),
    CLASS("HalfTensor"),
    CLASS("BFloat16Tensor"),
    CLASS("LongTensor"),
    CLASS("IntTensor"),
    CLASS("ShortTensor"),
    CLASS("CharTensor"),
    CLASS("ByteTensor"),
    CLASS("BoolTensor"),

    {"torch", "float64", PT_DTYPE + DT_F64},
    {"torch", "float32", PT_DTYPE + DT_F32},
    {"torch", "float16", PT_DTYPE + DT_F16},
    {"torch", "bfloat16", PT_DTYPE + DT_BF16},
    {"torch", "float8_e4m3fn", PT_DTYPE + DT_F8_E4M3FN},
    {"torch", "float8_e5m2", PT_DTYPE + DT_F8_E5M2},
    {"torch", "float8_e4m3fnuz", PT_DTYPE + DT_F8_E4M3FNUZ},
    {"torch", "float8_e5m2fnuz", PT_DTYPE + DT_F8_E5M2FNUZ},
    {"torch", "float8_e8m0fnu", PT_DTYPE + DT_F8_E8M0FNU},
    {"torch", "float4_e2m1fn_x2", PT_DTYPE_F4X2},
    {"torch", "int64", PT_DTYPE + DT_I64},
    {"torch", "int32", PT_DTYPE + DT_I32},
    {"torch", "int16", PT_DTYPE + DT_I16},
    {"torch", "int8", PT_DTYPE + DT_I8},
    {"torch", "uint64", PT_DTYPE + DT_U64},
    {"torch", "uint32", PT_DTYPE + DT_U32},
    {"torch", "uint16", PT_DTYPE + DT_U16},
    {"torch", "uint8", PT_DTYPE + DT_U8},
    {"torch", "bool", PT_DTYPE + DT_BOOL},
    {"torch", "complex32", PT_DTYPE + DT_C32},
    {"torch", "complex64", PT_DTYPE + DT_C64},
    {"torch", "complex128", PT_DTYPE + DT_C128},
    {"torch", "qint8", PT_DTYPE_OTHER},
    {"torch", "quint8", PT_DTYPE_OTHER},
    {"torch", "qint32", PT_DTYPE_OTHER},
    {"torch", "quint4x2", PT_DTYPE_OTHER},
    {"torch", "quint2x4", PT_DTYPE_OTHER},
    {"torch", "bits8", PT_DTYPE_OTHER},
    {"torch", "bits16", PT_DTYPE_OTHER},
    {"torch", "bits1x8", PT_DTYPE_OTHER},
    {"torch", "bits2x4", PT_DTYPE_OTHER},
    {"torch", "bits4x2", PT_DTYPE_OTHER},

    {"torch.jit._pickle", "build_intlist", PT_SCRIPT_LIST},
    {"torch.jit._pickle", "build_doublelist", PT_SCRIPT_LIST},
    {"torch.jit._pickle", "build_boollist", PT_SCRIPT_LIST},
    {"torch.jit._pickle", "build_tensorlist", PT_SCRIPT_LIST},
    {"torch.jit._pickle", "restore_type_tag", PT_SCRIPT_TAG},

    DCP("Metadata", PT_DCP_METADATA),
    DCP("TensorStorageMetadata", PT_DCP_TENSOR),
    DCP("BytesStorageMetadata", PT_DCP_BYTES),
    DCP("ChunkStorageMetadata", PT_DCP_CHUNK),
    DCP("TensorProperties", PT_DCP_PROPERTIES),
    DCP("MetadataIndex", PT_DCP_INDEX),
    DCP("StorageMeta", PT_CLASS),
    DCP("_MEM_FORMAT_ENCODING", PT_CLASS),
    {"torch.distributed.checkpoint.filesystem", "_StorageInfo", PT_DCP_PLACE},
    {"torch.distributed._shard.checkpoint.filesystem", "_StorageInfo", PT_DCP_PLACE},
    {"torch.distributed._shard.sharded_tensor.metadata", "TensorProperties", PT_DCP_PROPERTIES},
    {"torch.distributed._shard.sharded_tensor.metadata", "MEM_FORMAT_ENCODING", PT_CLASS},
    {"torch.distributed._shard.metadata", "ShardMetadata", PT_CLASS},
    {"pathlib", "PosixPath", PT_CLASS},

    {"collections", "OrderedDict", PT_ORDERED_DICT},
    {"collections", "defaultdict", PT_DICT},
    {"collections", "Counter", PT_DICT},
    {"_codecs", "encode", PT_ENCODE},
    {"builtins", "set", PT_SET},
    {"__builtin__", "set", PT_SET},
    {"builtins", "frozenset", PT_SET},
    {"__builtin__", "frozenset", PT_SET},
    {"builtins", "bytearray", PT_BYTEARRAY},
    {"__builtin__", "bytearray", PT_BYTEARRAY},
    {"builtins", "complex", PT_COMPLEX},
    {"__builtin__", "complex", PT_COMPLEX},
    {"copyreg", "_reconstructor", PT_RECONSTRUCTOR},
    {"copy_reg", "_reconstructor", PT_RECONSTRUCTOR},
    {"builtins", "object", PT_CLASS},
    {"__builtin__", "object", PT_CLASS},
    {"builtins", "dict", PT_CLASS},
    {"builtins", "list", PT_CLASS},
    {"builtins", "int", PT_CLASS},
    {"builtins", "float", PT_CLASS},
    {"__builtin__", "dict", PT_CLASS},
    {"__builtin__", "list", PT_CLASS},
    {"__builtin__", "int", PT_CLASS},
    {"__builtin__", "float", PT_CLASS},

    {"numpy.core.multiarray", "_reconstruct", PT_NP_ARRAY},
    {"numpy._core.multiarray", "_reconstruct", PT_NP_ARRAY},
    {"numpy.core.multiarray", "scalar", PT_NP_SCALAR},
    {"numpy._core.multiarray", "scalar", PT_NP_SCALAR},
    {"numpy.core.numeric", "_frombuffer", PT_NP_FROMBUFFER},
    {"numpy._core.numeric", "_frombuffer", PT_NP_FROMBUFFER},
    {"numpy", "dtype", PT_NP_DTYPE},
    {"numpy", "ndarray", PT_NP_NDARRAY},
    {"ml_dtypes", "bfloat16", PT_ML_DTYPE + DT_BF16},
    {"ml_dtypes", "float8_e4m3fn", PT_ML_DTYPE + DT_F8_E4M3FN},
    {"ml_dtypes", "float8_e5m2", PT_ML_DTYPE + DT_F8_E5M2},
    {"ml_dtypes", "float8_e4m3fnuz", PT_ML_DTYPE + DT_F8_E4M3FNUZ},
    {"ml_dtypes", "float8_e5m2fnuz", PT_ML_DTYPE + DT_F8_E5M2FNUZ},
    {"ml_dtypes", "float8_e8m0fnu", PT_ML_DTYPE + DT_F8_E8M0FNU},
};
const size_t n_pytorch_allow = sizeof pytorch_allow / sizeof *pytorch_allow;

/* how a tensor of a distributed checkpoint lay in memory */
#define FORMATS(module, class)                                                                     \
    {module, class, "TORCH_CONTIGUOUS_FORMAT"}, {module, class, "TORCH_CHANNELS_LAST"},            \
    {                                                                                              \
        module, class, "TORCH_PRESERVE_FORMAT"                                                     \
    }
const struct pk_member pytorch_members[] = {
    FORMATS("torch.distributed._shard.sharded_tensor.metadata", "MEM_FORMAT_ENCODING"),
    FORMATS("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
};
const size_t n_pytorch_members = sizeof pytorch_members / sizeof *pytorch_members;

static const struct {
    enum dtype dtype;
    const char *storage; /* NULL: written through _rebuild_tensor_v3 */
    const char *name;
} types[] = {
    {DT_F64, "DoubleStorage", "float64"},
    {DT_F32, "FloatStorage", "float32"},
    {DT_F16, "HalfStorage", "float16"},
    {DT_BF16, "BFloat16Storage", "bfloat16"},
    {DT_F8_E4M3FN, NULL, "float8_e4m3fn"},
    {DT_F8_E5M2, NULL, "float8_e5m2"},
    {DT_F8_E4M3FNUZ, NULL, "float8_e4m3fnuz"},
    {DT_F8_E5M2FNUZ, NULL, "float8_e5m2fnuz"},
    {DT_F8_E8M0FNU, NULL, "float8_e8m0fnu"},
    {DT_F4_E2M1FN, NULL, "float4_e2m1fn_x2"},
    {DT_I64, "LongStorage", "int64"},
    {DT_I32, "IntStorage", "int32"},
    {DT_I16, "ShortStorage", "int16"},
    {DT_I8, "CharStorage", "int8"},
    {DT_U64, NULL, "uint64"},
    {DT_U32, NULL, "uint32"},
    {DT_U16, NULL, "uint16"},
    {DT_U8, "ByteStorage", "uint8"},
    {DT_BOOL, "BoolStorage", "bool"},
    {DT_C32, NULL, "complex32"},
    {DT_C64, "ComplexFloatStorage", "complex64"},
    {DT_C128, "ComplexDoubleStorage", "complex128"},
};
const char *pytorch_storage_class(enum dtype t)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == t)
            return types[i].storage;
    return NULL;
}
const char *pytorch_dtype_name(enum dtype t)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == t)
            return types[i].name;
    return NULL;
}
