#!/usr/bin/env bash
# Sees to it that everything a build and its tests need is there: cargo, a C compiler, a PostgreSQL server, curl, git.
# Installs what is missing with apt, as root or by sudo; elsewhere it says what to install. Quiet if nothing is missing.
set -euo pipefail

readonly OLDEST_POSTGRES=15

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# Prints the major version of the server binaries in a folder; fails if there are none.
server_version() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
    "$1/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/'
}

# Server binaries that are new enough, where `lakegate` looks for them too.
has_postgres() {
    local folder version
    local folders=()
    if has initdb; then folders+=("$(dirname "$(command -v initdb)")"); fi
    if has pg_config; then folders+=("$(pg_config --bindir)"); fi
    folders+=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin)
    for folder in "${folders[@]}"; do
        if version=$(server_version "$folder") && [ "$version" -ge "$OLDEST_POSTGRES" ]; then return 0; fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi
}

# Shows what apt says only if it fails.
apt() {
    local log
    log=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" </dev/null 2>&1) || {
        printf '%s\n' "$log" >&2
        return 1
    }
}

apt_install() {
    apt install -y --no-install-recommends "$@"
}

# Only the binaries are wanted: no cluster is made, no service started. Where postgresql-common was there before, its
# owner has set that as they like it.
apt_install_postgres() {
    local settings=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$settings" ]; then
        apt_install postgresql-common
        as_root sed -i -E 's/^#? *create_main_cluster *=.*/create_main_cluster = false/' "$settings"
    fi
    apt_install postgresql
}

install_missing() {
    has apt-get || die "install these, then run make again: $* (PostgreSQL $OLDEST_POSTGRES or newer, with its server)"
    [ "$(id -u)" -eq 0 ] || has sudo || die "as root: apt-get install $*"
    say "installing: $*"
    apt update || say "the list of packages could not be refreshed"
    local package
    for package in "$@"; do
        if [ "$package" = postgresql ]; then apt_install_postgres; else apt_install "$package"; fi
    done
}

missing=()
# aws-lc, zstd and xz are compiled from C; the compiler links everything else too.
if ! has cc || [ "$(printf '#include <stdlib.h>\n' | cc -E - 2>/dev/null | wc -l)" -eq 0 ]; then
    missing+=(gcc libc6-dev)
fi
has curl || missing+=(curl ca-certificates)
has git || missing+=(git)
has_postgres || missing+=(postgresql)
[ ${#missing[@]} -eq 0 ] || install_missing "${missing[@]}"

has_postgres || die "the PostgreSQL that this system offers is older than $OLDEST_POSTGRES; \
https://www.postgresql.org/download/ has newer packages"
has cargo || die "cargo is missing. Install Rust from https://rustup.rs, for example:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
then run make again. The toolchain that rust-toolchain.toml names is fetched by itself."
