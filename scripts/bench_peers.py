"""Loads a table by one of the tools that others use; see bench_load.py, which measures it.

    bench_peers.py PEER TABLE PARQUET CSV     with the database in PGHOST, PGPORT, PGUSER and PGDATABASE

Each is used as its documentation says is fastest, into a table that is there already where it can be told to. The primary key is
added by whoever calls this.
"""

import os
import sys
import tempfile

HOST, PORT, USER, DATABASE = (os.environ[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"))
# The server trusts whoever connects; dlt insists on a password.
URL = f"postgresql://{USER}:none@127.0.0.1:{PORT}/{DATABASE}"


def duckdb(table, parquet, _csv):
    import duckdb
    from duckdb_extensions import import_extension

    import_extension("postgres_scanner")
    lake = duckdb.connect()
    lake.execute("LOAD postgres_scanner")
    lake.execute(f"ATTACH 'host={HOST} port={PORT} user={USER} dbname={DATABASE}' AS pg (TYPE postgres)")
    lake.execute(f"INSERT INTO pg.public.{table} SELECT * FROM read_parquet('{parquet}')")


def pgpq(table, parquet, _csv):
    import psycopg
    import pyarrow.parquet as pq
    from pgpq import ArrowToPostgresBinaryEncoder

    file = pq.ParquetFile(parquet)
    encoder = ArrowToPostgresBinaryEncoder(file.schema_arrow)
    with psycopg.connect(f"host={HOST} port={PORT} user={USER} dbname={DATABASE}") as session:
        with session.cursor().copy(f"COPY {table} FROM STDIN WITH (FORMAT binary)") as copy:
            copy.write(encoder.write_header())
            for batch in file.iter_batches(batch_size=65_536):
                copy.write(encoder.write_batch(batch))
            copy.write(encoder.finish())


def adbc(table, parquet, _csv):
    import adbc_driver_postgresql.dbapi as dbapi
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(parquet)
    rows = pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(batch_size=65_536))
    with dbapi.connect(URL) as session, session.cursor() as cursor:
        cursor.adbc_ingest(table, rows, mode="append")
        session.commit()


def dlt(table, parquet, _csv):
    os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "NORMALIZE__WORKERS": "2", "LOAD__WORKERS": "4"})
    os.environ["DATA_WRITER__FILE_MAX_ITEMS"] = "500000"
    import dlt as tool
    import pyarrow.parquet as pq

    @tool.resource(name=table, write_disposition="replace")
    def rows():
        for batch in pq.ParquetFile(parquet).iter_batches(batch_size=100_000):
            yield batch

    destination = tool.destinations.postgres(URL)
    with tempfile.TemporaryDirectory() as state:
        pipeline = tool.pipeline(f"bench_{table}", destination=destination, dataset_name="dlt_bench", pipelines_dir=state)
        pipeline.run(rows(), loader_file_format="csv")


def sling(table, _parquet, csv):
    import pathlib

    import sling_linux_amd64 as package

    binary = pathlib.Path(package.__file__).parent / "bin" / "sling-linux-amd64"
    binary.chmod(0o755)
    os.environ.update({"TARGET": f"{URL}?sslmode=disable", "SLING_DISABLE_TELEMETRY": "true"})
    load = ["run", "--src-stream", f"file://{csv}", "--tgt-conn", "TARGET", "--tgt-object", f"public.sling_{table}"]
    os.execv(binary, [binary, *load, "--mode", "full-refresh"])


def spark(table, parquet, _csv):
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[2]").config("spark.jars", "/usr/share/java/postgresql.jar")
    session = session.config("spark.driver.memory", "2g").config("spark.ui.enabled", "false").getOrCreate()
    rows = session.read.parquet(parquet)
    writer = rows.write.format("jdbc").option("url", f"jdbc:postgresql://127.0.0.1:{PORT}/{DATABASE}?reWriteBatchedInserts=true")
    writer = writer.option("user", USER).option("dbtable", f"spark_{table}").option("batchsize", 10_000)
    writer.option("driver", "org.postgresql.Driver").mode("overwrite").save()


if __name__ == "__main__":
    {"duckdb": duckdb, "pgpq": pgpq, "adbc": adbc, "dlt": dlt, "sling": sling, "spark": spark}[sys.argv[1]](*sys.argv[2:5])
