/* The registry of frameworks, from list.h. */
#include "framework/framework.h"

#define X(name) extern const struct framework name##_framework;
#include "framework/list.h"
#undef X

const struct framework *const frameworks[] = {
#define X(name) &name##_framework,
#include "framework/list.h"
#undef X
};
const size_t n_frameworks = sizeof frameworks / sizeof *frameworks;

const struct framework *framework_find(struct str name)
{
    for (size_t i = 0; i < n_frameworks; i++)
        if (str_is(name, frameworks[i]->name))
            return frameworks[i];
    return NULL;
}

const struct framework *framework_of(const struct model *m)
{
    const struct framework *best = NULL;
    int most = 0;
    bool tie = false;
    for (size_t i = 0; i < n_frameworks; i++) {
        int b = frameworks[i]->bid(m);
        if (b > most) {
            most = b;
            best = frameworks[i];
            tie = false;
        } else if (b == most && b > 0) {
            tie = true;
        }
    }
    return tie ? NULL : best;
}
