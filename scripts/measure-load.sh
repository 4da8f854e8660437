#!/bin/sh
# Measures loads of a TPC-H-like lineitem table (16 columns, Delta) into a Postgres of the tests' own: seconds by stage
# with a sampled and with a full comparison, and the peak memory of the process. Each load is also compared with the
# expected rows, value for value, by way of text.
#
#   scripts/measure-load.sh [ROWS…]        600000 and 6000000 unless given
set -eu
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
[ $# -gt 0 ] || set -- 600000 6000000
for rows; do
    LAKEGATE_TEST_LINEITEM_ROWS="$rows" cargo test --quiet --test it lineitem:: -- --nocapture
done
