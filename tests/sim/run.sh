#!/bin/sh
# The store on the simulated machine: the checker of histories finds what is planted; the seeds that once failed; 1 000
# seeds, every 50th twice with equal hashes; then its subscriptions, with half as many seeds; and each mutant is killed
# within its budget of seeds.
#   tests/sim/run.sh [SEEDS [FROM]]
set -u
cd "$(dirname "$0")/../.." || exit 1
seeds=${1:-1000} from=${2:-0}
. tests/sim/build.sh
passed=0 failed=0

verdict() { # COUNT STATUS
        if [ "$2" = 0 ]; then passed=$((passed + $1)); else failed=$((failed + 1)); fi
}

"$build/tests/test_sim_history"
verdict 1 $?

while read -r seed story; do
        case $seed in '' | '#'*) continue ;; esac
        echo "seed $seed: $story"
        "$sim" --seeds 1 --from "$seed" --quiet
        verdict 1 $?
done <tests/sim/seeds

run() { # SEEDS FROM [OPTION]...: these seeds, and what came of them
        count=$1 first=$2
        shift 2
        output=$("$sim" "$@" --seeds "$count" --from "$first" --replay-every 50)
        echo "$output"
        bad=$(echo "$output" | sed -n 's/^\([0-9]*\) of [0-9]* seeds failed$/\1/p')
        if [ -z "$bad" ]; then
                failed=$((failed + 1))
        else
                failed=$((failed + bad)) passed=$((passed + count - bad))
        fi
}
run "$seeds" "$from"
run $((seeds / 2 + 1)) "$from" --subscriptions

# A mutant is a fault on order, in the store, the emitter or the notification. The budget is several times what the first
# kill took.
for mutant in skip-sync:20 ack-before-sync:20 skip-crc:60; do
        "$sim" --mutant "${mutant%:*}" --seeds "${mutant#*:}" --until-killed --quiet
        verdict 1 $?
done
for mutant in checkpoint-before-ack:20 checkpoint-before-parked:300 live-gap:20; do
        "$sim" --subscriptions --mutant "${mutant%:*}" --seeds "${mutant#*:}" --until-killed --quiet
        verdict 1 $?
done

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
