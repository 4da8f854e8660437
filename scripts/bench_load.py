"""Measures loads of TPC-H tables into one Postgres; see bench.sh, which calls it.

Every round measures all of them, one after the other, after a CHECKPOINT: the limit (COPY of a file that is in Postgres' binary form
already, by the server itself, and the primary key), the floor (the CPU time that Postgres needs whoever sends the rows), the peers (their
load, and the primary key), and Lakegate (its whole sync: read, copy, index, analyze, verify, publish).
"""

import contextlib
import importlib.metadata as metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

import psycopg

import bench_postgres
from bench_postgres import run

WORK = pathlib.Path(sys.argv[1])
HERE = pathlib.Path(__file__).parent
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SCALE = os.environ.get("SCALE", "1")
REPORTS = HERE.parent / "docs" / "benchmarks"
SERVER = os.environ.get("POSTGRES", "").split(".")[0]
WAL_LEVEL = os.environ.get("WAL_LEVEL", bench_postgres.SETTINGS["wal_level"])
# Of another server than the newest installed one, or another log, the reports have names of their own.
BY_SERVER = f"-postgres-{SERVER}" if SERVER else ""
if WAL_LEVEL != bench_postgres.SETTINGS["wal_level"]:
    BY_SERVER += f"-wal-{WAL_LEVEL}"
REPORT = REPORTS / f"load{BY_SERVER}{f'-scale-{SCALE}' if SCALE != '1' else ''}"
PEERS = [peer for peer in os.environ["PEERS"].split() if peer != "none"]
LAKEGATE = os.environ["LAKEGATE"]

KEYS = {"lineitem": ["l_orderkey", "l_linenumber"], "orders": ["o_orderkey"]}
# Who is asked to load what: those that take minutes for the large table load the small one.
LOADED_BY = {"lineitem": ["duckdb", "pgpq", "adbc"], "orders": ["duckdb", "dlt", "sling", "spark"]}
NAMES = {
    "duckdb": "DuckDB, postgres extension, + PK",
    "pgpq": "pgpq + psycopg, + PK",
    "adbc": "ADBC ingest, + PK",
    "dlt": "dlt, CSV files, + PK",
    "sling": "Sling, from CSV, + PK",
    "spark": "Spark local[2], JDBC, + PK; its JVM is not counted",
}
WHOLE = "Lakegate, the whole sync"
# As src/destination/index.rs.
STATISTICS_TARGET = 10
TABLE_OF = {"dlt": "dlt_bench.{}", "sling": "public.sling_{}", "spark": "public.spark_{}"}

# What so many streams copy: the whole table, or its halves.
PARTS = {1: ["whole"], 2: ["first", "second"]}
# Autovacuum would clean up after one load while the next is measured.
SETTINGS = {**bench_postgres.SETTINGS, "autovacuum": "off", "wal_level": WAL_LEVEL}
if WAL_LEVEL == "minimal":
    # Postgres does not start with any.
    SETTINGS["max_wal_senders"] = 0


class Database:
    def __init__(self, reach):
        self.reach = {name: reach[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE")}

    def connect(self):
        reach = self.reach
        text = f"host={reach['PGHOST']} port={reach['PGPORT']} user={reach['PGUSER']} dbname={reach['PGDATABASE']}"
        return psycopg.connect(text, autocommit=True)

    def execute(self, *statements):
        with self.connect() as session:
            for statement in statements:
                result = session.execute(statement)
            return result.fetchall() if result.description else None


def make_data(database):
    """The tables in files, see bench_data.py, and as empty tables in Postgres. A process of its own makes them: what is measured
    here begins with the memory of this one."""
    folder = WORK / f"sf{SCALE}"
    columns = json.loads(run(sys.executable, HERE / "bench_data.py", folder, SCALE, *KEYS))
    for table in KEYS:
        database.execute(f"DROP TABLE IF EXISTS {table}", f"CREATE TABLE {table} ({columns[table]})")
    return folder


def project(folder, keys):
    """A project of Lakegate with the Delta tables of a folder as pipelines."""
    home = folder / "project"
    (home / "pipelines").mkdir(parents=True, exist_ok=True)
    (home / "lakegate.yaml").write_text("postgres: ${BENCH_POSTGRES}\n")
    for table, key in keys.items():
        text = f"source: {folder}/delta/{table}\nprimary_key: [{', '.join(key)}]\n"
        (home / "pipelines" / f"{table}.yaml").write_text(text)
    return home


def measured(*command, env=None):
    """Seconds of a process, its own peak MiB, and CPU seconds of it and of the children that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    child = subprocess.Popen(
        [str(part) for part in command], env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} failed:\n{output[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, usage.ru_maxrss / 1024, cpu


def processor_seconds(server):
    """Of all processes of the server until now, those that have ended included."""
    postmaster = server["postmaster"]
    children = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    # The postmaster's own times and those of the children that it has seen end.
    ticks = sum(times(postmaster)[:4])
    for child in children:
        with contextlib.suppress(FileNotFoundError):
            ticks += sum(times(child)[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def times(process):
    """`utime`, `stime`, `cutime` and `cstime` of proc(5)."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return [int(field) for field in fields[11:15]]


def limit_of(streams, persistence=""):
    """What reports call the limit by so many streams."""
    return f"the limit: encoded bytes, {streams} stream{'s' if streams > 1 else ''}{', unlogged' if persistence else ''}, + PK"


class Bench:
    def __init__(self, database, server, folder, keys):
        self.database, self.server, self.folder, self.keys = database, server, folder, keys
        self.home = project(folder, keys)
        self.environment = {**database.reach, "BENCH_POSTGRES": self.url()}
        self.results, self.failed, self.floors = {}, {}, {}

    def url(self):
        reach = self.database.reach
        return f"postgres://{reach['PGUSER']}@/{reach['PGDATABASE']}?host={reach['PGHOST']}&port={reach['PGPORT']}"

    def note(self, table, who, result):
        self.results.setdefault((table, who), []).append(result)
        print(f"{table}, {who}: {result[0]:.2f} s, {result[1]:.0f} MiB, {result[2]:.1f} s CPU", file=sys.stderr)

    def primary_key(self, table, of):
        self.database.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({', '.join(self.keys[of])})")

    def empty(self, table, persistence=""):
        """A table `loaded` without rows."""
        columns = f"(LIKE {table} INCLUDING DEFAULTS)"
        self.database.execute("DROP TABLE IF EXISTS loaded", f"CREATE {persistence} TABLE loaded {columns}", "CHECKPOINT")

    def lakegate(self, table):
        # A first load, as those of the peers: nothing is there, neither to compare with nor to be dropped once it is superseded.
        if (table, WHOLE) in self.results:
            run(LAKEGATE, "--project", self.home, "drop", table, "--yes", env={**os.environ, **self.environment})
        self.database.execute("CHECKPOINT")
        sync = [LAKEGATE, "--project", self.home, "sync", table, "--full", "--output", "json"]
        self.note(table, WHOLE, measured(*sync, env=self.environment))

    def encode(self, table, parts=(*PARTS[1], *PARTS[2])):
        """Writes parts of the table as Postgres writes them in binary, each into a file."""
        generation = self.database.execute(
            f"SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'lakegate_data' "
            f"AND relkind = 'r' AND relname LIKE '{table}\\_\\_g%' ORDER BY c.oid DESC LIMIT 1"
        )[0][0]
        columns = ", ".join(
            row[0]
            for row in self.database.execute(
                f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
            )
        )
        rows = f"SELECT {columns} FROM lakegate_data.{generation}"
        half = self.database.execute(f"SELECT relpages / 2 FROM pg_class WHERE oid = 'lakegate_data.{generation}'::regclass")[0][0]
        conditions = {"whole": "", "first": f" WHERE ctid < '({half},0)'", "second": f" WHERE ctid >= '({half},0)'"}
        for part in parts:
            self.database.execute(f"COPY ({rows}{conditions[part]}) TO '{self.server['folder']}/{table}.{part}' (FORMAT binary)")

    def limit(self, table, streams, persistence=""):
        self.empty(table, persistence)
        began = time.monotonic()
        parts = PARTS[streams]
        copies = [f"COPY loaded FROM '{self.server['folder']}/{table}.{part}' (FORMAT binary)" for part in parts]
        environment = {**os.environ, **self.database.reach}
        children = [subprocess.Popen(["psql", "-q", "-c", copy], env=environment) for copy in copies]
        if any(child.wait() for child in children):
            raise RuntimeError("COPY failed")
        self.primary_key("loaded", table)
        self.note(table, limit_of(streams, persistence), (time.monotonic() - began, 0, 0))

    def floor(self, table):
        """What Postgres spends on the same rows whoever sends them: COPY of encoded bytes through two sockets, the primary key, the
        statistics."""
        self.empty(table)
        before = processor_seconds(self.server)
        copies = []
        for part in ("first", "second"):
            with open(f"{self.server['folder']}/{table}.{part}", "rb") as rows:
                copy = ["psql", "-q", "-c", "COPY loaded FROM STDIN (FORMAT binary)"]
                copies.append(subprocess.Popen(copy, env={**os.environ, **self.database.reach}, stdin=rows))
        if any(copy.wait() for copy in copies):
            raise RuntimeError("COPY failed")
        self.primary_key("loaded", table)
        self.database.execute(f"SET default_statistics_target = {STATISTICS_TARGET}", "ANALYZE loaded")
        self.floors.setdefault(table, []).append(processor_seconds(self.server) - before)

    def peer(self, peer, table):
        if (peer, table) in self.failed:
            return
        self.empty(table)
        target = TABLE_OF.get(peer, "loaded").format(table)
        if target != "loaded":
            # What dlt knows of its tables stands in its schema.
            self.database.execute(f"DROP TABLE IF EXISTS {target}", "DROP SCHEMA IF EXISTS dlt_bench CASCADE", "CHECKPOINT")
        load = [sys.executable, HERE / "bench_peers.py", peer, table if target != "loaded" else "loaded"]
        try:
            result = measured(*load, self.folder / f"{table}.parquet", self.folder / f"{table}.csv", env=self.environment)
            began = time.monotonic()
            self.primary_key(target, table)
            loaded, rows = (self.database.execute(f"SELECT count(*) FROM {name}")[0][0] for name in (target, f"lake.{table}"))
            if loaded != rows:
                raise RuntimeError(f"{peer} loaded {loaded} rows of {rows}")
            self.note(table, NAMES[peer], (result[0] + time.monotonic() - began, *result[1:]))
        except RuntimeError as error:
            print(f"{peer} is left out: {error}", file=sys.stderr)
            self.failed[(peer, table)] = next((line for line in str(error).splitlines() if "Error" in line), str(error))[:200]

    def round(self):
        for table in KEYS:
            self.lakegate(table)
            if not (pathlib.Path(self.server["folder"]) / f"{table}.second").exists():
                self.encode(table)
            for streams in (1, 2):
                for persistence in ("", "UNLOGGED"):
                    self.limit(table, streams, persistence)
            self.floor(table)
            for peer in (peer for peer in LOADED_BY[table] if peer in PEERS):
                self.peer(peer, table)
        # What is kept for a rollback would fill the disk.
        self.database.execute("DROP TABLE IF EXISTS loaded")


def report(bench, head):
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    rows = {key: [statistics.median(values) for values in zip(*results)] for key, results in bench.results.items()}
    lines = ["# Loads, measured", "", "By `make bench`; how is in `scripts/bench_load.py`.", ""]
    lines += [f"- {line}" for line in head]
    for table in KEYS:
        own = rows[(table, WHOLE)][0]
        lines += ["", f"## `{table}`", "", "| who | seconds | Lakegate takes | peak MiB | CPU s of the client |", "|---|---|---|---|---|"]
        for (of, who), (seconds, mebibytes, cpu) in sorted(rows.items(), key=lambda row: row[1][0]):
            if of == table:
                client = f"{mebibytes:.0f} | {cpu:.1f}" if mebibytes else "| "
                lines.append(f"| {who} | {seconds:.2f} | {own / seconds:.2f} of it | {client} |")
        server, client = statistics.median(bench.floors[table]), rows[(table, WHOLE)][2]
        floor = (server + client) / os.cpu_count()
        lines += [
            "",
            f"The floor: for the same bytes, encoded beforehand and sent through two sockets, the primary key and the statistics, "
            f"Postgres spends {server:.1f} s of CPU. With the {client:.1f} s that Lakegate spends on reading, encoding, hashing and "
            f"sending, {os.cpu_count()} processors are busy for {floor:.2f} s: the sync takes {own / floor:.2f} of that.",
        ]
    if bench.failed:
        lines += ["", "Left out:", ""]
        lines += [f"- {NAMES[peer]} of `{table}`: {why}" for (peer, table), why in bench.failed.items()]
    REPORT.with_suffix(".md").write_text("\n".join(lines) + f"\n\n![Seconds of each load]({REPORT.name}.svg)\n")
    REPORT.with_suffix(".svg").write_text(chart(rows))
    print(REPORT.with_suffix(".md").read_text())


def chart(rows):
    """Bars of seconds."""
    bars, y = [], 20
    longest = max(seconds for seconds, *_ in rows.values())
    for table in KEYS:
        bars.append(f'<text x="10" y="{y}" font-weight="bold">{table}</text>')
        y += 10
        for (of, who), (seconds, *_) in sorted(rows.items(), key=lambda row: row[1][0]):
            if of == table:
                colour = "#0b7285" if who.startswith("Lakegate") else "#adb5bd" if who.startswith("the limit") else "#868e96"
                width = seconds / longest * 400
                bars.append(f'<text x="300" y="{y + 12}" text-anchor="end">{who.replace("&", "&amp;")}</text>')
                bars.append(f'<rect x="308" y="{y}" width="{width:.1f}" height="16" fill="{colour}"/>')
                bars.append(f'<text x="{314 + width:.1f}" y="{y + 12}">{seconds:.2f} s</text>')
                y += 22
        y += 24
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="780" height="{y}" font-family="sans-serif" font-size="12">'
    return head + '<rect width="100%" height="100%" fill="white"/>' + "".join(bars) + "</svg>\n"


def machine(server):
    """Lines of a report: when, on what, and with which programs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    settings = ", ".join(f"`{name} = {value}`" for name, value in SETTINGS.items())
    return [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors ({model}), {memory:.0f} GiB; all on this machine",
        f"{run(LAKEGATE, '--version').strip()}; {server['version']} with {settings}",
    ]


def peers():
    """The line of a report that says which peers are measured."""
    packages = {"duckdb": "duckdb", "pgpq": "pgpq", "adbc": "adbc-driver-postgresql", "dlt": "dlt", "sling": "sling-linux-amd64", "spark": "pyspark"}
    known = []
    for peer in PEERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            known.append(f"{packages[peer]} {metadata.version(packages[peer])}")
    return ", ".join(known) or "no peers"


def main():
    with bench_postgres.cluster(SETTINGS) as server:
        database = Database(server)
        bench = Bench(database, server, make_data(database), KEYS)
        for _ in range(ROUNDS):
            bench.round()
        rows = "Lakegate reads Delta, the others Parquet or CSV of the same rows"
        report(bench, [*machine(server), peers(), f"TPC-H at scale {SCALE}: {rows}; medians of {ROUNDS} rounds"])


if __name__ == "__main__":
    main()
