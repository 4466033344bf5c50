#!/bin/bash
# Every test of the project, from a bare machine: installs what is missing, builds, runs the table at the end of this
# file in order. What each suite holds: docs/testing.md.
#   ./test.sh                 everything
#   ./test.sh NAME...         these suites only
#   ./test.sh --list          their names
# The last line is `N passed, N failed, N skipped`; the exit code is 0 only if nothing failed.
set -u
cd "$(dirname "$0")" || exit 1
exec </dev/null

wanted=" $* "
logs=build/logs
passed=0 failed=0 skipped=0
broken=()
began=$SECONDS

# suite NAME SECONDS COMMAND...: runs COMMAND for at most SECONDS. Its last line must be `N passed, N failed, N skipped`,
# so that a suite which ran nothing cannot look green; lines that begin with SKIP: are shown.
suite() {
        local name=$1 seconds=$2 log=$logs/$1.log start=$SECONDS code counts verdict=ok
        shift 2
        case $wanted in
        *" --list "*) echo "$name"; return ;;
        "  " | *" $name "*) ;;
        *) return ;;
        esac
        timeout --kill-after=10 "$seconds" "$@" >"$log" 2>&1
        code=$?
        counts=$(tail -n 1 "$log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
        if [ -z "$counts" ]; then
                [ $code != 124 ] || echo "$name: not finished within $seconds s" | tee -a "$log"
                [ $code != 0 ] || echo "$name: ended without saying what it ran" | tee -a "$log"
                counts="0 1 0"
        fi
        # shellcheck disable=SC2086
        set -- $counts
        [ $code = 0 ] || [ "$2" != 0 ] || set -- "$1" 1 "$3"
        passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
        [ "$2" = 0 ] || { verdict=FAILED; broken+=("$name"); }
        printf '%-16s %-7s %5d passed %3d failed %3d skipped %5d s\n' "$name" $verdict "$1" "$2" "$3" $((SECONDS - start))
        grep '^SKIP:' "$log" | sed "s/^/    $name: /"
        if [ "$2" != 0 ]; then
                echo "---- $log, the end of it"
                tail -n 200 "$log"
                echo "----"
        fi
}

if [[ $wanted != *" --list "* ]]; then
        tools/setup.sh test || exit 1
        mkdir -p "$logs"
fi

# ---- the table: name, limit in seconds, command ----
# Sanitizers make gcc warn of what is not there, so `unit` and `clang` hold the warnings. What is
# compiled to be run once is compiled fast.
suite check          120 tools/check.sh
suite unit           600 tools/unit.py build -Dbuildtype=debugoptimized -Dwerror=true
suite unit-asan      600 tools/unit.py build-asan -Doptimization=1 -Dc_args=-g1 -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false
suite unit-tsan      600 tools/unit.py build-tsan --with-threads -Doptimization=1 -Dc_args=-g1 -Db_sanitize=thread -Db_lundef=false -Dwerror=false
suite clang          400 env CC=clang tools/unit.py build-clang --build-only -Doptimization=0 -Ddebug=false -Dwerror=true
suite fuzz           300 tests/fuzz/fuzz.sh 6
suite crash-checker   60 tests/lib/node_suite.sh tests/crash/check.test.mjs
suite sim            300 env SIM_BUILD=build tests/sim/run.sh
suite raft           500 env SIM_BUILD=build tests/raft/run.sh
suite nodes          600 env SIM_BUILD=build tests/nodes/run.sh
suite tls-scan       420 tests/security/tls.sh build/nilo
suite interop        400 tests/interop/run.sh
suite clients        400 tests/clients/run.py build/nilo
suite service         60 tests/security/service.py build/nilo
suite http-conformance 120 tests/security/http.sh build/nilo
suite canary          60 tests/security/canary.py build/nilo
suite siege          150 tests/security/siege.py build/nilo
suite cli            480 tests/cli/run.sh
suite examples       120 tests/examples/run.sh
suite crash          360 tests/crash/run.sh crash --cycles 200 --seconds 240
suite cluster        400 tests/cluster/run.sh
suite orderly        180 tests/crash/run.sh orderly --cycles 100
# ---- end of the table ----

[[ $wanted != *" --list "* ]] || exit 0
echo
printf 'total %d s' $((SECONDS - began))
[ ${#broken[@]} = 0 ] || printf ', failed: %s' "${broken[*]}"
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
