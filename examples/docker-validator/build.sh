#!/bin/sh
# Builds close.wasm. pip install ziglang (zig 0.17).
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -Os -s -o close.wasm close.c
