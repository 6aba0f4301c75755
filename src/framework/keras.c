/* Keras 2 and 3: variables of layers, by name in legacy HDF5, by number in the weights of Keras 3.
 * Kernels are [in,out], maps channels last. Written without a skeleton, a layer's variables stand
 * below its path: conv1.kernel, bn1.moving_mean. See keras_style.c for what is recognised.
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
    if (str_is(m->framework, "keras"))
        return 100;
    return m->framework.n ? 0 : keras_words(m);
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct keras_style style = {"keras", true, &rules};
    return keras_layers(&style, m, a, out, e);
}

const struct framework keras_framework = {
    .name = "keras",
    .title = "Keras 2 and 3, variables of layers",
    .usual_format = "keras-h5",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
