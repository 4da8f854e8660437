#!/usr/bin/env bash
# Makes up what strangers may send, and holds the readers of it to what must be so of any bytes, each for so long: keys in
# URLs, cursors, bodies of batches, credentials, tokens. Ends with an error at the first thing that does not hold, which it keeps.
#
#   scripts/fuzz.sh MINUTES [TARGET…]        key, cursor, batch, credential, jwt
#
# libFuzzer on the stable compiler. Of what it makes up, what takes new ways through the code is kept in the target folder and
# goes on from there the next time; it begins with fuzz/corpus, which the tests try too. Needs a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?for how many minutes each?}
shift
targets=("$@")
[ $# -gt 0 ] || targets=(key cursor batch credential jwt)
mkdir -p "${CARGO_TARGET_DIR:-target}/fuzz"
built="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
export CARGO_TARGET_DIR="$built"

# Compiled dependencies are shared as long as they are the same versions.
cp Cargo.lock fuzz/Cargo.lock
RUSTC_WRAPPER="$PWD/fuzz/instrument.sh" cargo build --manifest-path fuzz/Cargo.toml

for target in "${targets[@]}"; do
    work="$built/fuzz/$target"
    mkdir -p "$work/corpus" "$work/smaller" "$work/found"
    seconds=$(awk "BEGIN { print int(60 * $minutes) }")
    echo "$target: $minutes min"
    export LAKEGATE_FUZZ_TARGET="$target"
    # Bytes that break a rule are written to this folder, and tried again by naming the file.
    "$built/debug/lakegate-fuzz" "$work/corpus" "fuzz/corpus/$target" -max_total_time="$seconds" -max_len=512 \
        -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$work/found/" 2>"$work/log" || {
        tail -n 40 "$work/log"
        echo "$target does not hold; try again with LAKEGATE_FUZZ_TARGET=$target $built/debug/lakegate-fuzz FILE, and add"
        echo "the file to fuzz/corpus/$target once it holds"
        exit 1
    }
    # Of what takes the same ways the smallest is kept.
    rm -rf "$work/smaller" && mkdir "$work/smaller"
    "$built/debug/lakegate-fuzz" -merge=1 "$work/smaller" "$work/corpus" "fuzz/corpus/$target" 2>>"$work/log"
    rm -rf "$work/corpus" && mv "$work/smaller" "$work/corpus"
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added)' "$work/log"
    grep -E ' cov: ' "$work/log" | tail -n 1
    echo "$target holds; its corpus is $(find "$work/corpus" -type f | wc -l) files, $(du -sb "$work/corpus" | cut -f 1) bytes"
done
