#!/bin/sh
# Builds distances.wasm, a component. rustup target add wasm32-wasip2 (Rust 1.95; any since 1.82 will do).
set -eu
cd "$(dirname "$0")"
"${RUSTC:-rustc}" --edition 2024 --target wasm32-wasip2 -O -C lto -C panic=abort -C strip=symbols \
    -o distances.wasm distances.rs
