#!/bin/sh
# tests/cluster/run.sh [ARGUMENTS]: the checker's own test, then chaos.mjs, with the official client in its place.
cd "$(dirname "$0")/../.." || exit 1
tests/lib/node_suite.sh || exit 1
node --test tests/cluster/judge.test.mjs >/dev/null || { echo "tests/cluster/judge.test.mjs fails"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
exec node tests/cluster/chaos.mjs "$@"
