#!/usr/bin/env bash
# Runs the agent's tests on Python 3.7, the oldest that devices have.  $1: the bin folder of the virtual environment.
# `make test` has run them with its own Python. Those marked any_python are not repeated: what engines answer in interpreters
# that the test names (3.7 among them), and further models on ways that one model has gone.
set -euo pipefail
bin=$1
python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.7.*/bin/python 2>/dev/null | tail -n 1 || true)
python=${python:-3.7}
venv=.cache/agent-3.7
if [ ! -e "$venv/.done" ]; then
    if ! "$bin/uv" venv -q --clear --python "$python" "$venv"; then
        echo "skipped: the agent's tests on Python 3.7 (no Python 3.7 on PATH, in pyenv's folder, or from uv)" >&2
        [ "${CI:-}" = true ] && exit 1
        exit 0
    fi
    "$bin/uv" pip install -q --python "$venv/bin/python" 'pytest<8' 'pytest-xdist<3.6' 'hypothesis<6.80' 'numpy<2'
    touch "$venv/.done"
fi
PATH="$(cd "$bin" && pwd):$PATH" "$venv/bin/python" -m pytest -p no:cacheprovider -W ignore -n 3 -m "not long and not any_python" tests/agent
