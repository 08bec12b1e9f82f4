#!/bin/sh
# Makes a small image of this machine's static busybox, without a registry: image.sh NAME [CHANGE]…
# Each CHANGE is an instruction as in a Dockerfile, for example 'USER root'.
set -eu
name=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/bin" "$dir/etc" "$dir/tmp"
# As in every image: a file system that is mounted there takes its mode.
chmod 1777 "$dir/tmp"
cp "$(command -v busybox)" "$dir/bin/busybox"
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$dir/bin/$applet"
done
echo 'root:x:0:0::/:/bin/sh' >"$dir/etc/passwd"
for change; do
    set -- "$@" --change "$change"
    shift
done
tar -C "$dir" --owner=0 --group=0 -c . | docker import "$@" - "$name" >/dev/null
