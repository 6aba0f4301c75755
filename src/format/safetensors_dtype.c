/* The element types of safetensors, in the official enum's order, and a tensor's entry. */
#include "format/safetensors.h"

static const struct {
    enum dtype dtype;
    const char *name;
} table[] = {
    /* in the official enum's order: the writer's sort key */
    {DT_BOOL, "BOOL"},
    {DT_F4_E2M1FN, "F4"},
    {DT_F6_E2M3FN, "F6_E2M3"},
    {DT_F6_E3M2FN, "F6_E3M2"},
    {DT_U8, "U8"},
    {DT_I8, "I8"},
    {DT_F8_E5M2, "F8_E5M2"},
    {DT_F8_E4M3FN, "F8_E4M3"},
    {DT_F8_E8M0FNU, "F8_E8M0"},
    {DT_F8_E4M3FNUZ, "F8_E4M3FNUZ"},
    {DT_F8_E5M2FNUZ, "F8_E5M2FNUZ"},
    {DT_I16, "I16"},
    {DT_U16, "U16"},
    {DT_F16, "F16"},
    {DT_BF16, "BF16"},
    {DT_I32, "I32"},
    {DT_U32, "U32"},
    {DT_F32, "F32"},
    {DT_C64, "C64"},
    {DT_F64, "F64"},
    {DT_I64, "I64"},
    {DT_U64, "U64"},
};
#define N_TABLE (sizeof table / sizeof table[0])

int safetensors_rank(enum dtype t)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].dtype == t)
            return (int)i + 1;
    return 0;
}

const char *safetensors_dtype_name(enum dtype t)
{
    int r = safetensors_rank(t);
    return r ? table[r - 1].name : NULL;
}

enum dtype safetensors_dtype_parse(struct str name)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (str_is(name, table[i].name))
            return table[i].dtype;
    return DT_NONE;
}

void safetensors_entry(struct json_w *w, const struct tensor *t, uint64_t at, uint64_t bytes)
{
    json_w_key(w, t->name);
    json_w_object(w);
    json_w_key(w, STR("dtype"));
    json_w_str(w, str_from(safetensors_dtype_name(t->dtype)));
    json_w_key(w, STR("shape"));
    json_w_array(w);
    for (size_t d = 0; d < t->n_dims; d++)
        json_w_u64(w, t->dim[d]);
    json_w_array_end(w);
    json_w_key(w, STR("data_offsets"));
    json_w_array(w);
    json_w_u64(w, at);
    json_w_u64(w, at + bytes);
    json_w_array_end(w);
    json_w_object_end(w);
}
