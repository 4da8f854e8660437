#!/bin/sh
# Measures how long it takes to load the same rows of a TPC-H-like lineitem table from one clean file, from a thousand small ones, and
# from files each of which has a deletion vector.
#
#   scripts/measure-layouts.sh [ROWS…]        6000000 unless given
set -eu
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
export LAKEGATE_TEST_LAYOUT_ROUNDS="${LAKEGATE_TEST_LAYOUT_ROUNDS:-5}"
[ $# -gt 0 ] || set -- 6000000
for rows; do
    LAKEGATE_TEST_LAYOUT_ROWS="$rows" cargo test --quiet --test it layouts:: -- --nocapture --test-threads=1
done
