#!/bin/sh
# Builds cat.wasm, and puts it into job.yaml. pip install ziglang (zig 0.17).
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -Os -s -o cat.wasm cat.c
module=$(base64 -w 0 cat.wasm)
sed -i "s|data:application/wasm;base64,.*|data:application/wasm;base64,$module\"|" job.yaml
