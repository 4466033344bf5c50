#!/usr/bin/env python3
"""Builds one flavour of the tree and runs its unit tests, counting cmocka's cases.

    tools/unit.py BUILD_DIRECTORY [--build-only] [--with-threads] [--exclude PROGRAM]... [meson setup options]

With --with-threads only those programs are run that can have more than one thread: they link the real machine with its lanes, or make
threads themselves. The others run in the simulated machine, on one thread, where there is nothing to race with.

The environment's CC chooses the compiler. Prints failing programs' output and `N passed, N failed, N skipped`."""

import json
import os
import re
import subprocess
import sys

PASSED = re.compile(r"^\[  PASSED  \] (\d+) test", re.MULTILINE)
FAILED = re.compile(r"^\[  FAILED  \] (\d+) test", re.MULTILINE)
SKIPPED = re.compile(r"^\[  SKIPPED \] (\d+) test", re.MULTILINE)


def count(pattern, text):
    return sum(int(n) for n in pattern.findall(text))


def run(command):
    print("+ " + " ".join(command), flush=True)
    return subprocess.run(command, stdin=subprocess.DEVNULL).returncode


def finish(passed, failed, skipped):
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 0)


def configure(build, options):
    command = ["meson", "setup", build] + options
    if os.path.exists(os.path.join(build, "build.ninja")):
        command.insert(2, "--reconfigure")
    return run(command)


THREADS = re.compile(r" T os_real_new$| U (?:pthread_create|uv_thread_create)", re.MULTILINE)


def has_threads(program):
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    return THREADS.search(symbols) is not None


def tests_of(build, excluded, with_threads):
    listed = subprocess.run(["meson", "introspect", build, "--tests"], capture_output=True, text=True, check=True)
    tests = [t for t in json.loads(listed.stdout) if os.path.basename(t["cmd"][0]) not in excluded]
    chosen = [t for t in tests if not with_threads or has_threads(t["cmd"][0])]
    print("%d of %d programs" % (len(chosen), len(tests)))
    return [t["name"] for t in chosen]


def results(build):
    """One row per test program: (name, result, output)."""
    with open(os.path.join(build, "meson-logs", "testlog.json"), encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["name"], row["result"], (row.get("stdout") or "") + (row.get("stderr") or "")


def main():
    arguments = sys.argv[1:]
    build = arguments.pop(0)
    build_only = "--build-only" in arguments
    with_threads = "--with-threads" in arguments
    excluded = {arguments[i + 1] for i, a in enumerate(arguments) if a == "--exclude"}
    options = [a for i, a in enumerate(arguments)
               if a not in ("--build-only", "--with-threads", "--exclude") and (i == 0 or arguments[i - 1] != "--exclude")]

    # Two at a time: more would only make time-outs on a small machine.
    if configure(build, options) or run(["ninja", "-C", build, "-j2"]):
        finish(0, 1, 0)
    if build_only:
        finish(1, 0, 0)
    names = tests_of(build, excluded, with_threads)
    log = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    run(["meson", "test", "-C", build, "--no-rebuild", "--num-processes", "2", "--quiet"] + names)

    passed = failed = skipped = programs = 0
    for name, result, output in results(build):
        programs += 1
        passed += count(PASSED, output)
        skipped += count(SKIPPED, output)
        if result == "SKIP":
            print("SKIP: the whole of %s" % name)
            skipped += 1
        elif result not in ("OK", "EXPECTEDFAIL"):
            # A crash, a time-out or a sanitizer's finding ends a program before cmocka counts.
            failed += max(1, count(FAILED, output))
            print("==== %s: %s\n%s" % (name, result, output))
        elif not PASSED.search(output):
            passed += 1  # a program of another kind: it counts once
    if programs < len(names):
        print("%d of %d test programs ran" % (programs, len(names)))
        failed += len(names) - programs
    finish(passed, failed, skipped)


if __name__ == "__main__":
    main()
