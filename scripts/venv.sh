# Sourced by scripts that use packages of PyPI: makes $work/venv, a folder of its own for them, where it is not there yet.
if [ ! -x "$work/venv/bin/python" ]; then
    python3 -m venv "$work/venv" || { apt-get install -y -qq python3-venv >/dev/null && python3 -m venv "$work/venv"; }
fi
