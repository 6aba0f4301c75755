/* Graphs of TensorFlow: walks of GraphDef and MetaGraphDef. Nothing is run; functions are walked
 * like the graph itself, one level, since they hold no functions.
 *
 *   GraphDef    1 node ..., 2 library {1 function {1 signature, 3 node ...} ...}, 4 versions
 *   NodeDef     1 name, 2 op, 3 input ..., 4 device, 5 attr map {1 key, 2 AttrValue}
 *   AttrValue   8 tensor, 6 type, others
 *   MetaGraphDef 1 info {4 tag ..., 5 tensorflow version}, 2 graph, 5 signature map, 6 asset
 *   SavedModel  1 schema version, 2 meta graph ...
 * Source: the .proto files of core/framework, core/protobuf.
 */
#ifndef FORMAT_TF_NODES_H
#define FORMAT_TF_NODES_H
#include "format/tf.h"

struct tf_node {
    struct str name, op; /* valid until the next node */
    const struct proto *field;
    bool in_function;
};
/* Calls use for every node; the fields stay in the cursor of the graph's field. */
typedef enum status tf_node_fn(void *ctx, const struct tf_node *n, struct err *e);
MUSTCHECK enum status tf_nodes(struct proto *graph, tf_node_fn *use, void *ctx, struct err *e);
/* The tensor of a node's attribute `value`: its field in *value, false when there is none. */
MUSTCHECK enum status tf_node_value(const struct tf_node *n, struct proto *value, bool *found,
                                    struct err *e);

/* For scan: an op that reads or writes files, runs Python or loads code is unsafe; one that takes a
 * file's name from the graph is a note. */
MUSTCHECK enum status tf_node_scan(const struct tf_node *n, const struct read_opt *opt,
                                   struct err *e);

/* A MetaGraphDef in the current field: tags, TensorFlow's version and signatures become m->meta
 * ("tags", "tensorflow_version", "signature.NAME"); assets' file names go to `assets` (struct str,
 * from m's arena). Nodes are scanned when opt->scan. */
MUSTCHECK enum status tf_meta_graph(const struct proto *field, const struct read_opt *opt,
                                    struct model *m, struct buf *assets, struct err *e);
/* Scans the nodes of a file that is a MetaGraphDef. */
MUSTCHECK enum status tf_meta_scan(struct file *f, const struct read_opt *opt, struct err *e);
#endif
