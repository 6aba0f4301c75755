/* ONNX: one protobuf message, ModelProto, and files of external data beside it.
 *
 *   ModelProto    1 ir_version, 2 producer_name, 3 producer_version, 4 domain, 5 model_version,
 *                 6 doc_string, 7 graph, 8 opset_import {1 domain, 2 version}, 14 metadata_props
 *                 {1 key, 2 value}, 20 training_info {1 initialization, 2 algorithm: graphs},
 *                 25 functions {1 name, 7 node, 10 domain, 11 attribute_proto, 13 overload}
 *   GraphProto    1 node, 2 name, 5 initializer, 15 sparse_initializer {1 values, 2 indices,
 *                 3 dims}
 *   NodeProto     1 input, 2 output, 3 name, 4 op_type, 5 attribute, 7 domain
 *   AttributeProto 1 name, 5 t, 6 g, 10 tensors, 11 graphs, 22 sparse_tensor, 23 sparse_tensors
 *   TensorProto   1 dims, 2 data_type, 8 name, 9 raw_data: little-endian, C order, below 8 bits
 *                 packed with the lowest bits first; or 4 float_data, 5 int32_data, 7 int64_data,
 *                 10 double_data, 11 uint64_data: int32_data holds every type of up to 32 bits but
 *                 float32, float16 and the like as bit patterns, packed types byte by byte;
 *                 6 string_data; 14 data_location 1: 13 external_data {location, offset, length}
 *
 * Every TensorProto of numbers is a tensor, whatever holds it; names: onnx_walk.c. A list of
 * numbers that lies back to back is read in place, any other decoded as a stream. What is left of
 * the file (nodes, strings, metadata) travels as the attachment graph.onnx, and where its tensors
 * come back with their names, types and shapes it is filled again and runs as before; else the file
 * written holds initializers alone. In one file the numbers stand in raw_data, in a folder (with
 * --max-shard-size) those of 1 KiB and more in model.onnx.data.
 * Source: onnx/onnx, onnx/onnx.proto, docs/ExternalData.md, onnx/external_data_helper.py.
 *
 * Refused: what codec/proto.h refuses, nested-too-deep, field-twice, too-many-tensors, bad-name,
 * name-twice, bad-shape, shape-overflow, unknown-dtype, data-twice, data-field, data-location,
 * no-opset, size-mismatch, value-range, tensor-segment, external-key, external-length,
 * external-range, path-escape, sparse-part, sparse-shape, sparse-index, sparse-order, sparse-size.
 */
#include "format/onnx.h"
#include <string.h>

#define LOOK 256 /* fields of a model that its recognition looks at */

/* The fields a ModelProto has, with their wire types; 255: none. */
static uint8_t wire_of(uint32_t field)
{
    switch (field) {
    case 1:
    case 5:
        return PROTO_VARINT;
    case 2:
    case 3:
    case 4:
    case 6:
    case 7:
    case 8:
    case 14:
    case 20:
    case 25:
    case 26:
        return PROTO_LEN;
    default:
        return 255;
    }
}

/* There is no magic: a walk over the top of the message tells. */
static int bid(const struct source *s)
{
    struct cursor c;
    struct proto m;
    bool version = false, graph = false, odd = false;
    if (s->dir)
        return 0;
    bool named = str_ends(str_from(s->path), STR(".onnx"));
    if (s->head_n >= onnx_mark_bytes && memcmp(s->head, onnx_mark, onnx_mark_bytes) == 0)
        return 0; /* a graph that waits for its numbers */
    cur_file(&c, s->file, 0, file_size(s->file));
    proto_init(&m, &c, c.end);
    for (int i = 0; i < LOOK && !odd && proto_next(&m); i++) {
        odd = wire_of(m.field) != m.wire || (m.field == 1 && (m.u == 0 || m.u > 1000));
        version = version || m.field == 1;
        graph = graph || m.field == 7;
    }
    bool whole = cur_ok(&c, NULL) == ST_OK && !odd;
    cur_close(&c);
    if (whole && version && graph)
        return 80;
    return named && s->head_n > 0 && !odd ? 40 : named ? 20 : 0;
}

const struct format onnx_format = {
    .name = "onnx",
    .title = "ONNX, one file or a folder with external data",
    .suffix = {".onnx", NULL},
    .reads = true,
    .writes = true,
    .dir_target = true,
    .keeps = {ONNX_GRAPH},
    .fits = onnx_graph_fits,
    .keeps_meta = {"*"},
    .refuses = "external data outside the model's folder or of another length, numbers in two "
               "places or of another size than the shape, messages nested more than 96 deep, "
               "doubled names, tensors in segments, sparse indices outside the shape or out of "
               "order",
    .bid = bid,
    .read = onnx_read,
    .check = onnx_check,
    .begin = onnx_begin,
    .end = onnx_end,
};
