#!/bin/sh
# Fuzzes what reads bytes of strangers and of disks, with clang's libFuzzer under ASan and UBSan.
#   tests/fuzz/fuzz.sh [SECONDS [TARGET...]]      10 seconds each, all targets
# A target is fuzz_<noun>.c beside this file; it links the highest room that it includes and what is below that. Inputs
# that once failed are kept in tests/fuzz/corpus/<target>/ and tried first; what is learnt stays in build-fuzz/corpus/.
set -u
cd "$(dirname "$0")/../.."
seconds=${1:-10}
[ $# = 0 ] || shift
build=build-fuzz
passed=0 failed=0

targets=$*
if [ -z "$targets" ]; then
        for file in tests/fuzz/fuzz_*.c; do targets="$targets $(basename "$file" .c)"; done
fi

sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
if [ ! -f $build/build.ninja ]; then
        CC=clang meson setup $build -Dtests=false -Dbuildtype=debugoptimized -Db_lundef=false \
                "-Dc_args=-fsanitize=fuzzer-no-link $sanitize" "-Dc_link_args=$sanitize" || exit 1
fi

room_of() { # the last line of ROOMS that the target includes from
        room=
        for candidate in $(sed -n 's/^\([a-z]*\):.*/\1/p' src/ROOMS); do
                if grep -q "^#include \"$candidate/" "tests/fuzz/$1.c"; then room=$candidate; fi
        done
        echo "$room"
}

# A room's library and those below it, as far as they exist; a target may say in a line `Links: ROOM...` which it needs,
# so that a highest room of little code does not cost the building of all.
libraries_of() {
        if grep -q '^ \* Links: ' "tests/fuzz/$2.c"; then
                for room in $(sed -n 's/^ \* Links: \([a-z ]*\).*/\1/p' "tests/fuzz/$2.c"); do echo "libnilo_$room.a"; done
                return
        fi
        below=$(sed -n "s/^$1:[[:space:]]*//p" src/ROOMS)
        for room in $1 $below; do
                if grep -q "^build libnilo_$room\.a:" $build/build.ninja; then echo "libnilo_$room.a"; fi
        done
}

packages=$(pkg-config --libs libuv libnghttp2 libprotobuf-c jansson yaml-0.1 libpcre2-8 libxxhash libssl libcrypto libcurl libargon2 raft)
for target in $targets; do
        libraries=$(libraries_of "$(room_of "$target")" "$target")
        # shellcheck disable=SC2086 # lists on purpose
        if ! ninja -C $build -j2 $libraries; then
                failed=$((failed + 1))
                continue
        fi
        archives=
        for library in $libraries; do archives="$archives $build/$library"; done
        # shellcheck disable=SC2086
        if ! clang -std=gnu17 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -fsanitize=fuzzer $sanitize -Isrc -Iinclude \
                -o "$build/$target" "tests/fuzz/$target.c" -Wl,--start-group $archives -Wl,--end-group \
                $packages -lhttp_parser -lm; then
                failed=$((failed + 1))
                continue
        fi
        mkdir -p "$build/corpus/$target"
        set -- "$build/corpus/$target"
        [ ! -d "tests/fuzz/corpus/$target" ] || set -- "$@" "tests/fuzz/corpus/$target"
        if "$build/$target" "-max_total_time=$seconds" -timeout=5 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 \
                "-artifact_prefix=$build/found-$target-" "$@"; then
                passed=$((passed + 1))
                echo "$target: nothing found in $seconds s"
        else
                failed=$((failed + 1))
                echo "$target: found something, see $build/found-$target-*"
        fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
