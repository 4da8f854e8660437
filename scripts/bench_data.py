"""Makes tables of TPC-H as Parquet, as CSV and as Delta, where they are not there yet; prints their columns for CREATE TABLE.

    bench_data.py FOLDER SCALE TABLE…
"""

import json
import pathlib
import shutil
import sys

import duckdb
from deltalake import write_deltalake
from duckdb_extensions import import_extension

ROW_GROUP = 122_880


def main(folder, scale, tables):
    lake = duckdb.connect()
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        import_extension("tpch")
        lake.execute("LOAD tpch")
        lake.execute(f"CALL dbgen(sf={scale})")
        for table in tables:
            lake.execute(f"COPY {table} TO '{folder}/{table}.parquet' (FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP})")
            lake.execute(f"COPY {table} TO '{folder}/{table}.csv' (FORMAT csv, HEADER)")
            # One file, as the Parquet is.
            rows = lake.execute(f"FROM {table}").to_arrow_reader(ROW_GROUP)
            write_deltalake(str(folder / "delta" / table), rows, target_file_size=1 << 40)
        (folder / "done").touch()
    described = {table: lake.execute(f"DESCRIBE FROM '{folder}/{table}.parquet'").fetchall() for table in tables}
    columns = {table: ", ".join(f"{name} {kind}" for name, kind, *_ in rows) for table, rows in described.items()}
    print(json.dumps(columns))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
