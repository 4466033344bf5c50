"""Three nodes on this machine, with one node beside them: the section Cluster of bench/run."""
import http.client, json, math, shutil, socket, statistics, subprocess, sys, threading, time

SECTION = "Cluster"
MANY_EVENTS = 10_000_000
FAILOVERS = 20
CATCH_UP_BYTES = 1 << 30
TARGETS = {
    "append c64, three nodes": (">= 30,000/s", lambda value, ratio: value >= 30_000),
    "batch 100 c16, three nodes": (">= 120,000/s", lambda value, ratio: value >= 120_000),
    "failover, p50": ("< 1500 ms", lambda value, ratio: value < 1500),
    "failover, p99": ("< 3000 ms", lambda value, ratio: value < 3000),
    "leader's memory, growth at most in catch-up": ("<= 32 MiB", lambda value, ratio: value <= 32),
    "start of a follower, 10 M events": ("< 1000 ms", lambda value, ratio: value < 1000),
    "start of a follower, 10 M events, after kill -9": ("< 1000 ms", lambda value, ratio: value < 1000),
}
LOADS = [(f"append c{writers}", {"writers": writers, "connections": connections})
         for writers, connections in ((1, 1), (16, 4), (64, 8), (256, 8))]
LOADS += [("batch 100 c1", {"writers": 1, "connections": 1, "batch": 100}),
          ("batch 100 c16", {"writers": 16, "connections": 4, "batch": 100})]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def call(port, method, path, body=None, timeout=60):
    """Gives (status, object)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
        return reply.status, json.loads(text) if text.startswith(b"{") else None
    finally:
        connection.close()


def must(port, method, path, body=None):
    status, answer = call(port, method, path, body)
    if status >= 300:
        raise SystemExit(f"{method} {path}: {status} {answer}")
    return answer


def until(what, look, seconds=120, every=0.01):
    end = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds} s: {what}")
        time.sleep(every)


def memory(pid):
    """What the process alone has, without pages of files that the kernel may take back; in bytes."""
    with open(f"/proc/{pid}/status") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("RssAnon", "RssShmem"))) * 1024


class Node:
    def __init__(self, bench, directory):
        self.bench, self.directory = bench, directory
        self.port, self.peer = free_port(), f"127.0.0.1:{free_port()}"
        self.process = None

    def start(self, *flags):
        """Gives the seconds until it was ready."""
        b, began = self.bench, time.monotonic()
        self.process, _ = b.start([b.nilo, "--data", b.path(self.directory), "--port", str(self.port), "--json", "--log-level", "error", *flags])
        until(f"{self.directory} is ready", self.is_ready, every=0.001)
        return time.monotonic() - began

    def is_ready(self):
        try:
            return call(self.port, "GET", "/health/ready", timeout=5)[0] == 200
        except OSError:
            return False

    def join(self, first, token):
        return self.start("--peer-port", self.peer.split(":")[1], "--join", first.peer, "--token", token)

    def status(self):
        try:
            status, answer = call(self.port, "GET", "/v1/cluster", timeout=2)
            return answer if status == 200 else None
        except OSError:
            return None

    def kill(self):
        self.bench.kill(self.process)
        self.process = None

    def stop(self):
        self.bench.stop(self.process)
        self.process = None


class Cluster:
    """`data`: the directory of the first node, which may be filled already."""

    def __init__(self, bench, name, data=None):
        self.nodes = [Node(bench, data or f"{name}-1"), Node(bench, f"{name}-2"), Node(bench, f"{name}-3")]

    def begin(self):
        """One voter. Gives a token for the others."""
        first = self.nodes[0]
        first.start()
        must(first.port, "POST", "/v1/cluster/init", {"address": first.peer})
        return must(first.port, "POST", "/v1/cluster/tokens", {"uses": 2})["token"]

    def form(self):
        token = self.begin()
        for node in self.nodes[1:]:
            node.join(self.nodes[0], token)
        self.grow()
        return self

    def grow(self):
        must(self.nodes[0].port, "POST", "/v1/cluster/grow", {"voters": 3})
        self.whole()

    def leader(self):
        def look():
            for node in self.nodes:
                status = node.process and node.status()
                if status and status["quorum"]["has_quorum"] and any(m["self"] and m["state"] == "Leader" for m in status["members"]):
                    return node
            return None
        return until("a leader", look)

    def whole(self):
        """Everybody follows one leader and has everything."""
        def look():
            all_of_them = [node.status() for node in self.nodes]
            return all(s and s["leader"] and s["term"] == all_of_them[0]["term"] and s["applied_index"] == all_of_them[0]["last_index"]
                       for s in all_of_them)
        until("the cluster is whole", look)

    def whole_but_busy(self):
        """Everybody follows one leader and is near to the end, while appends go on."""
        def look():
            all_of_them = [node.status() for node in self.nodes]
            return all(s and s["leader"] == all_of_them[0]["leader"] != 0 and s["quorum"]["reachable"] == 3 and
                       s["applied_index"] + 100 > all_of_them[0]["applied_index"] for s in all_of_them)
        until("the cluster is whole", look)

    def stop(self):
        for node in self.nodes:
            if node.process:
                node.stop()


def append_in_a_loop(nodes, number, acknowledged, is_over):
    """To one node after another, each time with the next as soon as one does not answer well."""
    at = number
    while not is_over.is_set():
        began = time.monotonic()
        try:
            status, _ = call(nodes[at % len(nodes)].port, "POST", f"/v1/streams/failover-{number}/events?timeout-ms=500", {"type": "Tick", "data": 1}, timeout=0.6)
        except OSError:
            status = 0
        if status == 201:
            acknowledged.append((began, time.monotonic()))
        else:
            at += 1
            time.sleep(0.002)


class Section:
    def __init__(self, bench):
        self.bench = bench

    def wants(self, name):
        return self.bench.wanted(f"{SECTION}: {name}")

    def note(self, name, result):
        self.bench.sections[name] = SECTION
        self.bench.note(name, result)

    def names(self):
        lines = [f"{name}, {how}" for name, _ in LOADS for how in ("one node", "three nodes")]
        return [*lines, *TARGETS, "catch-up of an empty node", "memory of the leader", "memory of a follower"]

    def is_wanted(self):
        return any(self.wants(n) for n in self.names())

    def round(self):
        loads = [(name, flags) for name, flags in LOADS if self.wants(f"{name}, three nodes") or self.wants(f"{name}, one node")]
        fails = self.wants("failover, p50") or self.wants("failover, p99")
        if not loads and not fails:
            return
        b = self.bench
        for name in ("lone", "three-1", "three-2", "three-3"):
            shutil.rmtree(b.path(name), ignore_errors=True)
        cluster = Cluster(b, "three").form()
        if loads:
            lone, lone_port, _ = b.server("lone")
            for name, flags in loads:
                for how, port in (("one node", lone_port), ("three nodes", cluster.leader().port)):
                    self.note(f"{name}, {how}", b.load("grpc-append", port=port, seconds=b.options.seconds, **flags))
                cluster.whole()
            b.stop(lone)
            leader = cluster.leader()
            self.note("memory of the leader", {"mebibytes": memory(leader.process.pid) / 2**20})
            self.note("memory of a follower", {"mebibytes": max(memory(n.process.pid) for n in cluster.nodes if n is not leader) / 2**20})
        if fails:
            self.failovers(cluster)
        cluster.stop()

    def failovers(self, cluster):
        took = []
        acknowledged, is_over = [], threading.Event()
        writers = [threading.Thread(target=append_in_a_loop, args=(cluster.nodes, i, acknowledged, is_over), daemon=True) for i in range(4)]
        for writer in writers:
            writer.start()
        for _ in range(4 if self.bench.options.quick else FAILOVERS):
            time.sleep(0.3)
            leader = cluster.leader()
            seen = len(acknowledged)
            killed = time.monotonic()
            leader.kill()
            took.append(1000 * until("an acknowledgement", lambda: next((end - killed for began, end in acknowledged[seen:] if began > killed), None), 30, 0.001))
            leader.start()
            cluster.whole_but_busy()
        is_over.set()
        for writer in writers:
            writer.join()
        took.sort()
        print(f"  failovers: {', '.join(f'{ms:.0f}' for ms in took)} ms", file=sys.stderr)
        self.note("failover, p50", {"milliseconds": statistics.median(took), "all": took})
        self.note("failover, p99", {"milliseconds": took[math.ceil(0.99 * len(took)) - 1]})

    def large(self):
        """10 M events on one node, which two empty ones fetch; then three voters, of whom one is started again."""
        if not any(self.wants(n) for n in ("catch-up of an empty node", "leader's memory, growth at most in catch-up",
                                           "start of a follower, 10 M events", "start of a follower, 10 M events, after kill -9")):
            return
        b = self.bench
        b.load("embed-fill", file=b.path("large-1"), batch=500, count=MANY_EVENTS, size=112, stream="bench-many")
        cluster = Cluster(b, "large")
        token = cluster.begin()
        first = cluster.nodes[0]
        for node in cluster.nodes[1:]:
            self.catch_up(first, node, token)
        cluster.grow()
        follower = next(node for node in cluster.nodes if node is not cluster.leader())
        for _ in range(b.options.rounds):
            follower.stop()
            self.start_cold(follower, "start of a follower, 10 M events")
            cluster.whole()
            client = subprocess.Popen([b.load_program, "grpc-append", "--port", str(cluster.leader().port), "--writers", "16", "--seconds", "1"],
                                      stdout=subprocess.DEVNULL)
            time.sleep(0.5)
            follower.kill()
            client.wait()
            self.start_cold(follower, "start of a follower, 10 M events, after kill -9")
            cluster.whole()
        cluster.stop()

    def start_cold(self, node, name):
        self.bench.drop_from_memory(self.bench.path(node.directory))
        self.note(name, {"milliseconds": node.start() * 1000})

    def catch_up(self, leader, node, token):
        time.sleep(1)
        before, peak, is_over = memory(leader.process.pid), [0], threading.Event()

        def watch():
            while not is_over.wait(0.02):
                peak[0] = max(peak[0], memory(leader.process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        end = leader.status()["last_index"]
        began = time.monotonic()
        node.join(leader, token)
        until("the empty node has everything", lambda: (node.status() or {"applied_index": 0})["applied_index"] >= end, 600, 0.02)
        seconds = time.monotonic() - began
        sent = next(m["sent_bytes"] for m in leader.status()["members"] if m["address"] == node.peer)
        time.sleep(2)
        is_over.set()
        watcher.join()
        after = memory(leader.process.pid)
        if sent < CATCH_UP_BYTES:
            raise SystemExit(f"only {sent} bytes were fetched: the store is too small")
        self.note("catch-up of an empty node", {"mebibytes_per_second": sent / seconds / 2**20, "bytes": sent, "seconds": seconds})
        self.note("leader's memory, before catch-up", {"mebibytes": before / 2**20})
        self.note("leader's memory, most in catch-up", {"mebibytes": peak[0] / 2**20})
        self.note("leader's memory, after catch-up", {"mebibytes": after / 2**20})
        self.note("leader's memory, growth at most in catch-up", {"mebibytes": (max(peak[0], after) - before) / 2**20})
        self.note("memory of the node that caught up", {"mebibytes": memory(node.process.pid) / 2**20})
