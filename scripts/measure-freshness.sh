#!/bin/sh
# Measures how soon a commit is served where the table is refreshed `on change`: commits one after the other, each from
# the moment in which its file is written until its value comes over HTTP.
#
#   scripts/measure-freshness.sh [COMMITS [ROWS]]        200 and 100000 unless given
#
# LAKEGATE_TEST_BINARY names the binary to measure; unless it is set, a release build is made.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${LAKEGATE_TEST_BINARY:-}" ]; then
    cargo build --release
    target="${CARGO_TARGET_DIR:-target}"
    LAKEGATE_TEST_BINARY="$(cd "$target" && pwd)/release/lakegate"
fi
export LAKEGATE_TEST_BINARY LAKEGATE_TEST_FRESHNESS_COMMITS="${1:-200}" LAKEGATE_TEST_FRESHNESS_ROWS="${2:-100000}"
cargo test --quiet --test it freshness:: -- --nocapture
