#!/usr/bin/env bash
# Counts the instructions that encoding and hashing take for each row, by the kind of its values, and holds them to those in
# benches/inner/instructions.tsv. Unlike times they are the same on a busy machine, and nearly so on another one.
#
#   scripts/check-instructions.sh           ends with an error where a part takes more than 2 % more
#   scripts/check-instructions.sh --bless   writes the file instead
#
# Counted by valgrind, which is installed with apt where it is missing. What does not depend on the number of rows is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || apt-get install -y -qq valgrind >/dev/null
inner="$(cargo bench --locked --no-run --bench inner --message-format json |
    sed -n 's/.*"executable":"\([^"]*inner-[^"]*\)".*/\1/p' | tail -n 1)"
expected=benches/inner/instructions.tsv
rows=8192

# The instructions of a part that is done so many times.
instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$inner" count "$1" "$2" 2>&1 | sed -n 's/.*Collected : //p'
}

[ "${1:-}" != --bless ] || : >"$expected.new"
status=0
while IFS=$'\t' read -r part before; do
    once="$(instructions "$part" 1)"
    thrice="$(instructions "$part" 3)"
    now="$(awk "BEGIN { printf \"%.1f\", ($thrice - $once) / 2 / $rows }")"
    if [ "${1:-}" = --bless ]; then
        printf '%s\t%s\n' "$part" "$now" >>"$expected.new"
    elif awk "BEGIN { exit !($now > 1.02 * $before) }"; then
        echo "$part: $now instructions a row, $before expected"
        status=1
    else
        echo "$part: $now instructions a row"
    fi
done <"$expected"
[ "${1:-}" != --bless ] || mv "$expected.new" "$expected"
exit $status
