"""Measures lookups of TPC-H `orders` (scale factor 1) by key; see bench-serve.sh, which calls it.

Every server answers whole rows to 64 connections of wrk (one thread) that ask for uniform random keys; pgbench asks the same
generation with 64 clients. Clients of a network speak TCP, as wrk does, so that pgbench is measured over TCP, beside a Lakegate that
reaches Postgres over TCP; and both once more over Postgres' Unix socket, which only what runs on the same machine can use.
"""

import contextlib
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

import bench_postgres
from bench_postgres import free_port, run

WORK = pathlib.Path(sys.argv[1])
BIN = WORK / "venv" / "bin"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = int(os.environ.get("SECONDS_EACH", "10"))
# Between two measurements, so that what one leaves behind (64 processes of Postgres that end) does not delay the next.
PAUSE = 2
REPORT = pathlib.Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "serve.md"
ORDERS = 1_500_000
# Four servers and a peer with connections of their own, beside the 64 of pgbench.
SETTINGS = {**bench_postgres.SETTINGS, "max_connections": "200"}
COLUMNS = "o_orderkey o_custkey o_orderstatus o_totalprice o_orderdate o_orderpriority o_clerk o_shippriority o_comment"

# Who is measured.
PGBENCH, NOTHING = "pgbench, 64 clients", "Lakegate, nothing kept"
CONSTANT, EVERY = "axum, a constant body", "Lakegate, every key kept"
UNIX = ", Unix socket"

# Orders are numbered with gaps: of every 32 numbers the first 8 are used, and the first of all is 1.
REQUESTS = """
math.randomseed(os.time())
request = function()
  local i = math.random(1, %d)
  local key = math.floor(i / 8) * 32 + i %% 8
  return %s
end
"""

FASTAPI = '''
import os, asyncpg
from contextlib import asynccontextmanager
from fastapi import FastAPI, HTTPException

@asynccontextmanager
async def lifespan(app):
    app.state.pool = await asyncpg.create_pool(os.environ["DSN"], min_size=8, max_size=8)
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/orders/{key}")
async def order(key: int):
    row = await app.state.pool.fetchrow(os.environ["SQL"], key)
    if row is None:
        raise HTTPException(404)
    return dict(row)
'''


def fetch(url, data=None):
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request) as reply:
        return reply.read()


@contextlib.contextmanager
def server(command, url, env=None, cwd=None, data=None):
    """A server that answers `url`, to which `data` is sent if there is any, until the end of the block."""
    log = open(WORK / "servers.log", "a")
    child = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=cwd, env={**os.environ, **(env or {})})
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                fetch(url, data)
                break
            if child.poll() is not None:
                sys.exit(f"{command[0]} ended: see {log.name}")
            time.sleep(0.1)
        else:
            sys.exit(f"{command[0]} does not answer {url}: see {log.name}")
        yield
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            # ROAPI waits for connections that nobody closes.
            child.kill()
            child.wait()


def milliseconds(text):
    found = re.fullmatch(r"([0-9.]+)(us|ms|s|m)", text)
    if not found:
        sys.exit(f"wrk tells of {text!r} as a time")
    return float(found.group(1)) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[found.group(2)]


def get(path):
    """Asks for a row by a path that ends with its key."""
    return f"wrk.format('GET', '{path}' .. key)"


def wrk(base, request):
    script = WORK / "keys.lua"
    script.write_text(REQUESTS % (ORDERS - 1, request))
    out = run("wrk", "-t1", "-c64", "--timeout", "10s", f"-d{SECONDS}s", "--latency", "-s", script, base)
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"not every request was answered:\n{out}")
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1))
    return rate, milliseconds(re.search(r"^\s+99%\s+(\S+)", out, re.M).group(1))


def pgbench(postgres, host):
    script = WORK / "orders.pgbench"
    columns = ", ".join(COLUMNS.split())
    script.write_text(
        f"\\set i random(1, {ORDERS - 1})\n\\set k (:i / 8) * 32 + mod(:i, 8)\n"
        f"SELECT {columns} FROM {postgres['table']} WHERE o_orderkey = :k;\n"
    )
    environment = {**os.environ, "PGOPTIONS": "-c jit=off"}
    connection = ["-h", host, "-p", postgres["port"], "-U", postgres["user"], postgres["database"]]
    out = run("pgbench", "-n", "-M", "prepared", "-c", "64", "-j", "1", "-T", SECONDS, "-f", script, *connection, env=environment)
    return float(re.search(r"tps = ([0-9.]+)", out).group(1)), float(re.search(r"latency average = ([0-9.]+)", out).group(1))


def project():
    """The folder of a project with `orders` in a Postgres that BENCH_POSTGRES names."""
    folder = WORK / "lookups"
    if not (folder / "lake" / "orders.parquet").exists():
        (folder / "lake").mkdir(parents=True, exist_ok=True)
        run(BIN / "tpchgen-cli", "parquet", "-s", "1", "--tables=orders", f"--output-dir={folder / 'lake'}")
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "orders.yaml").write_text("source: lake/orders.parquet\nprimary_key: [o_orderkey]\n")
    (folder / "lakegate.yaml").write_text("postgres: ${BENCH_POSTGRES}\n")
    return folder


def reached_over(host, cluster):
    return f"postgres://{cluster['PGUSER']}@/{cluster['PGDATABASE']}?host={host}&port={cluster['PGPORT']}"


def postgres_of(folder, cluster, environment):
    """How to reach the table, over the Unix socket."""
    lakegate = [os.environ["LAKEGATE"], "--project", folder]
    record = json.loads(run(*lakegate, "generations", "orders", "--output", "json", env=environment).splitlines()[0])
    table = f"lakegate_data.orders__g{record['generation']}"
    reach = {"folder": cluster["PGHOST"], "port": cluster["PGPORT"], "user": cluster["PGUSER"], "database": cluster["PGDATABASE"]}
    return {**reach, "table": table, "version": cluster["version"]}


def warm(base):
    """Asks for every key once."""
    keys = [i // 8 * 32 + i % 8 for i in range(1, ORDERS)]
    for start in range(0, len(keys), 1000):
        fetch(f"{base}/v1/orders/_batch?columns=o_orderkey", json.dumps({"keys": keys[start : start + 1000]}).encode())


@contextlib.contextmanager
def fastapi(postgres):
    """What many teams write: two workers, a pool each."""
    (WORK / "orders_app.py").write_text(FASTAPI)
    dsn = f"postgres://{postgres['user']}@/{postgres['database']}?host={postgres['folder']}&port={postgres['port']}"
    sql = f"SELECT {', '.join(COLUMNS.split())} FROM {postgres['table']} WHERE o_orderkey = $1"
    port = free_port()
    command = [BIN / "uvicorn", "orders_app:app", "--workers", "2", "--port", port, "--log-level", "warning"]
    with server(command, f"http://127.0.0.1:{port}/orders/1", {"DSN": dsn, "SQL": sql}, WORK):
        yield f"http://127.0.0.1:{port}", get("/orders/")


@contextlib.contextmanager
def roapi(folder):
    """The Parquet file in memory, filtered by key: it has no index."""
    port = free_port()
    path = "/api/tables/orders?filter%5Bo_orderkey%5D="
    command = [BIN / "roapi", "--addr-http", f"127.0.0.1:{port}", "--table", f"orders={folder / 'lake' / 'orders.parquet'}"]
    with server(command, f"http://127.0.0.1:{port}{path}1"):
        yield f"http://127.0.0.1:{port}", get(path)


@contextlib.contextmanager
def postgraphile(postgres):
    """GraphQL over the generation, whose primary key it finds by itself; two processes."""
    port = free_port()
    environment = {"PGHOST": postgres["folder"], "PGPORT": postgres["port"], "PGUSER": postgres["user"], "PGDATABASE": postgres["database"]}
    command = [WORK / "node_modules" / ".bin" / "postgraphile", "--connection", "postgres:///", "--schema", "lakegate_data"]
    command += ["--host", "127.0.0.1", "--port", port, "--cluster-workers", "2", "--disable-query-log", "--no-setof-functions-contain-nulls"]
    base = f"http://127.0.0.1:{port}"
    ready = json.dumps({"query": "{__typename}"}).encode()
    with server(command, f"{base}/graphql", {**environment, "NODE_ENV": "production"}, data=ready):
        # It names things in camel case; numbers of 64 bits are strings.
        by_key = f"ordersG{postgres['table'].rsplit('__g', 1)[1]}ByOOrderkey"
        columns = " ".join(re.sub("_(.)", lambda letter: letter.group(1).upper(), column) for column in COLUMNS.split())
        query = f'{{row: {by_key}(oOrderkey: "%s") {{{columns}}}}}'
        found = json.loads(fetch(f"{base}/graphql", json.dumps({"query": query % 1}).encode()))
        if not found["data"]["row"]:
            sys.exit("PostGraphile does not find the row")
        before, after = json.dumps({"query": query}).split("%s")
        yield base, f"wrk.format('POST', '/graphql', {{['Content-Type'] = 'application/json'}}, [[{before}]] .. key .. [[{after}]])"


def main():
    lakegate, folder = os.environ["LAKEGATE"], project()
    rates, delays = {}, {}

    def note(who, measure, *arguments):
        time.sleep(PAUSE)
        measured = measure(*arguments)
        rates.setdefault(who, []).append(measured[0])
        delays.setdefault(who, []).append(measured[1])
        print(f"{who}: {measured[0]:,.0f}/s, {measured[1]:.2f} ms", file=sys.stderr)

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(bench_postgres.cluster(SETTINGS))
        tcp, unix = "127.0.0.1", cluster["PGHOST"]

        def serving(host, cache):
            """A Lakegate that reaches Postgres so and keeps so much; where it answers."""
            address = f"127.0.0.1:{free_port()}"
            environment = {
                "BENCH_POSTGRES": reached_over(host, cluster),
                "LAKEGATE_API_LISTEN": address,
                "LAKEGATE_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
                "LAKEGATE_LIMITS_CACHE_MEMORY": cache,
            }
            stack.enter_context(server([lakegate, "--project", folder, "serve"], f"http://{address}/readyz", environment))
            return f"http://{address}"

        environment = {**os.environ, "BENCH_POSTGRES": reached_over(tcp, cluster)}
        run(lakegate, "--project", folder, "sync", "orders", env=environment)
        postgres = postgres_of(folder, cluster, environment)
        base, local, hot = serving(tcp, "0"), serving(unix, "0"), serving(tcp, "2GiB")
        body = fetch(f"{base}/v1/orders/1")
        warm(hot)
        constant = f"127.0.0.1:{free_port()}"
        stack.enter_context(server([os.environ["CONSTANT_BODY"], constant, len(body)], f"http://{constant}/x"))
        # Each for its measurement only: an idle one takes memory and connections.
        peers = {"FastAPI + asyncpg": lambda: fastapi(postgres)}
        if (BIN / "roapi").exists():
            peers["ROAPI, the table in memory"] = lambda: roapi(folder)
        if (WORK / "node_modules" / ".bin" / "postgraphile").exists():
            peers["PostGraphile"] = lambda: postgraphile(postgres)
        for _ in range(ROUNDS):
            note(PGBENCH, pgbench, postgres, tcp)
            note(NOTHING, wrk, base, get("/v1/orders/"))
            note(PGBENCH + UNIX, pgbench, postgres, unix)
            note(NOTHING + UNIX, wrk, local, get("/v1/orders/"))
            note(CONSTANT, wrk, f"http://{constant}", get("/"))
            note(EVERY, wrk, hot, get("/v1/orders/"))
            for who, peer in peers.items():
                with peer() as (address, request):
                    note(who, wrk, address, request)
    report(rates, delays, len(body), postgres["version"])


def report(rates, delays, body, postgres):
    """Writes the medians, and how far the rounds were apart, as Markdown."""
    middle = {who: (statistics.median(rates[who]), statistics.median(delays[who])) for who in rates}
    ratio = lambda one, other: middle[one][0] / middle[other][0]
    lines = [
        "# Lookups, measured",
        "",
        "By `make bench-serve`; how is in `scripts/bench_serve.py`.",
        "",
        f"- {time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors ({processor()}); all on this machine",
        f"- {run(os.environ['LAKEGATE'], '--version').strip()}; {postgres}, reached over TCP unless the table says otherwise; the peers over its Unix socket",
        f"- TPC-H `orders` at scale 1, {ORDERS:,} rows, whole rows by uniform random keys, {body} bytes an answer; wrk with one thread "
        f"and 64 connections; medians of {ROUNDS} rounds of {SECONDS} s",
        "- Every key kept: of `cache_memory: 2GiB`",
        "",
        "| who | rows a second | slowest and fastest round | p99 (pgbench: mean) |",
        "|---|---|---|---|",
    ]
    for who, (rate, delay) in sorted(middle.items(), key=lambda row: -row[1][0]):
        lines.append(f"| {who} | {rate:,.0f} | {min(rates[who]):,.0f} to {max(rates[who]):,.0f} | {delay:.2f} ms |")
    lines += [
        "",
        f"- Nothing kept: {ratio(NOTHING, PGBENCH):.2f} times what pgbench reads from the same table where all speak TCP; "
        f"{ratio(NOTHING + UNIX, PGBENCH + UNIX):.2f} times where both reach Postgres over its Unix socket (and wrk Lakegate over TCP)",
        f"- Every key kept: {ratio(EVERY, CONSTANT):.2f} times axum with a constant body of that size",
    ]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n")
    print(REPORT.read_text())


def processor():
    """The processor's name."""
    names = (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    return next(names, platform.machine())


main()
