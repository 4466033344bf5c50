#!/usr/bin/env python3
"""Running as a service: what the process may do on the machine, what it tells the service manager, the unit file.

    tests/security/service.py [NILO]

Its last line is `N passed, N failed, N skipped`."""

import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NILO = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TREE, "build", "nilo"))
UNIT = os.path.join(TREE, "packaging", "nilo.service")
SECONDS_MAX = 20
EXPOSURE_MAX = 15  # tenths, as `systemd-analyze security --threshold` takes it
CONFIGURATION = 64  # exit code

counts = {"passed": 0, "failed": 0, "skipped": 0}


def result(name, problem=None):
    counts["failed" if problem else "passed"] += 1
    print(f"{'FAILED' if problem else 'ok'}: {name}" + (f": {problem}" if problem else ""))


def skip(name, why):
    counts["skipped"] += 1
    print(f"SKIP: {name}: {why}")


def expect(name, is_so, otherwise):
    result(name, None if is_so else otherwise)


class Server:
    """A server in a directory of its own, which tells this test its states as it would tell systemd."""

    def __init__(self, directory, *flags):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.socket.settimeout(SECONDS_MAX)
        self.process = subprocess.Popen([NILO, "--port", "0", "--json", *flags], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, cwd=directory, text=True,
                                        env={**os.environ, "NOTIFY_SOCKET": self.path})

    def state(self):
        try:
            return self.socket.recv(4096).decode()
        except socket.timeout:
            return ""

    def status(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.communicate()
        finally:
            self.socket.close()
            os.unlink(self.path)


def modes_below(directory):
    for where, directories, files in os.walk(directory):
        for name in directories + files:
            path = os.path.join(where, name)
            yield path, stat.S_IMODE(os.lstat(path).st_mode)


def test_states(directory):
    server = Server(directory, "--data", os.path.join(directory, "states"))
    ready = server.state()
    expect("systemd is told when the server is ready", "READY=1" in ready.split("\n"), f"it was told {ready!r}")
    server.process.send_signal(signal.SIGTERM)
    stopping = server.state()
    expect("and when it stops", "STOPPING=1" in stopping.split("\n"), f"it was told {stopping!r}")
    server.stop()
    expect("and the stop is orderly", server.process.returncode == 0, f"exit code {server.process.returncode}")
    wide = [f"{path} {mode:o}" for path, mode in modes_below(os.path.join(directory, "states")) if mode & 0o077]
    expect("what is stored is for its owner only", not wide, ", ".join(wide))


def test_rights(directory, user, *flags):
    data = os.path.join(directory, f"rights-{user or 'self'}")
    server = Server(directory, "--data", data, *(["--user", user] if user else []), *flags)
    server.state()
    who = user or "nobody else"
    status = server.status() if server.process.poll() is None else {}
    server_said = server.stop()[1]
    if not status:
        result(f"the server runs as {who}", server_said)
        return
    uid = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    expect(f"as {who}: its user", set(status["Uid"].split()) == {str(uid)}, status["Uid"])
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        expect(f"as {who}: {name} is empty", int(status[name], 16) == 0, status[name])
    if os.geteuid() == 0:
        expect(f"as {who}: CapBnd is empty", int(status["CapBnd"], 16) == 0, status["CapBnd"])
    expect(f"as {who}: no new privileges", status["NoNewPrivs"] == "1", status["NoNewPrivs"])
    expect(f"as {who}: umask", status["Umask"] == "0077", status["Umask"])
    if user:
        expect(f"as {who}: no groups of root", not status["Groups"].strip(), status["Groups"])
        expect(f"as {who}: the data are its own", os.stat(data).st_uid == uid, str(os.stat(data).st_uid))


def test_refusals(directory):
    server = Server(directory, "--memory-only", "--user", "no-such-user-here")
    said = server.process.communicate(timeout=SECONDS_MAX)[1]
    server.stop()
    expect("a user that does not exist is refused", server.process.returncode == CONFIGURATION and "no such user" in said,
           f"{server.process.returncode}: {said}")
    if os.geteuid() != 0:
        return
    data = os.path.join(directory, "of-root")
    os.mkdir(data)
    server = Server(directory, "--data", data, "--user", "nobody")
    said = server.process.communicate(timeout=SECONDS_MAX)[1]
    server.stop()
    expect("data of another user are refused, with the way out",
           server.process.returncode == CONFIGURATION and "chown" in said, f"{server.process.returncode}: {said}")


def test_unit():
    with open(UNIT, encoding="ascii") as file:
        text = file.read()
    options = subprocess.run([NILO, "--help"], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"^Environment=NILO_([A-Z_]+)=", text, re.MULTILINE):
        flag = "--" + name.lower().replace("_", "-")
        expect(f"the unit's NILO_{name} is an option", flag in options, f"the server knows no {flag}")
    if not shutil.which("systemd-analyze"):
        skip("the unit's exposure", "this machine has no systemd-analyze")
        return
    run = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", UNIT],
                         capture_output=True, text=True, check=False)
    said = (run.stdout + run.stderr).strip().split("\n")[-1]
    expect(f"the unit's exposure is at most {EXPOSURE_MAX / 10}", run.returncode == 0, said)
    print(said)


def main():
    # Not below a directory that only root may enter: the other user must reach its data.
    with tempfile.TemporaryDirectory(prefix="nilo-service-") as directory:
        os.chmod(directory, 0o711)
        began = time.monotonic()
        test_unit()
        test_states(directory)
        test_rights(directory, None)
        if os.geteuid() == 0:
            test_rights(directory, "nobody")
        else:
            skip("running as another user", "only root can become one")
        test_refusals(directory)
        print(f"{time.monotonic() - began:.1f} s")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


sys.exit(main())
