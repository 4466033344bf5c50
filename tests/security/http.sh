#!/bin/bash
# HTTP/2 by raw frames and HTTP/1.1 by clients that mean harm: both suites, one count.
#   tests/security/http.sh [NILO]
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0 skipped=0

for suite in h2_conformance h1_hostile; do
        # The last line is the counts, which are added up here.
        said=$("tests/security/$suite.py" "$@" 2>&1)
        counts=$(tail -n 1 <<<"$said" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
        echo "$said"
        # shellcheck disable=SC2086
        set -- "${1:-build/nilo}" ${counts:-0 1 0}
        passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
        set -- "$1"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
