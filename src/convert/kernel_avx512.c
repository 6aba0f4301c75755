/* placeholder */
#include "convert/kernel.h"
bool kernel_avx512_fill(struct kernel *k)
{
    (void)k;
    return false;
}
