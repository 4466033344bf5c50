# Sourced by tests/sim/run.sh, tests/nodes/run.sh and tools/sim from the root of the tree: builds the simulators of one
# node and of several, names them in $sim and $nodes.
build=${SIM_BUILD:-build-sim}
if [ ! -f "$build/build.ninja" ]; then
        meson setup "$build" -Dbuildtype=debugoptimized >/dev/null || exit 1
fi
ninja -C "$build" tests/sim tests/nodes tests/test_sim_history >"$build/sim.log" 2>&1 || {
        tail -n 40 "$build/sim.log"
        exit 1
}
sim=$build/tests/sim
nodes=$build/tests/nodes
