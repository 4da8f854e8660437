#!/usr/bin/env bash
# Measures how long it takes to load a table, beside what Postgres itself takes for the same rows and beside what others take.
# Writes the medians of several rounds, in each of which all are measured one after the other, to docs/benchmarks/load.md and
# load.svg.
#
#   scripts/bench.sh                  ROUNDS (5), SCALE (1, of TPC-H), PEERS (all; names of scripts/bench_peers.py, or none),
#                                     LAKEGATE_TEST_BINARY, see release-binary.sh
#
# Installs the peers from PyPI into a folder of its own, and what Spark needs with apt. A peer that cannot be had is left out, and
# the table says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
target="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
work="$target/bench/load"
mkdir -p "$work"
. scripts/venv.sh
pip() { "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$@" || echo "cannot be installed: $*" >&2; }
pip "duckdb>=1.5,<1.6" duckdb-extensions duckdb-extension-tpch duckdb-extension-postgres-scanner "psycopg[binary]" pyarrow deltalake
peers="${PEERS:-duckdb pgpq adbc dlt sling spark}"
for peer in $peers; do
    case "$peer" in
        pgpq) pip pgpq ;;
        adbc) pip adbc-driver-postgresql ;;
        dlt) pip "dlt[postgres]" ;;
        # The package `sling` fetches its binary from elsewhere than PyPI.
        sling) pip sling-linux-amd64 ;;
        spark)
            pip pyspark
            if ! command -v java >/dev/null || [ ! -e /usr/share/java/postgresql.jar ]; then
                apt-get install -y -qq default-jre-headless libpostgresql-jdbc-java >/dev/null || echo "no Java for Spark" >&2
            fi
            ;;
    esac
done

export PYTHONDONTWRITEBYTECODE=1 LAKEGATE="$LAKEGATE_TEST_BINARY" PEERS="$peers"
exec "$work/venv/bin/python" scripts/bench_load.py "$work"
