#!/bin/sh
# tests/crash/run.sh crash|orderly [ARGUMENTS]: runs that program, with the official client in its place.
cd "$(dirname "$0")/../.." || exit 1
tests/lib/node_suite.sh || exit 1
program=$1
shift
exec node "tests/crash/$program.mjs" "$@"
