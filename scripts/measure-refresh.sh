#!/bin/sh
# Measures refreshes of a TPC-H-like lineitem table against loading it anew, with one row in a thousand changed, one
# removed and one added each time: by change feed, by deletion vectors, and with all files rewritten.
#
#   scripts/measure-refresh.sh [ROWS…]        600000 unless given
set -eu
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
export LAKEGATE_TEST_REFRESH_ROUNDS="${LAKEGATE_TEST_REFRESH_ROUNDS:-5}"
[ $# -gt 0 ] || set -- 600000
for rows; do
    LAKEGATE_TEST_REFRESH_ROWS="$rows" cargo test --quiet --test it lineitem_refresh:: -- --nocapture --test-threads=1
done
