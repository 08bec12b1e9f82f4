#!/bin/sh
# Builds mandelbrot.wasm. npm install assemblyscript@0.28 @assemblyscript/wasi-shim@0.1; MODULES is their node_modules.
set -eu
cd "$(dirname "$0")"
# The compiler takes the shim's folder only as a relative path.
modules=$(realpath --relative-to=. "${MODULES:-node_modules}")
"$modules/.bin/asc" mandelbrot.ts -O --noAssert --config "$modules/@assemblyscript/wasi-shim/asconfig.json" \
    -o mandelbrot.wasm
