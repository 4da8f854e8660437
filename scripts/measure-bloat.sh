#!/bin/sh
# Measures what many small merges leave of a table: sizes of the table, its indexes, the system catalogs and the control
# schema, dead rows, and the time of a lookup, after 10, 100, 300 and 1000 merges.
#
#   scripts/measure-bloat.sh [MERGES [ROWS [PARAMETERS]]]        1000 and 200000 unless given
#
# PARAMETERS are storage parameters that generations get besides their own, for example 'fillfactor = 90'.
# LAKEGATE_TEST_BINARY names the binary to measure; unless it is set, a release build is made.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${LAKEGATE_TEST_BINARY:-}" ]; then
    cargo build --release
    target="${CARGO_TARGET_DIR:-target}"
    LAKEGATE_TEST_BINARY="$(cd "$target" && pwd)/release/lakegate"
fi
export LAKEGATE_TEST_BINARY LAKEGATE_TEST_BLOAT_MERGES="${1:-1000}" LAKEGATE_TEST_BLOAT_ROWS="${2:-200000}"
[ -z "${3:-}" ] || export LAKEGATE_TEST_BLOAT_SETTINGS="$3"
cargo test --quiet --test it bloat:: -- --nocapture
