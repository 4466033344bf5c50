# Sourced by tests/sim/run.sh and tools/sim from the root of the tree: builds the simulator, names it in $sim.
build=${SIM_BUILD:-build-sim}
if [ ! -f "$build/build.ninja" ]; then
        meson setup "$build" -Dbuildtype=debugoptimized >/dev/null || exit 1
fi
ninja -C "$build" tests/sim tests/test_sim_history >"$build/sim.log" 2>&1 || {
        tail -n 40 "$build/sim.log"
        exit 1
}
sim=$build/tests/sim
