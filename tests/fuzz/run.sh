#!/bin/bash
# Every fuzz target for FUZZ_SECONDS (20), two at a time, from its kept corpus. What libFuzzer
# finds lies in build/fuzz-finds; a find becomes a unit test and its input joins the corpus.
# timeout: 2400
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
seconds=${FUZZ_SECONDS-20}
mkdir -p build/fuzz-finds build/fuzz-new

one() { # TARGET
    local name=$1 seeds=tests/fuzz/corpus/$1 log=build/fuzz-finds/$1.log
    if [ ! -d "$seeds" ] || [ -z "$(ls "$seeds")" ]; then
        echo "FAIL $name: no seeds in $seeds"
        return 1
    fi
    # New inputs go to a folder of their own: the corpus in the repository stays as it is.
    if [ ! -x "build/fuzz/tests/fuzz/fuzz_$name" ]; then
        echo "FAIL $name: not built"
        return 1
    fi
    if ! "build/fuzz/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 -print_final_stats=1 -artifact_prefix="build/fuzz-finds/$name-" \
        "build/fuzz-new/$name" "$seeds" >"$log" 2>&1; then
        echo "FAIL $name"
        tail -n 30 "$log"
        return 1
    fi
    # A target that runs nothing finds nothing.
    local runs
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "${runs:-0}" -lt 100 ]; then
        echo "FAIL $name: ${runs:-0} runs in $seconds s"
        return 1
    fi
    echo "ok   $name: $runs runs"
}
export -f one
export seconds

shopt -s nullglob
names=()
for f in tests/fuzz/fuzz_*.c; do
    name=$(basename "$f" .c)
    names+=("${name#fuzz_}")
    mkdir -p "build/fuzz-new/${name#fuzz_}"
done
[ ${#names[@]} -gt 0 ] || { echo "no fuzz targets"; exit 1; }
printf '%s\n' "${names[@]}" | xargs -P 2 -I{} bash -c 'one {} || true' | tee build/fuzz-finds/summary
passed=$(grep -c '^ok ' build/fuzz-finds/summary)
echo "# cases $passed passed, $((${#names[@]} - passed)) failed"
[ "$passed" = ${#names[@]} ]
