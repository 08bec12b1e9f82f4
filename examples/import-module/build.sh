#!/bin/sh
# Builds holidays.wasm (pip install ziglang, zig 0.17) and easter.wasm (npm install assemblyscript, 0.28;
# ASC is its compiler).
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -Os -s -o holidays.wasm holidays.c
"${ASC:-asc}" easter.ts -O --runtime stub -o easter.wasm
