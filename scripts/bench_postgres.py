"""The Postgres that benchmarks measure against: a cluster of their own, reached over a Unix socket or TCP."""

import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess

SETTINGS = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    # Log files are used again instead of being made anew and filled with zeros in the midst of what is measured.
    "min_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "wal_level": "replica",
    "fsync": "on",
}


def run(*command, **options):
    """What a command prints; raises with what it said when it fails."""
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def as_server(*command):
    """As the account that Postgres runs under: it refuses to run as root."""
    if os.geteuid() == 0:
        return ["runuser", "-u", "postgres", "--", *command]
    return list(command)


def newest_installed():
    return max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


@contextlib.contextmanager
def cluster(settings):
    """A cluster of the newest installed server, or that of POSTGRES_BIN, with these settings until the end of the block; how to
    reach it."""
    binaries = os.environ.get("POSTGRES_BIN")
    binaries = pathlib.Path(binaries) if binaries else newest_installed()
    folder = pathlib.Path("/var/tmp") / f"lakegate-bench-{os.getpid()}"
    folder.mkdir()
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", free_port()
    run(*as_server(binaries / "initdb", "-D", data, "-U", "bench", "-A", "trust", "--locale=C.UTF-8", "-E", "UTF8"), cwd="/")
    settings = {**settings, "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    run(*as_server(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"), cwd="/")
    reach = {"PGHOST": str(folder), "PGPORT": str(port), "PGUSER": "bench", "PGDATABASE": "postgres"}
    try:
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        version = run(binaries / "postgres", "--version").strip()
        yield {**reach, "folder": folder, "version": version, "postmaster": postmaster}
    finally:
        run(*as_server(binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"), cwd="/")
        shutil.rmtree(folder, ignore_errors=True)
