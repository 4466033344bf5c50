#!/usr/bin/env python3
"""KurrentDB's clients of other languages, as their registries have them, against a server with TLS and users.

    tests/clients/run.py [path/to/nilo] [python] [java] [go]

Each language's program says "ok ..." for what has passed; how many that must be stands below. A language whose tools are not on this
machine, or whose packages cannot be had now, is skipped, and that is said. What is installed goes below build/clients.

Beside that the example of the language in docs/clients.md is run as it stands there, against a server on loopback without either.

Its last line is `N passed, N failed, N skipped`."""

import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(TREE, "build", "clients")
NILO = os.path.abspath(next((a for a in sys.argv[1:] if "/" in a), os.path.join(TREE, "build", "nilo")))
PREPARE_SECONDS, RUN_SECONDS, GO_BUILD_SECONDS = 150, 60, 900

counts = {"passed": 0, "failed": 0, "skipped": 0}


class Skip(Exception):
    """Why a language cannot be tried here."""


def tool(name):
    path = shutil.which(name)
    if not path:
        raise Skip(f"this machine has no {name}")
    return path


def run(command, seconds, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False, **options)


def prepare(command, **options):
    """What fetches packages: where it fails, the registry does not answer."""
    try:
        done = run(command, PREPARE_SECONDS, **options)
    except subprocess.TimeoutExpired:
        raise Skip(f"not ready within {PREPARE_SECONDS} s: {' '.join(command[:3])}") from None
    if done.returncode:
        raise Skip(f"{' '.join(command[:3])}: " + done.stdout.strip().split("\n")[-1][:300])
    return done.stdout


def python():
    directory = os.path.join(BUILD, "python")
    program = os.path.join(directory, "bin", "python")
    requirements = os.path.join(HERE, "python", "requirements.txt")
    if not os.path.exists(program):
        prepare([sys.executable, "-m", "venv", directory])
    prepare([program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements])
    return [program, os.path.join(HERE, "python", "scenario.py")], 6


def go():
    program = os.path.join(BUILD, "go-scenario")
    source = os.path.join(BUILD, "go")
    shutil.copytree(os.path.join(HERE, "go"), source, dirs_exist_ok=True)
    prepare([tool("go"), "mod", "tidy"], cwd=source)
    done = run([tool("go"), "build", "-o", program, "."], GO_BUILD_SECONDS, cwd=source)
    if done.returncode:
        raise AssertionError("it does not build: " + done.stdout[-2000:])
    return [program], 7


def java():
    source = os.path.join(BUILD, "java")
    shutil.copytree(os.path.join(HERE, "java"), source, dirs_exist_ok=True)
    prepare([tool("mvn"), "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile=classpath"], cwd=source)
    with open(os.path.join(source, "classpath"), encoding="utf-8") as file:
        classpath = file.read().strip()
    classes = os.path.join(source, "classes")
    done = run([tool("javac"), "-cp", classpath, "-d", classes, "src/main/java/Scenario.java"], PREPARE_SECONDS, cwd=source)
    if done.returncode:
        raise AssertionError("it does not build: " + done.stdout[-2000:])
    return [tool("java"), "-cp", f"{classes}:{classpath}", "Scenario"], 6


LANGUAGES = {"python": python, "java": java, "go": go}
# To build the client for Go and what it needs takes minutes of processor time, so it is for whoever names it.
DEFAULT = ["python", "java"]


# ---- the examples of the documentation ----


def example(kind, port):
    with open(os.path.join(TREE, "docs", "clients.md"), encoding="utf-8") as file:
        blocks = re.findall(rf"^```{kind}\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        raise AssertionError(f"docs/clients.md has {len(blocks)} examples in {kind}")
    if "localhost:2113" not in blocks[0]:
        raise AssertionError("the example has no connection string")
    return blocks[0].replace("localhost:2113", f"localhost:{port}")


def written(directory, name, text):
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def node_example(port):
    modules = os.path.join(TREE, "tests", "interop", "node_modules")
    if not os.path.isdir(modules):
        raise Skip("the suite interop, which installs the client, has not run")
    directory = os.path.join(BUILD, "node")
    program = written(directory, "example.mjs", example("js", port))
    if not os.path.lexists(os.path.join(directory, "node_modules")):
        os.symlink(modules, os.path.join(directory, "node_modules"))
    return [tool("node"), program]


def python_example(port):
    program, _ = python()[0]
    return [program, written(os.path.join(BUILD, "python-example"), "example.py", example("python", port))]


def go_example(port):
    go()
    source = os.path.join(BUILD, "go-example")
    written(source, "main.go", example("go", port))
    for name in ("go.mod", "go.sum"):
        shutil.copy(os.path.join(BUILD, "go", name), source)
    prepare([tool("go"), "mod", "tidy"], cwd=source)
    return [tool("go"), "run", "-C", source, "."]


def java_example(port):
    _, _, classpath, _ = java()[0]
    source = os.path.join(BUILD, "java-example")
    path = written(source, "Invoices.java", example("java", port))
    done = run([tool("javac"), "-cp", classpath, "-d", source, path], PREPARE_SECONDS)
    if done.returncode:
        raise AssertionError("it does not build: " + done.stdout[-2000:])
    return [tool("java"), "-cp", f"{source}:{classpath}", "Invoices"]


EXAMPLES = {"node": node_example, "python": python_example, "go": go_example, "java": java_example}


def try_example(name, port):
    try:
        done = run(EXAMPLES[name](port), RUN_SECONDS)
        if done.returncode or "InvoiceSent" not in done.stdout:
            raise AssertionError(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
    except Skip as why:
        counts["skipped"] += 1
        print(f"SKIP: {name}, example: {why}")
        return
    except (AssertionError, subprocess.TimeoutExpired) as problem:
        counts["failed"] += 1
        print(f"FAILED: {name}, example: {problem}")
        return
    counts["passed"] += 1
    print(f"ok: {name}: the example of the documentation")


class Server:
    def __init__(self, directory, *flags):
        self.process = subprocess.Popen([NILO, "--data", os.path.join(directory, "data"), "--port", "0", "--json", *flags],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = json.loads(self.process.stdout.readline())
        self.port = said["port"]
        self.ca = os.path.join(directory, "data", "certs", "ca.pem")

    def ask(self, method, path, body):
        request = urllib.request.Request(f"https://localhost:{self.port}{path}", json.dumps(body).encode(), method=method, headers={
            "Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(b"admin:changeit").decode()})
        with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=self.ca)) as answer:
            return answer.read()

    def make_ann(self):
        for attempt in range(100):
            try:
                return self.ask("POST", "/v1/users", {"login": "ann", "fullName": "Ann", "groups": [], "password": "password-of-ann"})
            except urllib.error.HTTPError as error:
                if attempt == 99 or error.code not in (401, 503):
                    raise
                time.sleep(0.1)

    def environment(self):
        def connection(user):
            return f"kurrentdb://{user}@localhost:{self.port}?tls=true&tlsCAFile={self.ca}"

        return {**os.environ, "ADMIN": connection("admin:changeit"), "ANN": connection("ann:password-of-ann"),
                "WRONG": connection("ann:not-the-password"), "CA": self.ca}

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def try_language(name, server):
    try:
        command, expected = LANGUAGES[name]()
    except Skip as why:
        counts["skipped"] += 1
        print(f"SKIP: {name}: {why}")
        return
    except AssertionError as problem:
        counts["failed"] += 1
        print(f"FAILED: {name}: {problem}")
        return
    try:
        done = run(command, RUN_SECONDS, env=server.environment())
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        said, code = (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else str(late.stdout), "not finished in time"
    passed = [line for line in said.split("\n") if line.startswith("ok ")]
    counts["passed"] += len(passed)
    for line in passed:
        print(f"ok: {name}: {line[3:]}")
    if code != 0 or len(passed) != expected:
        counts["failed"] += 1
        print(f"FAILED: {name}: {len(passed)} of {expected}, exit code {code}\n{said[-4000:]}")


def main():
    wanted = [a for a in sys.argv[1:] if a in LANGUAGES] or DEFAULT
    os.makedirs(BUILD, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nilo-clients-") as directory:
        server = Server(os.path.join(directory, "secure"), "--tls", "on", "--compat-default-password")
        plain = Server(os.path.join(directory, "plain"))
        try:
            server.make_ann()
            for name in wanted:
                try_language(name, server)
            for name in ["node"] * (wanted == DEFAULT) + wanted:
                try_example(name, plain.port)
        finally:
            server.stop()
            plain.stop()
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


sys.exit(main())
