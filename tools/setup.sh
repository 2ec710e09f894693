#!/usr/bin/env bash
# Creates the virtual environment $1 with litefleet and its development tools, on any Python >= 3.11 of this machine.
set -euo pipefail
venv=$1
usable() { command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
python=
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9].*/bin/python; do
    if [ -n "$candidate" ] && usable "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv
    if usable python3; then python=python3; fi
fi
if [ -z "$python" ]; then
    echo "litefleet needs Python 3.11 or later with venv; none was found." >&2
    echo "Install it (Debian: apt-get install python3 python3-venv), or give its path: make PYTHON=/path/to/python3.12 test" >&2
    exit 2
fi
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check uv
"$venv/bin/uv" pip install -q --python "$venv/bin/python" -e . --group dev
