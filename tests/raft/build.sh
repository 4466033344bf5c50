# Sourced by tests/raft/run.sh and tools/raft-sim from the root of the tree: builds the simulator, names it in $sim.
build=${SIM_BUILD:-build-sim}
if [ ! -f "$build/build.ninja" ]; then
        meson setup "$build" -Dbuildtype=debugoptimized >/dev/null || exit 1
fi
ninja -C "$build" tests/raft-sim >"$build/raft-sim.log" 2>&1 || {
        tail -n 40 "$build/raft-sim.log"
        exit 1
}
sim=$build/tests/raft-sim
