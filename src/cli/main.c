/* Where nnferry starts. Only the version is known here so far. */
#include <stdio.h>

int main(void)
{
    if (puts("nnferry " NNFERRY_VERSION) < 0 || fflush(stdout) != 0)
        return 7;
    return 0;
}
