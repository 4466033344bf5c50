#!/usr/bin/env python3
"""Turns the history of a git repository into events, one JSON object in each line, as `nilo import` takes them.

    git_history.py write [--repository DIRECTORY] [--output FILE]   the commits; with FILE only those it does not have yet
    git_history.py report                                           reads events from standard input, counts them

For each commit one event AreaChanged in the stream of each area of the tree that it touches, then one event
CommitAuthored in the stream of its author. Needs Python 3 and git, nothing else."""

import argparse
import collections
import io
import json
import os
import subprocess
import sys
import uuid

# Ids follow from commit and stream, so the same commit gives the same events wherever this runs.
NAMESPACE = uuid.UUID("5d3f6f0c-9d2b-4f57-8f3e-2f1f0f6f4d11")
BEGIN, FIELD = "\x01", "\x02"  # git leaves control characters out of names and dates; a subject is cut at them


def stream_of_author(name):
    return "author-" + ("-".join(name.lower().replace("/", " ").split()) or "unknown")


def area_of(path):
    """The first two directories: src/store/heads.c -> src/store; a file at the top -> "top"."""
    directories = path.strip('"').split("/")[:-1]
    return "/".join(directories[:2]) or "top"


def event(commit, stream, kind, data):
    return {
        "stream": stream,
        "type": kind,
        "id": str(uuid.uuid5(NAMESPACE, commit["commit"] + " " + stream)),
        "data": data,
        "metadata": {"$correlationId": commit["commit"]},
    }


def events_of(commit, changes):
    areas = collections.defaultdict(lambda: {"files": 0, "added": 0, "removed": 0})
    total = {"files": 0, "added": 0, "removed": 0}
    for added, removed, path in changes:
        for count in (areas[area_of(path)], total):
            count["files"] += 1
            count["added"] += added
            count["removed"] += removed
    for area, count in sorted(areas.items()):
        data = {"commit": commit["commit"], "author": commit["author"], "subject": commit["subject"], "area": area, **count}
        yield event(commit, "area-" + area, "AreaChanged", data)
    # Last, since a file that ends with it has the whole commit: a later run goes on behind it.
    yield event(commit, stream_of_author(commit["author"]), "CommitAuthored", {**commit, **total})


def commits(repository, behind):
    """Oldest first: (commit, changes). `behind`: only what its history does not have."""
    command = ["git", "-C", repository, "-c", "log.showSignature=false", "-c", "core.quotePath=false", "log", "--reverse", "--topo-order", "--no-renames", "--numstat",
               "--format=" + BEGIN + FIELD.join(["%H", "%P", "%aN", "%aI", "%s"]), behind + "..HEAD" if behind else "HEAD"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as git:
        commit, changes = None, []
        # A subject may hold a carriage return, which ends no line.
        for line in io.TextIOWrapper(git.stdout, encoding="utf-8", errors="replace", newline="\n"):
            line = line.rstrip("\n")
            if line.startswith(BEGIN):
                if commit:
                    yield commit, changes
                name, parents, author, date, subject = line[1:].split(FIELD)[:5]
                commit = {"commit": name, "parents": parents.split(), "author": author, "date": date, "subject": subject}
                changes = []
            elif line:
                added, removed, path = line.split("\t", 2)
                changes.append((int(added) if added != "-" else 0, int(removed) if removed != "-" else 0, path))
        if commit:
            yield commit, changes
    if git.returncode:
        sys.exit("git log failed" + (": is %s, the newest commit of the output, still there?" % behind if behind else ""))


def whole_commits(file):
    """Cuts the file behind its newest whole commit; gives that commit's name, or None, and the names of all."""
    commit, end, names = None, 0, set()
    file.seek(0)
    while line := file.readline():
        if line.endswith(b"\n") and b'"type": "CommitAuthored"' in line:
            commit, end = json.loads(line)["data"]["commit"], file.tell()
            names.add(commit)
    file.seek(end)
    file.truncate()
    return commit, names


def write(repository, output):
    file, behind, known = sys.stdout.buffer, None, set()
    if output:
        file = os.fdopen(os.open(output, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        behind, known = whole_commits(file)
    commit_count = event_count = 0
    for commit, changes in commits(repository, behind):
        if commit["commit"] in known:  # a branch beside the newest one, when the file ends within a merge
            continue
        for e in events_of(commit, changes):
            file.write(json.dumps(e, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            event_count += 1
        commit_count += 1
    file.flush()
    print("%d commits, %d events" % (commit_count, event_count), file=sys.stderr)


def report():
    authors, areas = collections.Counter(), collections.Counter()
    for line in sys.stdin:
        e = json.loads(line)
        if e["type"] == "CommitAuthored":
            authors[e["data"]["author"]] += 1
        elif e["type"] == "AreaChanged":
            areas[e["data"]["area"]] += 1
    for title, counts in (("commits by author", authors), ("commits by area", areas)):
        print(title)
        for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            print("%8d  %s" % (n, name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("--repository", default=".")
    writing.add_argument("--output")
    verbs.add_parser("report")
    arguments = parser.parse_args()
    if arguments.verb == "report":
        report()
    else:
        write(arguments.repository, arguments.output)


if __name__ == "__main__":
    main()
