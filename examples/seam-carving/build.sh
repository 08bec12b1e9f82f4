#!/bin/sh
# Builds seam-carving.wasm. pip install ziglang (zig 0.17); STB is a folder with stb_image.h and stb_image_write.h
# (Debian: apt-get install libstb-dev).
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -O2 -s -isystem "${STB:-/usr/include/stb}" \
    -o seam-carving.wasm seam-carving.c
