#!/bin/sh
# Builds wordcount.wasm. Debian 12: apt-get install rustc libstd-rust-dev-wasm32 lld (rustc 1.63).
# With rustup: rustup target add wasm32-wasip1, and RUSTC=rustc TARGET=wasm32-wasip1.
set -eu
cd "$(dirname "$0")"
"${RUSTC:-/usr/bin/rustc}" --target "${TARGET:-wasm32-wasi}" -O -C lto -C panic=abort -C strip=symbols -o wordcount.wasm wordcount.rs
