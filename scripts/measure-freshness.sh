#!/bin/sh
# Measures how soon a commit is served where the table is refreshed `on change`: commits one after the other, each from
# the moment in which its file is written until its value comes over HTTP.
#
#   scripts/measure-freshness.sh [COMMITS [ROWS]]        200 and 100000 unless given
set -eu
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
export LAKEGATE_TEST_FRESHNESS_COMMITS="${1:-200}" LAKEGATE_TEST_FRESHNESS_ROWS="${2:-100000}"
cargo test --quiet --test it freshness:: -- --nocapture
