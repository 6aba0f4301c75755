#!/bin/sh
# Prints an assembler source that carries the files of a folder in the binary, as the
# table `const struct embed embed_NAME[]` of src/base/embed.h.
#
#   tools/embed.sh NAME FOLDER
set -eu
export LC_ALL=C
name=$1
folder=$2
files=$(find "$folder" -maxdepth 1 -type f ! -name ".*" 2>/dev/null | sort)
n=0
echo '    .section .rodata'
for f in $files; do
    printf '.Ln%d: .asciz "%s"\n.Ld%d: .incbin "%s"\n.Le%d:\n' "$n" "${f##*/}" "$n" "$f" "$n"
    n=$((n + 1))
done
echo '    .section .data.rel.ro,"aw"'
echo '    .balign 8'
echo "    .globl embed_$name"
echo "    .type embed_$name, %object"
echo "embed_$name:"
i=0
while [ "$i" -lt "$n" ]; do
    echo "    .quad .Ln$i, .Ld$i, .Le$i"
    i=$((i + 1))
done
echo '    .quad 0, 0, 0'
echo "    .size embed_$name, . - embed_$name"
echo '    .section .note.GNU-stack,"",%progbits'
