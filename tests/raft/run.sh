#!/bin/sh
# The engines of src/cluster under faults: the seeds that once failed; 3 000 seeds of all schedules, every 100th twice with equal
# hashes; then each guard off and each fault of our own side, killed within its budget of seeds. A budget is several times what the
# first kill takes on average; what needs longer is in docs/testing.md.
#   tests/raft/run.sh [SEEDS [FROM]]
set -u
cd "$(dirname "$0")/../.." || exit 1
seeds=${1:-3000} from=${2:-0}
. tests/raft/build.sh
passed=0 failed=0

verdict() { # COUNT STATUS
        if [ "$2" = 0 ]; then passed=$((passed + $1)); else failed=$((failed + 1)); fi
}

while read -r schedule seed story; do
        case $schedule in '' | '#'*) continue ;; esac
        echo "$schedule, seed $seed: $story"
        "$sim" --schedule "$schedule" --seeds 1 --from "$seed" --quiet
        verdict 1 $?
done <tests/raft/seeds

output=$("$sim" --seeds "$seeds" --from "$from" --replay-every 100)
echo "$output"
bad=$(echo "$output" | sed -n 's/^\([0-9]*\) of [0-9]* seeds failed$/\1/p')
if [ -z "$bad" ]; then
        failed=$((failed + 1))
else
        failed=$((failed + bad)) passed=$((passed + seeds - bad))
fi

# schedule:guards:budget
for off in harsh:0,1:50 harsh:1:1500 sole:2:50 harsh:3:50 harsh:5:50 harsh:6:3000 base:8:4000 grow:19:100; do
        guards=${off#*:}
        "$sim" --schedule "${off%%:*}" --guard-off "${guards%:*}" --seeds "${off##*:}" --until-killed --quiet
        verdict 1 $?
done
for mutant in elections:vote-not-durable:2000 elections:term-rolled-back:1000 base:persisted-at-issue:50 \
        everything:persisted-lazily:100 everything:synced-lost:100 stalls:persisted-truncated:2000 base:apply-past-stored:50 \
        base:read-without-probe:200 grow:grow-without-dam:1000 grow:grow-remembers-leader:600 grow:grow-old-voter-offers:800; do
        name=${mutant#*:}
        "$sim" --schedule "${mutant%%:*}" --mutant "${name%:*}" --seeds "${mutant##*:}" --until-killed --quiet
        verdict 1 $?
done

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
