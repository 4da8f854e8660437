#!/usr/bin/env bash
# Measures how many rows a second the read API answers by key, beside what Postgres itself answers, what HTTP allows, and
# what others make of the same table. Writes the medians of several rounds, in each of which all are measured one after the
# other, to docs/benchmarks/serve.md.
#
#   scripts/bench-serve.sh            ROUNDS (5) and SECONDS_EACH (10) of each measurement; LAKEGATE_TEST_BINARY, see there
#
# Installs wrk and pgbench with apt where they are missing, and the peers from PyPI and npm into a folder of its own. ROAPI and
# PostGraphile are left out where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
target="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
work="$target/bench"
mkdir -p "$work"
cargo build --release --quiet --manifest-path benches/constant-body/Cargo.toml --target-dir "$work/target"

has() { command -v "$1" >/dev/null 2>&1; }
has wrk || apt-get install -y -qq wrk >/dev/null
has pgbench || apt-get install -y -qq postgresql-contrib >/dev/null
. scripts/venv.sh
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "tpchgen-cli>=4" fastapi uvicorn uvloop httptools asyncpg
"$work/venv/bin/pip" install --quiet --disable-pip-version-check roapi || echo "no ROAPI" >&2
if ! [ -x "$work/node_modules/.bin/postgraphile" ]; then
    npm install --silent --no-audit --no-fund --prefix "$work" "postgraphile@4" || echo "no PostGraphile" >&2
fi

export PYTHONDONTWRITEBYTECODE=1 LAKEGATE="$LAKEGATE_TEST_BINARY" CONSTANT_BODY="$work/target/release/constant-body"
exec "$work/venv/bin/python" scripts/bench_serve.py "$work"
