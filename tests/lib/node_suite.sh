#!/bin/sh
# Runs node's test files and ends with the line that test.sh adds up: tests/lib/node_suite.sh FILE...
# The client library comes from the package registry once, by the lock file, without running anybody's scripts.
set -u
cd "$(dirname "$0")/../.."
interop=tests/interop
if ! cmp -s $interop/package-lock.json $interop/node_modules/.lock-installed; then
        (cd $interop && npm ci --ignore-scripts --no-audit --no-fund) || exit 1
        cp $interop/package-lock.json $interop/node_modules/.lock-installed
fi
[ $# != 0 ] || exit 0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
node --test --test-reporter=tap "$@" >"$out" 2>&1
code=$?
cat "$out"
count() { sed -n "s/^# $1 \([0-9]*\)$/\1/p" "$out" | tail -n 1; }
passed=$(count pass) failed=$(count fail) cancelled=$(count cancelled) skipped=$(count skipped)
grep '# SKIP' "$out" | sed 's/^ *ok [0-9]* - /SKIP: /'
failed=$((${failed:-0} + ${cancelled:-0}))
[ $code = 0 ] || [ $failed != 0 ] || failed=1
echo "${passed:-0} passed, $failed failed, ${skipped:-0} skipped"
[ $failed = 0 ]
