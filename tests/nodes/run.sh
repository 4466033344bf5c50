#!/bin/sh
# Whole nodes in one simulated world: the seeds that once failed; 3 000 seeds, every 50th twice with equal hashes; some of each
# schedule that is aimed at something; and each mutant is killed within its budget of seeds.
#   tests/nodes/run.sh [SEEDS [FROM]]
set -u
cd "$(dirname "$0")/../.." || exit 1
seeds=${1:-3000} from=${2:-1}
. tests/sim/build.sh
passed=0 failed=0

verdict() { # COUNT STATUS
        if [ "$2" = 0 ]; then passed=$((passed + $1)); else failed=$((failed + 1)); fi
}

while read -r schedule seed story; do
        case $schedule in '' | '#'*) continue ;; esac
        echo "$schedule, seed $seed: $story"
        "$nodes" --schedule "$schedule" --seeds 1 --from "$seed" --quiet
        verdict 1 $?
done <tests/nodes/seeds

output=$("$nodes" --seeds "$seeds" --from "$from" --replay-every 50 --jobs 2)
echo "$output"
bad=$(echo "$output" | sed -n 's/^\([0-9]*\) of [0-9]* seeds failed$/\1/p')
if [ -z "$bad" ]; then
        failed=$((failed + 1))
else
        failed=$((failed + bad)) passed=$((passed + seeds - bad))
fi

for schedule in $("$nodes" --schedules | grep -v "^mix$"); do
        "$nodes" --schedule "$schedule" --seeds 60 --from "$from" --jobs 2 --quiet
        verdict 1 $?
done

# A mutant is a fault on order.
while read -r mutant schedule budget _; do
        case $mutant in '' | '#'*) continue ;; esac
        "$nodes" --schedule "$schedule" --mutant "$mutant" --seeds "$budget" --until-killed --quiet --jobs 2
        verdict 1 $?
done <tests/nodes/mutants

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
