#!/usr/bin/env python3
"""Holds what a machine can hold of STYLE.md: directions between rooms, contracts, lengths, forbidden calls and words.

    tools/check_rooms.py            check this tree
    tools/check_rooms.py DIR        check another tree (its own test uses this)

One line per finding, then `N passed, N failed, N skipped`; a check is one rule on one file."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

VOCABULARY = ("base", "model")  # every header of these rooms is public
HARNESS_HEADERS = {"os/os_sim.h"}  # the simulated machine: for tests, not for rooms
PUBLIC_INCLUDE_ROOMS = {"client", "cli", "embed"}  # may include <nilo/...>, the headers that people get
C_LINES_MAX = 1200
CONTRACT_LINES_MAX = 300
RATCHET = "tools/long_files.txt"

# What only some rooms may call. Everything else goes through os.h, memory.h and facts, so that the simulator and the
# countdown tests can take it. client has no os.h; embed blocks its callers' threads, not the loop.
# (name, pattern, rooms that may, why)
FORBIDDEN_CALLS = (
    ("clock", r"time|gettimeofday|clock_gettime|ftime|localtime|ctime", {"os", "cli", "client", "embed"},
     "the clock comes from os.h"),
    ("chance", r"rand|srand|random|srandom|rand_r|drand48|getrandom|getentropy|RAND_bytes", {"os", "client"},
     "chance comes from os.h"),
    ("disk", r"open|openat|creat|read|write|pread|pwrite|readv|writev|preadv|preadv2|pwritev|pwritev2|fsync|fdatasync|sync_file_range|"
     r"fallocate|posix_fallocate|ftruncate|truncate|rename|renameat|unlink|unlinkat|mkdir|rmdir|opendir|mmap|munmap|"
     r"fopen|fread|fwrite|fclose|flock|stat|fstat|lseek", {"os", "cli", "server"}, "files go through os.h"),
    ("net", r"socket|bind|listen|accept|accept4|connect|send|recv|sendto|recvfrom|sendmsg|recvmsg|poll|epoll_wait|"
     r"select|getaddrinfo", {"os", "cli"}, "sockets go through os.h"),
    ("wait", r"sleep|usleep|nanosleep|clock_nanosleep", {"os", "cli", "client"}, "timers come from os.h"),
    ("print", r"printf|vprintf|puts|putchar|fprintf|vfprintf|fputs|fputc|putc|perror|syslog|dprintf", {"cli", "server"},
     "business code publishes facts"),
    ("memory", r"malloc|calloc|realloc|reallocarray|strdup|strndup|asprintf|vasprintf", set(), "memory comes from memory.h"),
    ("unbounded", r"gets|strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atoll|alloca|system|popen", set(),
     "no bound, no error, or a shell"),
)
# Files whose duty is the call itself, or that cannot go through os.h. path: rules that do not hold there.
CALL_EXEMPT = {
    "src/base/memory.c": {"memory"},
    "src/base/fault.c": {"print", "disk"},
    "src/control/logger.c": {"disk", "net"},  # its duty is a descriptor that must never make the loop wait
    "src/base/bytes.c": {"memory"},  # sizes from strangers: a refusal is an answer there
}

# Split so that this file does not find itself.
FORBIDDEN_WORDS = (
    ("unfinished work", r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b"),
    ("a path of one machine", r"(?<![\w.])/(?:wo" r"rk|ro" r"ot|ho" r"me)/\w"),
    ("a registry's host", r"registry\.np" r"mjs|deb\.deb" r"ian\.org|py" r"pi\.org|cra" r"tes\.io|npmjs\.c" r"om"),
)
TEXT_ROOTS = ("src", "include", "tests", "tools", "docs", "examples", "bench", "proto", ".ci")
TEXT_ENDINGS = (".c", ".h", ".def", ".build", ".py", ".mjs", ".js", ".sh", ".md", ".proto", ".json", ".txt", ".html", ".css",
                ".yaml", ".yml", ".service", "ROOMS", "run", "setup")
SKIPPED_DIRECTORIES = {"node_modules", ".git", "__pycache__", "corpus"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


class Findings:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def result(self, problems):
        if problems:
            self.failed += 1
            for problem in problems:
                print(problem)
        else:
            self.passed += 1


def files_below(root, top, endings):
    for directory, names, files in os.walk(os.path.join(root, top)):
        names[:] = sorted(n for n in names if n not in SKIPPED_DIRECTORIES)
        for name in sorted(files):
            if name.endswith(endings):
                yield os.path.relpath(os.path.join(directory, name), root)


def text_of(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def read_rooms(root):
    rooms = {}
    for line in text_of(root, "src/ROOMS").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, below = line.partition(":")
            rooms[name.strip()] = below.split()
    return rooms


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def bare(text):
    """The code without comments and strings; line numbers stay."""
    return COMMENT_OR_STRING.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


# ---- directions ----

def check_direction(rooms, findings):
    """The drawing itself: a room names only rooms above its line, so there is no circle."""
    seen = set()
    for room, below in rooms.items():
        findings.result(["src/ROOMS: %s may include %s, which is not above it" % (room, b) for b in below if b not in seen])
        seen.add(room)


def include_problem(rooms, room, target, may, where):
    """Why a file of `room` may not include "other/header.h", or None."""
    other, _, header = target.partition("/")
    if other == room or "/" not in target:
        return None
    if other == "nilo":
        return None if room in PUBLIC_INCLUDE_ROOMS else "only client, cli and embed use the public headers"
    if other not in rooms:
        return "no such room"
    if other not in may:
        return "src/ROOMS does not let %s include %s" % (where, other)
    if other in VOCABULARY or header == other + ".h":
        return None
    if header.endswith(".def"):
        return "a table is reached through its room's header"
    return "private to %s: its contract is %s/%s.h" % (other, other, other)


def check_includes(root, rooms, findings):
    for path in files_below(root, "src", (".c", ".h", ".def")):
        parts = path.split(os.sep)
        room = parts[1] if len(parts) > 2 else None  # src/main.c wires rooms and belongs to none
        if room is not None and room not in rooms:
            findings.result(["%s: the folder %s is not in src/ROOMS" % (path, room)])
            continue
        may = rooms[room] if room else list(rooms)
        text, problems = text_of(root, path), []
        for match in INCLUDE.finditer(text):
            quote, target = match.groups()
            where = "%s:%d: " % (path, line_of(text, match.start()))
            if quote == '"':
                why = include_problem(rooms, room, target, may, room or "main")
            elif target.startswith("nilo/"):
                why = include_problem(rooms, room, target, may, room or "main")
            else:
                why = None
            if why:
                problems.append('%s"%s": %s' % (where, target, why))
        findings.result(problems)


def check_test_includes(root, rooms, findings):
    """A room's tests see that room and what is below it; api_* see the contract only."""
    for path in files_below(root, os.path.join("tests", "rooms"), (".c", ".h")):
        room = path.split(os.sep)[2]
        if room not in rooms:
            findings.result(["%s: the folder %s is not in src/ROOMS" % (path, room)])
            continue
        text, problems = text_of(root, path), []
        for match in INCLUDE.finditer(text):
            quote, target = match.groups()
            if quote != '"' or "/" not in target or target in HARNESS_HEADERS or target.startswith("nilo/"):
                continue
            why = include_problem(rooms, room, target, rooms[room], "tests of " + room)
            contract_only = os.path.basename(path).startswith("api_") and room not in VOCABULARY
            if contract_only and target.startswith(room + "/") and target != "%s/%s.h" % (room, room):
                why = "api_ tests use the contract only"
            if why:
                problems.append('%s:%d: "%s": %s' % (path, line_of(text, match.start()), target, why))
        findings.result(problems)


# ---- contracts ----

def contracts(root, rooms):
    for room in rooms:
        for path in files_below(root, os.path.join("src", room), (".h",)):
            if room in VOCABULARY or os.path.basename(path) == room + ".h" or path[4:] in HARNESS_HEADERS:
                yield path
    yield from files_below(root, "include", (".h",))


def check_contracts_compile(root, rooms, findings):
    compilers = [["cc", "-x", "c", "-std=gnu17"]]

    def compile_alone(job):
        path, command = job
        run = subprocess.run(
            command + ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-Isrc", "-Iinclude", "-include",
                       path, os.devnull], cwd=root, capture_output=True, text=True)
        return ["%s does not compile alone as %s:\n%s" % (path, command[2], run.stderr)] if run.returncode else []

    jobs = []
    for path in contracts(root, rooms):
        jobs += [(path, command) for command in compilers]
        if path.startswith("include"):
            jobs.append((path, ["c++", "-x", "c++", "-std=c++17"]))
    with ThreadPoolExecutor(2) as pool:
        for problems in pool.map(compile_alone, jobs):
            findings.result(problems)


# ---- lengths ----

def check_lengths(root, rooms, findings):
    allowed, problems = {}, []
    if os.path.exists(os.path.join(root, RATCHET)):
        for number, line in enumerate(text_of(root, RATCHET).splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = re.match(r"(\S+)\s+(\d+)\s+(\S.*)$", line)
            if match:
                allowed[match[1]] = int(match[2])
            else:
                problems.append("%s:%d: not `path lines reason`" % (RATCHET, number))
    contract_paths = set(contracts(root, rooms))
    lengths = {}
    for path in list(files_below(root, "src", (".c", ".h"))) + list(files_below(root, "include", (".h",))):
        limit = CONTRACT_LINES_MAX if path in contract_paths else C_LINES_MAX
        lengths[path] = (text_of(root, path).count("\n"), limit)
    for path, (lines, limit) in lengths.items():
        if lines > allowed.get(path, limit):
            findings.result(["%s: %d lines, at most %d: split it, or give the reason in %s" %
                             (path, lines, allowed.get(path, limit), RATCHET)])
        else:
            findings.result([])
    for path in allowed:
        if path not in lengths or lengths[path][0] <= lengths[path][1]:
            problems.append("%s: %s is short enough now, remove its line" % (RATCHET, path))
    findings.result(problems)


# ---- calls and words ----

def check_calls(root, findings):
    # Not a member (a.open, a->open) and not part of a longer name; a declaration of an own function has a longer name.
    rules = [(name, re.compile(r"(?<![\w.>])(?:%s)\s*\(" % pattern), rooms, why) for name, pattern, rooms, why in FORBIDDEN_CALLS]
    for path in files_below(root, "src", (".c", ".h")):
        parts = path.split(os.sep)
        room = parts[1] if len(parts) > 2 else "server"
        code, problems = None, []
        for name, pattern, rooms, why in rules:
            if room in rooms or name in CALL_EXEMPT.get(path.replace(os.sep, "/"), ()):
                continue
            code = bare(text_of(root, path)) if code is None else code
            for match in pattern.finditer(code):
                problems.append("%s:%d: %s) is not for %s: %s" %
                                (path, line_of(code, match.start()), match.group().strip(), room, why))
        findings.result(problems)


def check_words(root, findings):
    rules = [(what, re.compile(pattern)) for what, pattern in FORBIDDEN_WORDS]
    paths = [p for top in TEXT_ROOTS for p in files_below(root, top, TEXT_ENDINGS)]
    paths += sorted(n for n in os.listdir(root)
                    if os.path.isfile(os.path.join(root, n)) and n.endswith(TEXT_ENDINGS + ("LICENSE", "NOTICE")))
    for path in paths:
        text, problems = text_of(root, path), []
        for what, pattern in rules:
            for match in pattern.finditer(text):
                problems.append("%s:%d: %s: %s" % (path, line_of(text, match.start()), match.group(), what))
        findings.result(problems)


def check(root):
    findings = Findings()
    rooms = read_rooms(root)
    check_direction(rooms, findings)
    check_includes(root, rooms, findings)
    check_test_includes(root, rooms, findings)
    check_contracts_compile(root, rooms, findings)
    check_lengths(root, rooms, findings)
    check_calls(root, findings)
    check_words(root, findings)
    return findings


def main():
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    findings = check(root)
    print("%d passed, %d failed, %d skipped" % (findings.passed, findings.failed, findings.skipped))
    sys.exit(1 if findings.failed else 0)


if __name__ == "__main__":
    main()
