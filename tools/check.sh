#!/bin/sh
# What can be held without running the program: directions between rooms, contracts, lengths, forbidden calls and words,
# formatting, and that these checks themselves find what is planted. Seconds.
set -u
cd "$(dirname "$0")/.."
passed=0 failed=0 skipped=0

add() { # takes over the counts of a "N passed, N failed, N skipped" line
        passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

out=$(python3 tools/check_rooms.py)
printf '%s\n' "$out" | sed '$d'
# shellcheck disable=SC2046
add $(printf '%s\n' "$out" | tail -n 1 | sed 's/[^0-9 ]//g')

if (cd tools && python3 -B check_rooms_test.py 2>&1); then add 1 0 0; else add 0 1 0; fi

for script in run.sh test.sh .ci/run $(find tools tests bench examples -name node_modules -prune -o -name "*.sh" -print 2>/dev/null); do
        shell=sh
        head -n 1 "$script" | grep -q bash && shell=bash
        if $shell -n "$script"; then add 1 0 0; else add 0 1 0; fi
done

# Headers are laid by hand, as tables. Every release of clang-format lays some lines differently: Debian 12's is it.
formatter=
for candidate in clang-format-14 clang-format; do
        if command -v $candidate >/dev/null 2>&1 && $candidate --version | grep -q 'version 14\.'; then
                formatter=$candidate
                break
        fi
done
if [ -z "$formatter" ]; then
        echo "SKIP: formatting, which needs clang-format 14"
        add 0 0 1
else
        for file in $(find src include tests bench examples -name node_modules -prune -o -name '*.c' -print 2>/dev/null | sort); do
                if $formatter --dry-run --Werror "$file" >/dev/null 2>&1; then
                        add 1 0 0
                else
                        echo "$file: not formatted, run $formatter -i on it"
                        add 0 1 0
                fi
        done
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
