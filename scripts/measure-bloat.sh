#!/bin/sh
# Measures what many small merges leave of a table: sizes of the table, its indexes, the system catalogs and the control
# schema, dead rows, and the time of a lookup, after 10, 100, 300 and 1000 merges.
#
#   scripts/measure-bloat.sh [MERGES [ROWS [PARAMETERS]]]        1000 and 200000 unless given
#
# PARAMETERS are storage parameters that generations get besides their own, for example 'fillfactor = 90'.
set -eu
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
export LAKEGATE_TEST_BLOAT_MERGES="${1:-1000}" LAKEGATE_TEST_BLOAT_ROWS="${2:-200000}"
[ -z "${3:-}" ] || export LAKEGATE_TEST_BLOAT_SETTINGS="$3"
cargo test --quiet --test it bloat:: -- --nocapture
