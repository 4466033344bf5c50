#!/bin/sh
# From a fresh clone to a running server: installs what is missing, builds, and starts nilo with the given arguments.
# Assertions stay on in this build (STYLE.md 6).
set -eu
cd "$(dirname "$0")"
tools/setup.sh
if [ ! -f build-release/build.ninja ]; then
        meson setup build-release --buildtype=release -Db_ndebug=false -Dtests=false -Dwerror=false >&2
fi
ninja -C build-release nilo >&2
exec build-release/nilo "$@"
