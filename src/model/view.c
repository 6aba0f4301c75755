/* Views: edits of offset, extents and strides that touch no data. Every logical axis owns at least
 * one atomic axis; atomic axes that continue each other inside one logical axis are merged after
 * each edit, so a chain of edits does not grow the list.
 */
#include "model/view.h"
#include "base/checked.h"
#include <string.h>

const struct view_kept view_scalar = {.dim = view_origin};
const uint64_t view_origin[VIEW_MAX_AXES];

#define ELEMS_MAX (UINT64_C(1) << 62)

static size_t group_lo(const struct view *v, size_t d)
{
    return d == 0 ? 0 : v->group_end[d - 1];
}

static enum status too_many(struct err *e, size_t n)
{
    return err_set(e, ST_LIMIT, "too-many-axes", "%zu axes, at most %d are supported", n,
                   VIEW_MAX_AXES);
}

static enum status bad_edit(struct err *e, const char *what)
{
    return err_set(e, ST_BUG, "view-edit", "%s outside the view", what);
}

/* outer followed by inner is one axis of extent outer.extent * inner.extent */
static bool continues(struct axis outer, struct axis inner)
{
    int64_t step;
    return mul_i64(inner.stride, (int64_t)inner.extent, &step) && step == outer.stride;
}

/* Appends x to a[lo..*n), leaving out extent 1 and merging with the axis before. */
static void push(struct axis *a, size_t lo, size_t *n, struct axis x)
{
    if (x.extent == 1)
        return;
    if (*n > lo && continues(a[*n - 1], x))
        a[*n - 1] = (struct axis){a[*n - 1].extent * x.extent, x.stride};
    else
        a[(*n)++] = x;
}

/* Appends a logical axis made of in[0..n_in) to v; room for n_in (at least 1) axes is the
 * caller's promise. */
static void add_group(struct view *v, const struct axis *in, size_t n_in)
{
    size_t lo = v->n_axes, n = lo;
    bool empty = false;
    for (size_t i = 0; i < n_in; i++)
        empty |= in[i].extent == 0;
    for (size_t i = 0; i < n_in && !empty; i++)
        push(v->axis, lo, &n, in[i]);
    if (n == lo)
        v->axis[n++] = (struct axis){empty ? 0 : 1, 0};
    v->n_axes = (uint8_t)n;
    v->group_end[v->n_dims++] = (uint8_t)n;
}

static void add_dim_of(struct view *v, const struct view *from, size_t d)
{
    size_t lo = group_lo(from, d);
    add_group(v, from->axis + lo, from->group_end[d] - lo);
}

static void start(struct view *v, int64_t offset)
{
    memset(v, 0, sizeof *v);
    v->offset = offset;
}

enum status view_c(struct view *v, const uint64_t *dim, size_t n, struct err *e)
{
    if (n > VIEW_MAX_AXES)
        return too_many(e, n);
    int64_t stride[VIEW_MAX_AXES] = {0};
    uint64_t step = 1;
    for (size_t i = n; i-- > 0;) {
        stride[i] = (int64_t)step;
        if (dim[i] != 0 && (!mul_u64(step, dim[i], &step) || step >= ELEMS_MAX))
            return err_set(e, ST_INPUT, "shape-overflow", "the shape's product passes 2^62");
    }
    start(v, 0);
    for (size_t i = 0; i < n; i++)
        add_group(v, &(struct axis){dim[i], stride[i]}, 1);
    return ST_OK;
}

enum status view_strided(struct view *v, const uint64_t *dim, const int64_t *stride, size_t n,
                         int64_t offset, struct err *e)
{
    if (n > VIEW_MAX_AXES)
        return too_many(e, n);
    uint64_t product = 1;
    int64_t lo = offset, hi = offset;
    for (size_t i = 0; i < n; i++) {
        int64_t span;
        if (dim[i] == 0)
            continue;
        if (!mul_u64(product, dim[i], &product) || product >= ELEMS_MAX)
            return err_set(e, ST_INPUT, "shape-overflow", "the shape's product passes 2^62");
        if (!mul_i64((int64_t)(dim[i] - 1), stride[i], &span) ||
            !(span < 0 ? add_i64(lo, span, &lo) : add_i64(hi, span, &hi)) || hi == INT64_MAX)
            return err_set(e, ST_INPUT, "shape-overflow", "strides pass 2^63 elements");
    }
    start(v, offset);
    for (size_t i = 0; i < n; i++)
        add_group(v, &(struct axis){dim[i], stride[i]}, 1);
    return ST_OK;
}

uint64_t view_dim(const struct view *v, size_t d)
{
    uint64_t p = 1;
    if (d >= v->n_dims)
        return 1;
    for (size_t i = group_lo(v, d); i < v->group_end[d]; i++)
        p *= v->axis[i].extent;
    return p;
}

static uint64_t elems_of(const struct axis *a, size_t n)
{
    uint64_t p = 1;
    for (size_t i = 0; i < n; i++)
        if (a[i].extent == 0)
            return 0;
    for (size_t i = 0; i < n; i++)
        p *= a[i].extent;
    return p;
}

uint64_t view_elems(const struct view *v)
{
    return elems_of(v->axis, v->n_axes);
}

void view_shape(const struct view *v, uint64_t *dim)
{
    for (size_t d = 0; d < v->n_dims; d++)
        dim[d] = view_dim(v, d);
}

static void bounds_of(int64_t offset, const struct axis *a, size_t n, int64_t *lo, int64_t *hi)
{
    *lo = *hi = 0;
    if (elems_of(a, n) == 0)
        return;
    *lo = *hi = offset;
    for (size_t i = 0; i < n; i++) {
        int64_t span = (int64_t)(a[i].extent - 1) * a[i].stride;
        *(span < 0 ? lo : hi) += span;
    }
    *hi += 1;
}

void view_bounds(const struct view *v, int64_t *lo, int64_t *hi)
{
    bounds_of(v->offset, v->axis, v->n_axes, lo, hi);
}

bool view_is_c(const struct view *v)
{
    struct view c = *v;
    view_collapse(&c);
    return c.n_axes == 0 || view_elems(v) == 0 || (c.n_axes == 1 && c.axis[0].stride == 1);
}

bool view_same(const struct view *a, const struct view *b)
{
    if (a->n_dims != b->n_dims)
        return false;
    for (size_t d = 0; d < a->n_dims; d++)
        if (view_dim(a, d) != view_dim(b, d))
            return false;
    if (view_elems(a) == 0)
        return true;
    struct view x = *a, y = *b;
    view_collapse(&x);
    view_collapse(&y);
    if (x.offset != y.offset || x.n_axes != y.n_axes)
        return false;
    for (size_t i = 0; i < x.n_axes; i++)
        if (x.axis[i].extent != y.axis[i].extent || x.axis[i].stride != y.axis[i].stride)
            return false;
    return true;
}

enum status view_permute(struct view *v, const uint8_t *perm, size_t n, struct err *e)
{
    uint64_t seen = 0;
    if (n != v->n_dims)
        return bad_edit(e, "permutation");
    for (size_t i = 0; i < n; i++) {
        if (perm[i] >= n || (seen >> perm[i] & 1))
            return bad_edit(e, "permutation");
        seen |= UINT64_C(1) << perm[i];
    }
    struct view old = *v;
    start(v, old.offset);
    for (size_t i = 0; i < n; i++)
        add_dim_of(v, &old, perm[i]);
    return ST_OK;
}

/* Narrows the atomic axes a[0..n) of one logical axis to [lo, hi); false where the range is no box
 * of them. Advances *offset. */
static bool slice_axes(struct axis *a, size_t n, uint64_t lo, uint64_t hi, int64_t *offset)
{
    uint64_t inner = 1;
    for (size_t i = 1; i < n; i++)
        inner *= a[i].extent;
    for (size_t i = 0; i < n; i++) {
        uint64_t first = lo / inner, last = (hi - 1) / inner;
        *offset += (int64_t)first * a[i].stride;
        a[i].extent = last - first + 1;
        lo -= first * inner;
        hi -= first * inner;
        if (last != first)
            return lo == 0 && hi % inner == 0;
        if (i + 1 < n)
            inner /= a[i + 1].extent;
    }
    return true;
}

enum status view_slice(struct view *v, size_t d, uint64_t lo, uint64_t hi, struct err *e)
{
    if (d >= v->n_dims || lo > hi || hi > view_dim(v, d))
        return bad_edit(e, "slice");
    struct view old = *v;
    size_t g = group_lo(&old, d), n = old.group_end[d] - g;
    int64_t offset = old.offset;
    if (lo == hi)
        old.axis[g].extent = 0;
    else if (!slice_axes(old.axis + g, n, lo, hi, &offset))
        return err_set(e, ST_CANNOT, "view-cut",
                       "slice %llu..%llu cuts across the parts of a joined axis",
                       (unsigned long long)lo, (unsigned long long)hi);
    start(v, offset);
    for (size_t i = 0; i < old.n_dims; i++)
        add_dim_of(v, &old, i);
    return ST_OK;
}

/* Takes atomic axes worth `want` elements off in[*at..n) into a logical axis of v, splitting one
 * axis where a divisor fits. false where the cut falls across an axis. */
static bool take_dim(struct view *v, struct axis *in, size_t *at, size_t n, uint64_t want)
{
    struct axis part[VIEW_MAX_AXES];
    size_t n_part = 0;
    while (want > 1) {
        if (*at == n || n_part == VIEW_MAX_AXES)
            return false;
        struct axis *x = &in[*at];
        if (want % x->extent == 0) {
            part[n_part++] = *x;
            want /= x->extent;
            (*at)++;
        } else if (x->extent % want == 0) {
            uint64_t left = x->extent / want;
            part[n_part++] = (struct axis){want, x->stride * (int64_t)left};
            x->extent = left;
            want = 1;
        } else {
            return false;
        }
    }
    if (v->n_axes + (n_part ? n_part : 1) > VIEW_MAX_AXES)
        return false;
    add_group(v, part, n_part);
    return true;
}

enum status view_split(struct view *v, size_t d, uint64_t inner, struct err *e)
{
    if (d >= v->n_dims || inner == 0 || view_dim(v, d) % inner != 0)
        return bad_edit(e, "split");
    if (v->n_dims == VIEW_MAX_AXES || v->n_axes == VIEW_MAX_AXES)
        return too_many(e, (size_t)v->n_dims + 1);
    struct view old = *v, now;
    uint64_t outer = view_dim(v, d) / inner;
    size_t at = group_lo(&old, d), end = old.group_end[d];
    start(&now, old.offset);
    for (size_t i = 0; i < old.n_dims; i++) {
        if (i != d) {
            add_dim_of(&now, &old, i);
        } else if (outer == 0) {
            add_group(&now, &(struct axis){0, 0}, 1);
            add_group(&now, &(struct axis){inner, 0}, 1);
        } else if (!take_dim(&now, old.axis, &at, end, outer) ||
                   !take_dim(&now, old.axis, &at, end, inner)) {
            return err_set(e, ST_CANNOT, "view-cut",
                           "a split by %llu cuts across the parts of a joined axis",
                           (unsigned long long)inner);
        }
    }
    *v = now;
    return ST_OK;
}

enum status view_join(struct view *v, size_t d, struct err *e)
{
    if (d + 1 >= v->n_dims)
        return bad_edit(e, "join");
    struct view old = *v;
    size_t lo = group_lo(&old, d);
    start(v, old.offset);
    for (size_t i = 0; i < old.n_dims; i++) {
        if (i == d)
            add_group(v, old.axis + lo, old.group_end[d + 1] - lo);
        else if (i != d + 1)
            add_dim_of(v, &old, i);
    }
    return ST_OK;
}

enum status view_flip(struct view *v, size_t d, struct err *e)
{
    if (d >= v->n_dims)
        return bad_edit(e, "flip");
    if (view_elems(v) == 0)
        return ST_OK;
    for (size_t i = group_lo(v, d); i < v->group_end[d]; i++) {
        struct axis *a = &v->axis[i];
        v->offset += (int64_t)(a->extent - 1) * a->stride;
        a->stride = -a->stride;
    }
    return ST_OK;
}

enum status view_insert(struct view *v, size_t d, struct err *e)
{
    if (d > v->n_dims)
        return bad_edit(e, "insertion");
    if (v->n_dims == VIEW_MAX_AXES || v->n_axes == VIEW_MAX_AXES)
        return too_many(e, (size_t)v->n_dims + 1);
    struct view old = *v;
    start(v, old.offset);
    for (size_t i = 0; i <= old.n_dims; i++) {
        if (i == d)
            add_group(v, NULL, 0);
        if (i < old.n_dims)
            add_dim_of(v, &old, i);
    }
    return ST_OK;
}

enum status view_drop(struct view *v, size_t d, struct err *e)
{
    if (d >= v->n_dims || view_dim(v, d) != 1)
        return bad_edit(e, "drop of an axis");
    struct view old = *v;
    start(v, old.offset);
    for (size_t i = 0; i < old.n_dims; i++)
        if (i != d)
            add_dim_of(v, &old, i);
    return ST_OK;
}

enum status view_expand(struct view *v, size_t d, uint64_t n, struct err *e)
{
    uint64_t total;
    if (d >= v->n_dims || view_dim(v, d) != 1)
        return bad_edit(e, "expansion");
    if (n != 0 && (!mul_u64(view_elems(v), n, &total) || total >= ELEMS_MAX))
        return err_set(e, ST_INPUT, "shape-overflow", "the shape's product passes 2^62");
    /* extent 1 is always a single axis: groups are merged after every edit */
    v->axis[group_lo(v, d)] = (struct axis){n, 0};
    return ST_OK;
}

enum status view_reshape(struct view *v, const uint64_t *dim, size_t n, bool *ok, struct err *e)
{
    uint64_t product;
    *ok = false;
    if (n > VIEW_MAX_AXES)
        return too_many(e, n);
    if (!prod_u64(dim, n, &product) || product != view_elems(v))
        return bad_edit(e, "reshape");
    struct view now;
    if (product == 0) {
        TRY(view_c(&now, dim, n, e));
        now.offset = v->offset;
        *v = now;
        *ok = true;
        return ST_OK;
    }
    struct view flat = *v;
    view_collapse(&flat);
    start(&now, v->offset);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        /* every dim still to come needs an axis of its own */
        if (now.n_axes + (n - i) > VIEW_MAX_AXES ||
            !take_dim(&now, flat.axis, &at, flat.n_axes, dim[i]))
            return ST_OK;
    }
    *v = now;
    *ok = true;
    return ST_OK;
}

void view_collapse(struct view *v)
{
    struct view old = *v;
    size_t n = 0;
    start(v, old.offset);
    if (view_elems(&old) == 0) {
        add_group(v, &(struct axis){0, 0}, 1);
        return;
    }
    for (size_t i = 0; i < old.n_axes; i++)
        push(v->axis, 0, &n, old.axis[i]);
    v->n_axes = v->n_dims = (uint8_t)n;
    for (size_t i = 0; i < n; i++)
        v->group_end[i] = (uint8_t)(i + 1);
}

/* ---- kept views ---- */

enum status view_keep(const struct view *v, struct arena *a, const struct view_kept **out,
                      struct err *e)
{
    size_t axes = v->n_axes * sizeof v->axis[0], dims = v->n_dims * sizeof(uint64_t);
    size_t groups = v->n_axes == v->n_dims ? 0 : v->n_dims;
    struct view_kept *k = arena_alloc(a, 1, sizeof *k + axes + dims + groups);
    if (!k)
        return err_nomem(e, sizeof *k + axes + dims + groups);
    uint64_t *dim = (uint64_t *)(void *)((char *)k->axis + axes);
    view_shape(v, dim);
    k->offset = v->offset;
    k->dim = v->n_dims ? dim : view_origin;
    k->n_axes = v->n_axes;
    k->n_dims = v->n_dims;
    if (axes)
        memcpy(k->axis, v->axis, axes);
    if (groups)
        memcpy((char *)dim + dims, v->group_end, groups);
    *out = k;
    return ST_OK;
}

void view_load(struct view *v, const struct view_kept *k)
{
    const uint8_t *end = (const uint8_t *)(k->dim + k->n_dims);
    start(v, k->offset);
    v->n_axes = k->n_axes;
    v->n_dims = k->n_dims;
    for (size_t i = 0; i < k->n_axes; i++)
        v->axis[i] = k->axis[i];
    for (size_t d = 0; d < k->n_dims; d++)
        v->group_end[d] = k->n_axes == k->n_dims ? (uint8_t)(d + 1) : end[d];
}

uint64_t kept_elems(const struct view_kept *k)
{
    return elems_of(k->axis, k->n_axes);
}

void kept_bounds(const struct view_kept *k, int64_t *lo, int64_t *hi)
{
    bounds_of(k->offset, k->axis, k->n_axes, lo, hi);
}

bool kept_is_c(const struct view_kept *k)
{
    struct view v;
    view_load(&v, k);
    return view_is_c(&v);
}

bool kept_same(const struct view_kept *a, const struct view_kept *b)
{
    struct view x, y;
    if (a == b)
        return true;
    view_load(&x, a);
    view_load(&y, b);
    return view_same(&x, &y);
}

bool view_to_blocks(struct view *v, uint64_t n, uint64_t bytes)
{
    int64_t each = (int64_t)n, size = (int64_t)bytes;
    view_collapse(v);
    if (view_elems(v) == 0)
        return true;
    if (v->n_axes == 0 || v->axis[v->n_axes - 1].stride != 1)
        return false;
    struct axis *last = &v->axis[v->n_axes - 1];
    if (last->extent % n != 0 || v->offset % each != 0 ||
        !mul_u64(last->extent / n, bytes, &last->extent) ||
        !mul_i64(v->offset / each, size, &v->offset))
        return false;
    for (size_t i = 0; i + 1 < v->n_axes; i++)
        if (v->axis[i].stride % each != 0 ||
            !mul_i64(v->axis[i].stride / each, size, &v->axis[i].stride))
            return false;
    return true;
}
