#!/bin/bash
# OMP_PROC_BIND and OMP_PLACES: whatever a site sets, nothing is printed that was not asked for.
set -euo pipefail
cd "$(dirname "$0")/../.."
n=0
for setting in OMP_PROC_BIND=true OMP_PROC_BIND=close OMP_PROC_BIND=spread,close OMP_PLACES=cores \
    OMP_PLACES=threads OMP_PLACES=sockets 'OMP_PLACES={0}' GOMP_CPU_AFFINITY=0 OMP_PROC_BIND=false; do
    env "$setting" OMP_DYNAMIC=false build/nnferry --version >build/binding.out 2>build/binding.err
    if [ -s build/binding.err ]; then
        echo "$setting:"
        cat build/binding.err
        exit 1
    fi
    [ "$(wc -l <build/binding.out)" = 1 ]
    n=$((n + 1))
done
# And the wish is honoured by the run time itself: with a binding, threads run where told.
cat >build/binding.c <<'C'
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
int main(void)
{
    int wrong = 0;
#pragma omp parallel num_threads(4) reduction(+ : wrong)
    {
        cpu_set_t set;
        wrong += sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1;
    }
    return wrong;
}
C
arch=$(uname -m)
build/toolchain/"$arch"-musl-gcc -O1 -static -fopenmp -c build/binding.c -o build/binding.o
build/toolchain/"$arch"-musl-gcc -static build/binding.o "build/guests/$arch-musl/lib/libgomp.a" -o build/binding
cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
OMP_PROC_BIND=close OMP_PLACES="{$cpu}" build/binding 2>build/binding.err
[ ! -s build/binding.err ]
n=$((n + 1))
echo "# cases $n passed, 0 failed"
