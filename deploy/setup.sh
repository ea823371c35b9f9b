#!/usr/bin/env bash
# Make a virtual environment of this checkout with biolmm and its development tools; quick when it is there already.
# Usage: deploy/setup.sh [FOLDER]   (default .venv). Prints the folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${1:-.venv}
stamp="$venv/.installed"

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3 python; do
        if [[ -n "$candidate" ]] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or later is needed: install it, or set PYTHON to its path." >&2
    exit 1
}

if [[ ! -e "$stamp" || pyproject.toml -nt "$stamp" ]]; then
    python=$(find_python)
    [[ -x "$venv/bin/python" ]] || "$python" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
    touch "$stamp"
fi
echo "$venv"
