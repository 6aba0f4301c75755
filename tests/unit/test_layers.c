/* Recognition: what names, siblings and shapes say, and what they leave open. */
#include "framework/framework.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct arena arena;
static struct layers found;
static struct err err;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    return 0;
}
static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    model_free(&m);
    return 0;
}

static void recognise(const char *framework)
{
    toy_done(&m);
    const struct framework *f = framework_find(str_from(framework));
    assert_non_null(f);
    if (f->layers(&m, &arena, &found, &err) != ST_OK)
        fail_msg("%s", err.reason);
    /* every tensor in exactly one layer */
    int *seen = calloc(m.n_tensors, sizeof *seen);
    assert_non_null(seen);
    for (size_t i = 0; i < found.n; i++)
        for (int k = 0; k < LEAF_N; k++)
            if (found.layer[i].tensor[k] >= 0)
                seen[found.layer[i].tensor[k]]++;
    for (size_t i = 0; i < m.n_tensors; i++)
        assert_int_equal(seen[i], 1);
    free(seen);
}

static const struct layer *layer(const char *path)
{
    for (size_t i = 0; i < found.n; i++)
        if (str_is(found.layer[i].path, path))
            return &found.layer[i];
    fail_msg("no layer %s", path);
    return NULL;
}

static void is(const char *path, enum layer_kind kind, unsigned kinds)
{
    const struct layer *l = layer(path);
    if (l->kind != kind || l->kinds != kinds)
        fail_msg("%s is %s (%x): %.*s", path, layer_kind_name(l->kind), l->kinds,
                 STR_ARG(l->reason));
    assert_true(l->reason.n > 0);
}
#define ONE(k) LAYER_##k, KIND_BIT(LAYER_##k)
#define CONV_OR (KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE))
#define LIN_OR (KIND_BIT(LAYER_LINEAR) | KIND_BIT(LAYER_EMBEDDING))
#define NORM_OR (KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM))

static void torch_matrices(void **state)
{
    (void)state;
    toy_add(&m, "0.weight", 0, 4, 4, -1);
    toy_add(&m, "0.bias", 0, 4, -1);
    toy_add(&m, "1.weight", 0, 5, 4, -1);
    toy_add(&m, "word_embeddings.weight", 0, 4, 4, -1);
    toy_add(&m, "embed_out.weight", 0, 4, 4, -1); /* NeoX: a dense layer */
    toy_add(&m, "token_fc.weight", 0, 4, 4, -1);
    toy_add(&m, "relative_attention_bias.weight", 0, 4, 2, -1);
    toy_add(&m, "odd.weight", 0, 4, 3, -1);
    toy_add(&m, "odd.bias", 0, 7, -1);
    recognise("pytorch");
    is("0", ONE(LINEAR));
    is("1", LAYER_NONE, LIN_OR);
    is("word_embeddings", ONE(EMBEDDING));
    is("embed_out", ONE(LINEAR));
    is("token_fc", ONE(LINEAR));
    is("relative_attention_bias", ONE(EMBEDDING));
    is("odd", LAYER_NONE, 0);
}

static void torch_convolutions(void **state)
{
    (void)state;
    toy_add(&m, "a.weight", 0, 5, 2, 3, -1); /* what it gives, b reads */
    toy_add(&m, "a.bias", 0, 5, -1);
    toy_add(&m, "b.weight", 0, 2, 5, 3, -1);
    toy_add(&m, "b.bias", 0, 5, -1); /* fits the second axis: transposed */
    toy_add(&m, "c.weight", 0, 4, 4, 3, 3, -1);
    toy_add(&m, "c.bias", 0, 4, -1); /* fits both */
    toy_add(&m, "d.weight", 0, 6, 2, 3, 3, -1);
    toy_add(&m, "d.bias", 0, 4, -1); /* two groups of two outputs */
    toy_add(&m, "net.0.weight", 0, 6, 2, 3, 3, -1);
    toy_add(&m, "net.1.running_mean", 0, 6, -1);
    toy_add(&m, "net.1.running_var", 0, 6, -1);
    toy_add(&m, "net.3.weight", 0, 6, 2, 3, 3, -1);
    toy_add(&m, "net.4.running_mean", 0, 2, -1);
    toy_add(&m, "net.4.running_var", 0, 2, -1);
    toy_add(&m, "net.6.weight", 0, 6, 2, 3, 3, -1);
    toy_add(&m, "downsample.0.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "upconv.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "ConvTranspose_0.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "patch_embed.proj.weight", 0, 4, 3, 2, 2, -1);
    recognise("pytorch");
    is("a", ONE(CONV));
    is("b", ONE(CONV_TRANSPOSE));
    is("c", LAYER_NONE, CONV_OR);
    is("d", ONE(CONV_TRANSPOSE));
    assert_int_equal(layer("d")->groups, 2);
    is("net.0", ONE(CONV));
    is("net.3", ONE(CONV_TRANSPOSE));
    is("net.6", LAYER_NONE, CONV_OR);
    is("downsample.0", ONE(CONV));
    is("upconv", ONE(CONV_TRANSPOSE));
    is("ConvTranspose_0", ONE(CONV_TRANSPOSE));
    is("patch_embed.proj", ONE(CONV));
    assert_int_equal(layer("a")->rank, 1);
    assert_int_equal(layer("c")->rank, 2);
}

/* Convolutions whose axes are equal, or whose names say little: by the same layer of other blocks,
 * by a norm behind; a kernel of two or four may be a transposed one's. */
static void torch_equal_axes(void **state)
{
    (void)state;
    toy_add(&m, "blocks.0.b.0.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "blocks.0.k.0.weight", 0, 4, 4, 3, 3, -1);
    toy_add(&m, "blocks.1.b.0.weight", 0, 8, 4, 1, 1, -1);
    toy_add(&m, "blocks.1.b.1.running_mean", 0, 8, -1);
    toy_add(&m, "blocks.1.b.1.running_var", 0, 8, -1);
    toy_add(&m, "blocks.1.k.0.weight", 0, 8, 4, 3, 3, -1);
    toy_add(&m, "blocks.1.k.1.running_mean", 0, 8, -1);
    toy_add(&m, "blocks.1.k.1.running_var", 0, 8, -1);
    toy_add(&m, "up.0.b.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "up.1.b.weight", 0, 4, 8, 1, 1, -1);
    toy_add(&m, "up.1.b.bias", 0, 8, -1);
    toy_add(&m, "up.2.b.weight", 0, 8, 4, 1, 1, -1);
    toy_add(&m, "up.2.b.bias", 0, 8, -1);
    toy_add(&m, "conv_head.weight", 0, 6, 4, 1, 1, -1);
    toy_add(&m, "neck.0.weight", 0, 6, 4, 1, 1, -1);
    toy_add(&m, "neck.1.weight", 0, 6, -1);
    toy_add(&m, "neck.1.bias", 0, 6, -1);
    toy_add(&m, "roi.conv5.weight", 0, 4, 4, 2, 2, -1);
    toy_add(&m, "roi.conv5.bias", 0, 4, -1);
    toy_add(&m, "roi.conv4.weight", 0, 4, 4, 3, 3, -1);
    toy_add(&m, "downsample.conv.weight", 0, 4, 4, 2, 2, -1);
    toy_add(&m, "patch_embed.1.conv.weight", 0, 4, 4, 4, 4, -1);
    recognise("pytorch");
    is("blocks.0.b.0", ONE(CONV));
    is("blocks.0.k.0", LAYER_NONE, CONV_OR);
    is("up.0.b", LAYER_NONE, CONV_OR);
    is("conv_head", ONE(CONV));
    is("neck.0", ONE(CONV));
    is("roi.conv5", LAYER_NONE, CONV_OR);
    is("roi.conv4", ONE(CONV));
    is("downsample.conv", ONE(CONV));
    is("patch_embed.1.conv", ONE(CONV));
}

#define MAYBE_BILINEAR(k) LAYER_NONE, KIND_BIT(LAYER_##k) | KIND_BIT(LAYER_PARAM)
/* nn.Bilinear's [out, in1, in2] has the shape of a convolution over a sequence. */
static void torch_bilinear(void **state)
{
    (void)state;
    toy_add(&m, "left.weight", 0, 12, 10, -1);
    toy_add(&m, "left.bias", 0, 12, -1);
    toy_add(&m, "right.weight", 0, 8, 9, -1);
    toy_add(&m, "right.bias", 0, 8, -1);
    toy_add(&m, "bilinear.weight", 0, 6, 12, 8, -1);
    toy_add(&m, "bilinear.bias", 0, 6, -1);
    toy_add(&m, "heads.BiAffine.0.weight", 0, 6, 12, 12, -1); /* without bias */
    toy_add(&m, "score.weight", 0, 6, 12, 8, -1);
    toy_add(&m, "score.bias", 0, 6, -1);
    toy_add(&m, "conv1.score.weight", 0, 6, 12, 8, -1); /* as long as what right gives */
    toy_add(&m, "conv1.score.bias", 0, 6, -1);
    toy_add(&m, "raw.weight", 0, 5, 14, 7, -1); /* nothing gives or reads what it does */
    toy_add(&m, "raw.bias", 0, 5, -1);
    toy_add(&m, "relation.weight", 0, 3, 16, 16, -1); /* [relations, in, out] */
    toy_add(&m, "relation.bias", 0, 16, -1);
    toy_add(&m, "list.0.weight", 0, 6, 12, 8, -1);
    toy_add(&m, "list.0.bias", 0, 6, -1);
    toy_add(&m, "list.1.weight", 0, 6, 12, 8, -1);
    toy_add(&m, "list.1.bias", 0, 6, -1);
    toy_add(&m, "list.1.u", 0, 6, -1);
    toy_add(&m, "list.10.weight", 0, 6, -1); /* is not below list.1 */
    recognise("pytorch");
    is("bilinear", LAYER_NONE, 0);
    is("heads.BiAffine.0", LAYER_NONE, 0);
    is("score", MAYBE_BILINEAR(CONV));
    is("conv1.score", MAYBE_BILINEAR(CONV));
    is("raw", MAYBE_BILINEAR(CONV));
    is("relation", MAYBE_BILINEAR(CONV_TRANSPOSE));
    is("list.0", MAYBE_BILINEAR(CONV));
    is("list.1", MAYBE_BILINEAR(CONV));
}

/* Convolutions over sequences as people name them: none is asked about. */
static void torch_sequences(void **state)
{
    (void)state;
    toy_add(&m, "conv1.weight", 0, 6, 4, 8, -1); /* by its name, whatever else is 8 long */
    toy_add(&m, "conv1.bias", 0, 6, -1);
    toy_add(&m, "proj.weight", 0, 6, 4, 8, -1);
    toy_add(&m, "proj.bias", 0, 6, -1);
    toy_add(&m, "cnn.layers.3.a.weight", 0, 6, 4, 2, -1);
    toy_add(&m, "cnn.layers.3.a.bias", 0, 6, -1);
    toy_add(&m, "net.0.weight", 0, 6, 4, 8, -1); /* between modules without tensors */
    toy_add(&m, "net.0.bias", 0, 6, -1);
    toy_add(&m, "net.2.weight", 0, 9, 6, 8, -1);
    toy_add(&m, "net.2.bias", 0, 9, -1);
    toy_add(&m, "seq.0.weight", 0, 6, 4, 8, -1); /* before a norm */
    toy_add(&m, "seq.0.bias", 0, 6, -1);
    toy_add(&m, "seq.1.weight", 0, 6, -1);
    toy_add(&m, "seq.1.bias", 0, 6, -1);
    toy_add(&m, "layer1.weight", 0, 16, 4, 5, -1); /* one after the other, of odd length */
    toy_add(&m, "layer1.bias", 0, 16, -1);
    toy_add(&m, "layer2.weight", 0, 32, 16, 3, -1);
    toy_add(&m, "layer2.bias", 0, 32, -1);
    toy_add(&m, "lift.weight", 0, 32, 24, 1, -1); /* one value */
    toy_add(&m, "lift.bias", 0, 32, -1);
    toy_add(&m, "wave.weight", 0, 32, 1, 80, -1); /* one channel */
    toy_add(&m, "wave.bias", 0, 32, -1);
    toy_add(&m, "fc.weight", 0, 8, 64, -1);
    toy_add(&m, "fc.bias", 0, 8, -1);
    recognise("pytorch");
    static const char *const all[] = {"conv1", "proj",   "cnn.layers.3.a", "net.0", "net.2",
                                      "seq.0", "layer1", "layer2",         "lift",  "wave"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        is(all[i], ONE(CONV));
}

static void torch_vectors(void **state)
{
    (void)state;
    toy_add(&m, "a.weight", 0, 4, -1);
    toy_add(&m, "a.bias", 0, 4, -1);
    toy_add(&m, "gn1.weight", 0, 4, -1);
    toy_add(&m, "gn1.bias", 0, 4, -1);
    toy_add(&m, "final_layer_norm.weight", 0, 4, -1);
    toy_add(&m, "act.weight", 0, 4, -1);
    toy_add(&m, "thing.weight", 0, 4, -1);
    toy_add(&m, "bn.weight", 0, 4, -1);
    toy_add(&m, "bn.bias", 0, 4, -1);
    toy_add(&m, "bn.running_mean", 0, 4, -1);
    toy_add(&m, "bn.running_var", 0, 4, -1);
    toy_counter(&m, "bn.num_batches_tracked", 3);
    toy_add(&m, "cls_token", 0, 1, 1, 4, -1);
    toy_add(&m, "ln2d.weight", 0, 3, 4, -1);
    toy_add(&m, "ln2d.bias", 0, 3, 4, -1);
    recognise("pytorch");
    is("a", LAYER_LAYERNORM, NORM_OR);
    is("gn1", ONE(GROUPNORM));
    is("final_layer_norm", ONE(LAYERNORM));
    is("act", ONE(PRELU));
    is("thing", LAYER_NONE, NORM_OR | KIND_BIT(LAYER_PARAM) | KIND_BIT(LAYER_PRELU));
    is("bn", ONE(BATCHNORM));
    assert_true(layer("bn")->tensor[LEAF_COUNT] >= 0);
    is("cls_token", ONE(PARAM));
    is("ln2d", LAYER_NONE, 0);
}

static void gpt2_and_its_like(void **state)
{
    (void)state;
    toy_add(&m, "h.0.attn.c_attn.weight", 0, 12, 4, -1); /* nanoGPT: a dense layer */
    toy_add(&m, "h.0.attn.c_attn.bias", 0, 12, -1);
    toy_add(&m, "h.0.attn.c_proj.weight", 0, 4, 4, -1);
    toy_add(&m, "h.0.attn.c_proj.bias", 0, 4, -1);
    recognise("pytorch");
    is("h.0.attn.c_attn", ONE(LINEAR));
    is("h.0.attn.c_proj", ONE(LINEAR));
}

static void torch_attention(void **state)
{
    (void)state;
    toy_add(&m, "a.in_proj_weight", 0, 12, 4, -1);
    toy_add(&m, "a.out_proj.weight", 0, 4, 4, -1);
    toy_add(&m, "b.q_proj_weight", 0, 4, 4, -1);
    toy_add(&m, "b.k_proj_weight", 0, 4, 3, -1);
    toy_add(&m, "b.v_proj_weight", 0, 4, 2, -1);
    toy_add(&m, "b.in_proj_bias", 0, 12, -1);
    toy_add(&m, "b.out_proj.weight", 0, 4, 4, -1);
    toy_add(&m, "c.in_proj_weight", 0, 12, 4, -1); /* with bias_k: no rule */
    toy_add(&m, "c.bias_k", 0, 1, 1, 4, -1);
    toy_add(&m, "c.bias_v", 0, 1, 1, 4, -1);
    toy_add(&m, "c.out_proj.weight", 0, 4, 4, -1);
    recognise("pytorch");
    is("a", ONE(ATTENTION));
    is("b", ONE(ATTENTION));
    is("c.in_proj_weight", LAYER_NONE, 0);
}

static void flax(void **state)
{
    (void)state;
    toy_add(&m, "params.Dense_0.kernel", 0, 4, 4, -1);
    toy_add(&m, "params.Conv_0.kernel", 0, 3, 3, 4, 4, -1);
    toy_add(&m, "params.ConvTranspose_0.kernel", 0, 3, 3, 4, 4, -1);
    toy_add(&m, "params.kept.kernel", 0, 3, 3, 5, 4, -1);
    toy_add(&m, "params.kept.bias", 0, 5, -1); /* fits the axis before the last */
    toy_add(&m, "params.open.kernel", 0, 3, 3, 5, 4, -1);
    toy_add(&m, "params.BatchNorm_0.scale", 0, 4, -1);
    toy_add(&m, "params.BatchNorm_0.bias", 0, 4, -1);
    toy_add(&m, "batch_stats.BatchNorm_0.mean", 0, 4, -1);
    toy_add(&m, "batch_stats.BatchNorm_0.var", 0, 4, -1);
    toy_add(&m, "params.GroupNorm_0.scale", 0, 4, -1);
    toy_add(&m, "params.n.scale", 0, 4, -1);
    toy_add(&m, "params.Embed_0.embedding", 0, 4, 4, -1);
    toy_add(&m, "params.att.query.kernel", 0, 6, 2, 3, -1);
    toy_add(&m, "params.att.key.kernel", 0, 6, 2, 3, -1);
    toy_add(&m, "params.att.value.kernel", 0, 6, 2, 3, -1);
    toy_add(&m, "params.att.out.kernel", 0, 2, 3, 6, -1);
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 6, -1);
    toy_add(&m, "params.self.query.kernel", 0, 4, 4, -1); /* BERT: plain dense layers */
    toy_add(&m, "params.pos", 0, 1, 7, 4, -1);
    recognise("flax");
    is("Dense_0", ONE(LINEAR));
    is("Conv_0", ONE(CONV));
    is("ConvTranspose_0", ONE(CONV_TRANSPOSE));
    assert_true(layer("ConvTranspose_0")->flip);
    is("kept", ONE(CONV_TRANSPOSE));
    assert_false(layer("kept")->flip);
    is("open", LAYER_NONE, CONV_OR);
    is("BatchNorm_0", ONE(BATCHNORM));
    is("GroupNorm_0", ONE(GROUPNORM));
    is("n", LAYER_LAYERNORM, NORM_OR);
    is("Embed_0", ONE(EMBEDDING));
    is("att", ONE(ATTENTION));
    assert_int_equal(layer("att")->heads, 2);
    is("DenseGeneral_0", LAYER_NONE, 0);
    is("self.query", ONE(LINEAR));
    is("pos", ONE(PARAM));
}

/* Flax before 0.6: below "target", where its optimizer's count stands beside it. */
static void flax_optim(void **state)
{
    (void)state;
    toy_add(&m, "target.Dense_0.kernel", 0, 4, 3, -1);
    toy_add(&m, "target.Dense_0.bias", 0, 3, -1);
    toy_counter(&m, "state.step", 3);
    recognise("flax");
    is("Dense_0", LAYER_LINEAR, KIND_BIT(LAYER_LINEAR));
    end(state);
    begin(state);
    toy_add(&m, "optimizer.target.params.Dense_0.kernel", 0, 4, 3, -1);
    toy_add(&m, "optimizer.target.params.Dense_0.bias", 0, 3, -1);
    toy_counter(&m, "optimizer.state.step", 3);
    recognise("flax");
    is("Dense_0", LAYER_LINEAR, KIND_BIT(LAYER_LINEAR));
    end(state);
    begin(state);
    toy_add(&m, "target.Dense_0.kernel", 0, 4, 3, -1); /* of two networks, one is called so */
    toy_add(&m, "target.Dense_0.bias", 0, 3, -1);
    toy_add(&m, "online.Dense_0.kernel", 0, 4, 3, -1);
    recognise("flax");
    is("target.Dense_0", LAYER_LINEAR, KIND_BIT(LAYER_LINEAR));
}

static void flax_train_state(void **state)
{
    (void)state;
    toy_add(&m, "params.params.Dense_0.kernel", 0, 4, 3, -1);
    toy_add(&m, "params.batch_stats.bn.mean", 0, 4, -1);
    toy_add(&m, "params.batch_stats.bn.var", 0, 4, -1);
    recognise("flax");
    is("Dense_0", ONE(LINEAR));
    is("bn", ONE(BATCHNORM));
}

static void nnx(void **state)
{
    (void)state;
    toy_add(&m, "layers.0.kernel", 0, 3, 3, 4, 4, -1);
    toy_add(&m, "layers.0.bias", 0, 4, -1);
    toy_add(&m, "conv.kernel.value", 0, 3, 3, 4, 4, -1); /* a Variable saved as a node */
    toy_add(&m, "conv.bias.value", 0, 4, -1);
    toy_add(&m, "bn.scale", 0, 4, -1);
    toy_add(&m, "bn.bias", 0, 4, -1);
    toy_add(&m, "bn.mean", 0, 4, -1);
    toy_add(&m, "bn.var", 0, 4, -1);
    toy_add(&m, "fc.kernel", 0, 4, 4, -1);
    toy_add(&m, "att.query.kernel.raw_value", 0, 6, 2, 3, -1);
    toy_add(&m, "att.key.kernel.raw_value", 0, 6, 2, 3, -1);
    toy_add(&m, "att.value.kernel.raw_value", 0, 6, 2, 3, -1);
    toy_add(&m, "att.out.kernel.raw_value", 0, 2, 3, 6, -1);
    recognise("nnx");
    is("layers.0", LAYER_NONE, CONV_OR | KIND_BIT(LAYER_LINEAR));
    is("conv", ONE(CONV));
    is("bn", ONE(BATCHNORM));
    is("fc", ONE(LINEAR));
    is("att", ONE(ATTENTION));
    assert_string_equal(framework_of(&m)->name, "nnx"); /* statistics without a collection */
}

static void who_it_is(void **state)
{
    (void)state;
    toy_add(&m, "params.Dense_0.kernel", 0, 4, 3, -1);
    toy_done(&m);
    assert_string_equal(framework_of(&m)->name, "flax");
    model_free(&m);
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 4, 3, -1);
    toy_done(&m);
    assert_string_equal(framework_of(&m)->name, "pytorch");
    model_free(&m);
    model_init(&m);
    toy_add(&m, "x", 0, 4, 3, -1);
    toy_done(&m);
    assert_null(framework_of(&m));
}

static void names(void **state)
{
    (void)state;
    for (unsigned k = 0; k < LAYER_KINDS; k++) {
        enum layer_kind back;
        assert_true(layer_kind_parse(str_from(layer_kind_name((enum layer_kind)k)), &back));
        assert_int_equal(back, k);
    }
    for (unsigned l = 0; l < LEAF_N; l++) {
        enum leaf back;
        assert_true(leaf_parse(str_from(leaf_name((enum leaf)l)), &back));
        assert_int_equal(back, l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(torch_matrices, begin, end),
        cmocka_unit_test_setup_teardown(torch_convolutions, begin, end),
        cmocka_unit_test_setup_teardown(torch_equal_axes, begin, end),
        cmocka_unit_test_setup_teardown(torch_bilinear, begin, end),
        cmocka_unit_test_setup_teardown(torch_sequences, begin, end),
        cmocka_unit_test_setup_teardown(torch_vectors, begin, end),
        cmocka_unit_test_setup_teardown(gpt2_and_its_like, begin, end),
        cmocka_unit_test_setup_teardown(torch_attention, begin, end),
        cmocka_unit_test_setup_teardown(flax, begin, end),
        cmocka_unit_test_setup_teardown(flax_train_state, begin, end),
        cmocka_unit_test_setup_teardown(flax_optim, begin, end),
        cmocka_unit_test_setup_teardown(nnx, begin, end),
        cmocka_unit_test_setup_teardown(who_it_is, begin, end),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
