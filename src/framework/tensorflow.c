/* TensorFlow: Keras's layers as a checkpoint has them, by variable names (TF1: dense/kernel) or by
 * the paths of an object graph (layer_with_weights-0/kernel). Names below the layer are Keras's; a
 * model written without a skeleton has the layers' paths as names, without an object graph.
 */
#include "framework/keras_style.h"
#include "framework/rules.h"

static const struct leaf_rule leaves[] = {
#include "framework/keras_leaves.h"
};
static const struct cell_rule cells[] = {
#include "framework/keras_cells.h"
};
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .flat = "(S C)",
    .patch = "(S C)",
    .param = "",
    .shell = true,
};

static int bid(const struct model *m)
{
    if (str_is(m->framework, "tensorflow"))
        return 100;
    bool counted = false;
    for (size_t i = 0; i < m->n_tensors && !m->framework.n; i++)
        counted = counted || str_starts(m->tensor[i].name, STR("layer_with_weights-"));
    return counted ? 90 : 0;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct keras_style style = {"tensorflow", false, &rules};
    return keras_layers(&style, m, a, out, e);
}

const struct framework tensorflow_framework = {
    .name = "tensorflow",
    .title = "TensorFlow variables",
    .usual_format = "tf-checkpoint",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
