#!/usr/bin/env bash
# Measures how long it takes to load tables of few and many rows, of few and many columns, and of short and long rows, beside what
# Postgres itself takes for the same rows. Writes the medians of several rounds to docs/benchmarks/shapes.md.
#
#   scripts/bench-shapes.sh           ROUNDS (5), LAKEGATE_TEST_BINARY, see release-binary.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
target="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
work="$target/bench/load"
mkdir -p "$work"
. scripts/venv.sh
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "duckdb>=1.5,<1.6" "psycopg[binary]" pyarrow deltalake

export PYTHONDONTWRITEBYTECODE=1 LAKEGATE="$LAKEGATE_TEST_BINARY" PEERS=none
exec "$work/venv/bin/python" scripts/bench_shapes.py "$work"
