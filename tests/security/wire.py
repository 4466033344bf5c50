"""What the tests of this directory share: a server of their own, and clients that say any bytes: HTTP/2 frames with
HPACK, and plain sockets, with TLS or without. Only Python's own library."""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS_MAX = 5.0

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITY_FLAG, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY,
 HTTP_1_1_REQUIRED) = range(14)
(S_HEADER_TABLE_SIZE, S_ENABLE_PUSH, S_MAX_CONCURRENT_STREAMS, S_INITIAL_WINDOW_SIZE, S_MAX_FRAME_SIZE,
 S_MAX_HEADER_LIST_SIZE) = range(1, 7)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
               "WINDOW_UPDATE", "CONTINUATION"]
ERROR_NAMES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
               "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR",
               "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]


class Wrong(Exception):
    """The server did something else than the case says."""


def error_name(code):
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else hex(code)


def program():
    """The server under test: the argument, $NILO, or the one that test.sh builds."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        return os.path.abspath(sys.argv[1])
    return os.path.abspath(os.environ.get("NILO", os.path.join(TREE, "build", "nilo")))


# ---- the server ----

_running = []


def _clean():
    for server in list(_running):
        server.kill()


atexit.register(_clean)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class Server:
    """A server whose data is in a directory of its own, on a port that the kernel chooses. What it says is in `log`."""

    def __init__(self, *flags, environment=None):
        self.directory = tempfile.mkdtemp(prefix="nilo-wire-", dir=os.environ.get("NILO_TEST_DIR"))
        self.log_path = os.path.join(self.directory, "log")
        self.log_file = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [program(), "--port", "0", "--json", *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log_file, cwd=self.directory,
            env={**os.environ, **(environment or {})})
        _running.append(self)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start: {self.log()}")
        self.first_line = line
        self.said = json.loads(line)
        self.port = self.said["port"]
        ca_file = re.search("tlsCAFile=([^&]*)", self.said.get("connection", ""))
        self.ca_file = os.path.join(self.directory, urllib.parse.unquote(ca_file[1])) if ca_file else None
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self):
        for line in self.process.stdout:
            self.log_file.write(line)
            self.log_file.flush()

    def wait_for_users(self):
        """Until admin, whose password is changeit, is let in; a server with TLS that has just begun has no users yet."""
        began = time.monotonic()
        while True:
            try:
                h = H1(self)
                h.send(b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWRtaW46Y2hhbmdlaXQ=\r\n\r\n")
                status = h.answer()[0]
                h.close()
                if status == 200:
                    return
            except (OSError, Wrong) as e:
                status = e
            if time.monotonic() - began > 20:
                raise SystemExit(f"the first administrator cannot log in: {status}")
            time.sleep(0.1)

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def is_alive(self):
        return self.process.poll() is None

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise KeyError(field)

    def memory(self):
        """Resident bytes."""
        return self.status("VmRSS") * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        """An orderly stop; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return code

    def kill(self):
        if self in _running:
            _running.remove(self)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log_file.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def connect(server, alpn=None, tls=None, timeout=SECONDS_MAX):
    """A socket to it, with TLS if it speaks that."""
    s = socket.create_connection(("127.0.0.1", server.port), timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.ca_file if tls is None else tls:
        context = ssl.create_default_context(cafile=server.ca_file)
        if alpn:
            context.set_alpn_protocols([alpn])
        s = context.wrap_socket(s, server_hostname="localhost")
    return s


# ---- HPACK ----

# Sizes in bits of the codes of all 256 bytes and of the end (RFC 7541 appendix B); they are canonical, so the codes follow.
_SIZES = ("dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6f565"
          "65666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmnqqkjmnmp"
          "qqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu")


def _codes():
    codes, code, last = {}, 0, 0
    for size, symbol in sorted((int(c, 36), i) for i, c in enumerate(_SIZES)):
        code <<= size - last
        last = size
        codes[(size, code)] = symbol
        code += 1
    return codes


_CODES = _codes()
_CODE_OF = {symbol: (size, code) for (size, code), symbol in _CODES.items()}


def huffman_decode(data):
    out, size, code = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code = code << 1 | (byte >> bit & 1)
            size += 1
            symbol = _CODES.get((size, code))
            if symbol is not None:
                out.append(symbol)
                size, code = 0, 0
    return bytes(out)


def huffman_encode(data, padding=1):
    bits = "".join(format(_CODE_OF[b][1], f"0{_CODE_OF[b][0]}b") for b in data)
    bits += str(padding) * (-len(bits) % 8)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


_STATIC = [(b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
           (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"),
           (b":status", b"204"), (b":status", b"206"), (b":status", b"304"), (b":status", b"400"),
           (b":status", b"404"), (b":status", b"500")] + [(name.encode(), value.encode()) for name, value in [
               ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
               ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
               ("authorization", ""), ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""),
               ("content-language", ""), ("content-length", ""), ("content-location", ""), ("content-range", ""),
               ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""),
               ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""),
               ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
               ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
               ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
               ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
               ("via", ""), ("www-authenticate", "")]]
assert len(_STATIC) == 61


def integer(value, prefix, first=0):
    """An integer of HPACK with a prefix of that many bits."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out = bytearray([first | most])
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value, huffman=False):
    value = value.encode() if isinstance(value, str) else value
    if huffman:
        coded = huffman_encode(value)
        return integer(len(coded), 7, 0x80) + coded
    return integer(len(value), 7) + value


def literal(name, value, huffman=False):
    """A field that is not put into the table."""
    return b"\x00" + text(name, huffman) + text(value, huffman)


def indexed(name, value):
    """A field that is put into the table."""
    return b"\x40" + text(name) + text(value)


def block(fields):
    return b"".join(literal(name, value) for name, value in fields)


class Decoder:
    """Decodes what the server sends."""

    def __init__(self):
        self.table, self.size_max = [], 4096

    def _entry(self, index):
        if index == 0:
            raise Wrong("the server's header block has index 0")
        return _STATIC[index - 1] if index <= len(_STATIC) else self.table[index - 1 - len(_STATIC)]

    def _add(self, entry):
        self.table.insert(0, entry)
        while sum(len(n) + len(v) + 32 for n, v in self.table) > self.size_max:
            self.table.pop()

    def decode(self, data):
        at, fields = 0, []

        def number(prefix):
            nonlocal at
            most = (1 << prefix) - 1
            value = data[at] & most
            at += 1
            shift = 0
            while value >= most:
                byte = data[at]
                at += 1
                value += (byte & 127) << shift
                shift += 7
                if not byte & 128:
                    break
            return value

        def string():
            nonlocal at
            is_huffman = data[at] & 0x80
            size = number(7)
            raw = data[at:at + size]
            at += size
            return huffman_decode(raw) if is_huffman else bytes(raw)

        while at < len(data):
            byte = data[at]
            if byte & 0x80:
                fields.append(self._entry(number(7)))
            elif byte & 0xe0 == 0x20:
                self.size_max = number(5)
                self._add((b"", b"")) if self.size_max >= 32 else self.table.clear()
                if self.table and self.table[0] == (b"", b""):
                    self.table.pop(0)
            else:
                is_kept = byte & 0xc0 == 0x40
                index = number(6 if is_kept else 4)
                name = self._entry(index)[0] if index else string()
                entry = (name, string())
                if is_kept:
                    self._add(entry)
                fields.append(entry)
        return fields


# ---- HTTP/2 ----

class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload
        self.fields = None

    def code(self):
        return struct.unpack(">I", self.payload[4:8] if self.kind == GOAWAY else self.payload[:4])[0]

    def __repr__(self):
        name = FRAME_NAMES[self.kind] if self.kind < 10 else str(self.kind)
        more = f" {error_name(self.code())}" if self.kind in (GOAWAY, RST_STREAM) else ""
        if self.kind == GOAWAY and len(self.payload) > 8:
            more += f" ({self.payload[8:].decode('utf-8', 'replace')})"
        return f"{name}{more} flags={self.flags:#x} stream={self.stream} of {len(self.payload)} bytes"


def raw_frame(kind, flags=0, stream=0, payload=b"", size=None):
    size = len(payload) if size is None else size
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def setting(identifier, value):
    return struct.pack(">HI", identifier, value)


def request(path="/health/live", method="GET", more=(), scheme="http", authority="localhost"):
    return [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority), *more]


class Answer:
    def __init__(self):
        self.heads, self.body, self.reset, self.is_ended = [], b"", None, False

    @property
    def fields(self):
        return dict(self.heads[0]) if self.heads else {}

    @property
    def trailers(self):
        return dict(self.heads[-1]) if self.heads else {}

    @property
    def status(self):
        return int(self.fields[b":status"])

    @property
    def grpc_status(self):
        value = self.trailers.get(b"grpc-status")
        return None if value is None else int(value)


class H2:
    """A client of HTTP/2 that says what it is told to."""

    def __init__(self, server, settings=b"", is_bare=False, timeout=SECONDS_MAX):
        self.socket = connect(server, "h2", timeout=timeout)
        self.has_tls = bool(server.ca_file)
        self.timeout = timeout
        self.buffer = bytearray()
        self.decoder = Decoder()
        self.answers = {}
        self.seen = []
        self.is_acknowledged = False
        self.settings = {}
        self.next_stream = 1
        if is_bare:
            return
        self.send(PREFACE + raw_frame(SETTINGS, payload=settings))
        self.until(lambda f: f.kind == SETTINGS and f.flags & ACK, "the acknowledgement of the settings")

    # -- out --

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # what the server said before is still to be read

    def frame(self, *args, **named):
        self.send(raw_frame(*args, **named))

    def stream(self):
        stream = self.next_stream
        self.next_stream += 2
        return stream

    def fields(self, path="/health/live", method="GET", more=()):
        return request(path, method, more, "https" if self.has_tls else "http")

    def ask(self, fields=None, stream=None, flags=END_STREAM | END_HEADERS, payload=None):
        """A HEADERS frame; gives its stream."""
        stream = self.stream() if stream is None else stream
        self.frame(HEADERS, flags, stream, block(self.fields() if fields is None else fields) if payload is None else payload)
        return stream

    def post(self, path, body, more=()):
        stream = self.ask(self.fields(path, "POST", more), flags=END_HEADERS)
        for at in range(0, len(body), 16384):
            self.frame(DATA, END_STREAM if at + 16384 >= len(body) else 0, stream, body[at:at + 16384])
        return stream

    # -- in --

    def _more(self):
        try:
            data = self.socket.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLError) as e:
            if isinstance(e, socket.timeout):
                raise
            return False
        self.buffer += data
        return bool(data)

    def read(self):
        """The next frame, None at the end. Acknowledges the server's settings."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            if not self._more():
                return None
        size = int.from_bytes(self.buffer[:3], "big")
        frame = Frame(self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big"),
                      bytes(self.buffer[9:9 + size]))
        del self.buffer[:9 + size]
        self.seen.append(frame)
        self._note(frame)
        return frame

    def _note(self, f):
        answer = self.answers.setdefault(f.stream, Answer()) if f.stream else None
        if f.kind == HEADERS:
            if not f.flags & END_HEADERS or f.flags & (PADDED | PRIORITY_FLAG):
                raise Wrong(f"the server sent {f}")
            f.fields = self.decoder.decode(f.payload)
            for name, _ in f.fields:
                if name != name.lower():
                    raise Wrong(f"the server sent the header {name}")
            answer.heads.append(f.fields)
            answer.is_ended = bool(f.flags & END_STREAM)
        elif f.kind == DATA:
            answer.body += f.payload
            answer.is_ended = bool(f.flags & END_STREAM)
        elif f.kind == RST_STREAM:
            answer.reset = f.code()
        elif f.kind == SETTINGS and not f.flags & ACK:
            for at in range(0, len(f.payload), 6):
                identifier, value = struct.unpack(">HI", f.payload[at:at + 6])
                self.settings[identifier] = value
            self.frame(SETTINGS, ACK)

    def until(self, is_it, what):
        """Reads to the frame that is meant."""
        try:
            while True:
                frame = self.read()
                if frame is None:
                    raise Wrong(f"the connection ended instead of {what}; seen: {self.seen[-4:]}")
                if is_it(frame):
                    return frame
                if frame.kind == GOAWAY and frame.code() != NO_ERROR:
                    raise Wrong(f"{frame} instead of {what}")
        except socket.timeout:
            raise Wrong(f"nothing came for {self.timeout} s instead of {what}; seen: {self.seen[-4:]}") from None

    def answer(self, stream):
        """The whole answer, also of a stream that was reset."""
        answer = self.answers.setdefault(stream, Answer())
        while not answer.is_ended and answer.reset is None:
            self.until(lambda f: f.stream == stream, f"the answer of stream {stream}")
        return answer

    # -- what is expected --

    def expect_status(self, stream, status):
        answer = self.answer(stream)
        if answer.reset is not None and not answer.is_ended:
            raise Wrong(f"the stream was reset with {error_name(answer.reset)} instead of status {status}")
        if answer.status != status:
            raise Wrong(f"status {answer.status} instead of {status}: {answer.body[:200]}")
        return answer

    def expect_grpc(self, stream, status):
        answer = self.answer(stream)
        if not answer.heads:
            raise Wrong(f"reset with {error_name(answer.reset)} instead of grpc-status {status}")
        if answer.status != 200 or answer.grpc_status != status:
            raise Wrong(f"status {answer.status}, grpc-status {answer.grpc_status} instead of {status}: {answer.trailers}")
        return answer

    def expect_reset(self, stream, code):
        """The stream is reset, and nothing else ends."""
        answer = self.answer(stream)
        while answer.reset is None:
            self.until(lambda f: f.stream == stream, f"RST_STREAM {error_name(code)}")
        if answer.reset != code:
            raise Wrong(f"reset with {error_name(answer.reset)} instead of {error_name(code)}")
        self.expect_alive()

    def expect_goaway(self, code, within=None):
        """The server says why and ends the connection."""
        began = time.monotonic()
        try:
            while True:
                frame = self.read()
                if frame is None:
                    raise Wrong(f"the connection ended without GOAWAY; seen: {self.seen[-4:]}")
                if frame.kind == GOAWAY:
                    break
        except socket.timeout:
            raise Wrong(f"no GOAWAY within {self.timeout} s; seen: {self.seen[-4:]}") from None
        if frame.code() != code:
            raise Wrong(f"{frame} instead of {error_name(code)}")
        self.expect_end()
        if within and time.monotonic() - began > within:
            raise Wrong(f"the end took {time.monotonic() - began:.1f} s")

    def expect_end(self):
        try:
            while self.read() is not None:
                pass
        except socket.timeout:
            raise Wrong("the connection was not closed") from None

    def expect_alive(self):
        mark = os.urandom(8)
        self.frame(PING, payload=mark)
        self.until(lambda f: f.kind == PING and f.flags & ACK and f.payload == mark, "the answer to a ping")

    def expect_served(self):
        """The connection goes on: a request of its own is answered."""
        self.expect_status(self.ask(), 204)

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass


# ---- HTTP/1.1 ----

class H1:
    def __init__(self, server, timeout=SECONDS_MAX):
        self.socket = connect(server, "http/1.1", timeout=timeout)
        self.buffer = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    def _more(self):
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def answer(self, is_head=False):
        """(status, headers, body), or None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                if self.buffer:
                    raise Wrong(f"the connection ended inside a head: {self.buffer[:200]}")
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        headers = [(n.strip().lower(), v.strip()) for n, v in (line.split(b":", 1) for line in lines[1:])]
        named = dict(headers)
        if status == 100 or status in (204, 304) or is_head:
            return status, headers, b""
        if named.get(b"transfer-encoding") == b"chunked":
            return status, headers, self._chunks()
        size = int(named.get(b"content-length", b"0"))
        while len(self.buffer) < size:
            if not self._more():
                raise Wrong("the connection ended inside a body")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return status, headers, body

    def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                if not self._more():
                    raise Wrong("the connection ended inside a chunk")
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            size = int(line, 16)
            while len(self.buffer) < size + 2:
                if not self._more():
                    raise Wrong("the connection ended inside a chunk")
            body += self.buffer[:size]
            self.buffer = self.buffer[size + 2:]
            if not size:
                return body

    def is_ended(self):
        """Nothing more comes, and the connection is closed."""
        try:
            return not self._more() and not self.buffer
        except socket.timeout:
            return False

    def close(self):
        self.socket.close()


# ---- telling ----

class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def result(self, name, problem=None):
        if problem:
            self.failed += 1
            print(f"FAILED: {name}: {problem}", flush=True)
        else:
            self.passed += 1
            print(f"ok: {name}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"SKIP: {name}: {why}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
