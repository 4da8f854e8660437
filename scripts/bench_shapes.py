"""Measures loads of tables of many shapes into one Postgres, each beside the limit; see bench.sh, which calls it.

What is measured and how is that of bench_load.py: Lakegate's whole sync, and COPY by two streams of the same rows that are in Postgres'
binary form already, with the primary key.
"""

import json
import os
import pathlib
import shutil
import statistics
import sys

import duckdb
from deltalake import write_deltalake

import bench_load
import bench_postgres
from bench_data import ROW_GROUP
from bench_load import BY_SERVER, PARTS, REPORTS, ROUNDS, WHOLE, WORK, limit_of
from bench_postgres import run

REPORT = REPORTS / f"shapes{BY_SERVER}.md"
OF_POSTGRES = {"DOUBLE": "double precision"}

# Sixteen columns as those of `lineitem`.
SIXTEEN = """
    k, (k * 7919 % 200000)::BIGINT AS part, (k * 104729 % 10000)::BIGINT AS supplier, (k % 7)::INTEGER AS line,
    (k % 50 + 1)::DECIMAL(15, 2) AS quantity, (hash(k) % 10000000 / 100)::DECIMAL(15, 2) AS price,
    (k % 11 / 100.0)::DECIMAL(15, 2) AS discount, (k % 9 / 100.0)::DECIMAL(15, 2) AS tax,
    ['A', 'N', 'R'][(k % 3 + 1)::INTEGER] AS returned, ['F', 'O'][(k % 2 + 1)::INTEGER] AS status,
    DATE '1992-01-01' + (hash(k) % 2526)::INTEGER AS shipped, DATE '1992-01-01' + (hash(k + 1) % 2466)::INTEGER AS committed,
    DATE '1992-01-01' + (hash(k + 2) % 2554)::INTEGER AS received, ['DELIVER IN PERSON', 'NONE', 'COLLECT COD'][(k % 3 + 1)::INTEGER]
    AS instruction, ['AIR', 'MAIL', 'TRUCK', 'SHIP'][(k % 4 + 1)::INTEGER] AS mode, substr(md5(k::VARCHAR), 1, 27) AS comment
"""


def wide():
    """A key and 199 columns of six types, a tenth of their values absent."""
    kinds = [
        "(k * {i} % 1000003)::INTEGER",
        "(hash(k + {i}) >> 1)::BIGINT",
        "(hash(k + {i}) % 1000000 / 7.0)::DOUBLE",
        "substr(md5((k + {i})::VARCHAR), 1, {i} % 25 + 4)",
        "(hash(k + {i}) % 100000000 / 100)::DECIMAL(12, 2)",
        "(k + {i}) % 2 = 0",
    ]
    columns = (f"CASE WHEN (k + {i}) % 10 > 0 THEN {kinds[i % 6].format(i=i)} END AS c{i}" for i in range(1, 200))
    return ", ".join(["k", *columns])


# Name of the table: (what it is, rows, columns).
SHAPES = {
    "rows_1m": ("16 columns", 1_000_000, SIXTEEN),
    "rows_10m": ("16 columns", 10_000_000, SIXTEEN),
    "rows_30m": ("16 columns", 30_000_000, SIXTEEN),
    "one": ("1 column: the key alone", 10_000_000, "k"),
    "wide": ("200 columns", 200_000, wide()),
    "short": ("2 columns, rows of 50 bytes", 10_000_000, "k, substr(md5(k::VARCHAR) || md5((k + 1)::VARCHAR), 1, 42) AS text"),
    "long": (
        "2 columns, rows of 50 KiB",
        20_000,
        "k, array_to_string(list_transform(range(1600), lambda part: md5((k * 1600 + part)::VARCHAR)), '') AS text",
    ),
}


def make(folder):
    """Writes the tables as Delta, one file each, where they are not there yet; prints their columns for CREATE TABLE."""
    lake, described = duckdb.connect(), {}
    for table, (_, rows, columns) in SHAPES.items():
        # A permutation of the numbers below `rows`, which 7919 does not divide: keys come out of order.
        query = f"SELECT {columns} FROM (SELECT range * 7919 % {rows} AS k FROM range({rows}))"
        home = folder / "delta" / table
        if not (home / "_delta_log").exists():
            shutil.rmtree(home, ignore_errors=True)
            batches = lake.execute(query).to_arrow_reader(ROW_GROUP if rows >= ROW_GROUP else 2_000)
            write_deltalake(str(home), batches, target_file_size=1 << 40)
        columns = lake.execute(f"DESCRIBE {query}").fetchall()
        described[table] = ", ".join(f"{name} {OF_POSTGRES.get(kind, kind)}" for name, kind, *_ in columns)
    print(json.dumps(described))


def measure(bench, server, table):
    for _ in range(ROUNDS):
        bench.lakegate(table)
        if not (pathlib.Path(server["folder"]) / f"{table}.second").exists():
            bench.encode(table, PARTS[2])
        bench.limit(table, 2)
    # The largest of them leave no room for each other.
    bench.database.execute("DROP TABLE loaded")
    for part in PARTS[2]:
        os.remove(f"{server['folder']}/{table}.{part}")


def report(bench, head):
    lines = ["# Loads of tables of other shapes, measured", "", "By `make bench-shapes`; how is in `scripts/bench_shapes.py`.", ""]
    lines += [f"- {line}" for line in head]
    lines += ["", "| table | rows | Lakegate, the whole sync | rows a second | the limit | Lakegate takes | peak MiB | CPU s of Lakegate |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for table, (what, rows, _) in SHAPES.items():
        seconds, mebibytes, cpu = (statistics.median(values) for values in zip(*bench.results[(table, WHOLE)]))
        limit = statistics.median(result[0] for result in bench.results[(table, limit_of(2))])
        lines.append(
            f"| {what} | {rows:,} | {seconds:.2f} s | {rows / seconds:,.0f} | {limit:.2f} s | {seconds / limit:.2f} of it | "
            f"{mebibytes:.0f} | {cpu:.1f} |"
        )
    REPORT.write_text("\n".join(lines) + "\n")
    print(REPORT.read_text())


def main():
    with bench_postgres.cluster(bench_load.SETTINGS) as server:
        database = bench_load.Database(server)
        folder = WORK / "shapes"
        # By a process of its own: what is measured begins with the memory of whoever starts it.
        for table, columns in json.loads(run(sys.executable, __file__, WORK, "make")).items():
            database.execute(f"CREATE TABLE {table} ({columns})")
        bench = bench_load.Bench(database, server, folder, {table: ["k"] for table in SHAPES})
        for table in SHAPES:
            measure(bench, server, table)
        what = "the limit is COPY by two streams of rows that are in Postgres' binary form already, and the primary key"
        report(bench, [*bench_load.machine(server), f"medians of {ROUNDS} rounds, in turns; keys out of order; {what}"])


if __name__ == "__main__":
    if sys.argv[2:] == ["make"]:
        make(WORK / "shapes")
    else:
        main()
