#!/usr/bin/env python3
"""HTTP/2 as RFC 9113 has it, and gRPC over it, by frames that no library would send: the answer to each is exact, down to
the error code; afterwards the server lives and its other connections work.

    tests/security/h2_conformance.py [NILO] [--only REGEX] [--no-tls]

Its last line is `N passed, N failed, N skipped`."""

import re
import struct
import sys
import time

from wire import *  # noqa: F403: this is the other half of one program

LARGE = "/v1/streams/large/events?limit=64"
LARGE_EVENTS, LARGE_EVENT_SIZE = 40, 20000
FEATURES = "/event_store.client.server_features.ServerFeatures/GetSupportedMethods"
READ = "/event_store.client.streams.Streams/Read"
BATCH_APPEND = "/event_store.client.streams.Streams/BatchAppend"

WIDE = setting(S_INITIAL_WINDOW_SIZE, 1 << 24)

cases = []


def case(section, title, over_tls=False, is_bare=False, settings=b""):
    """Registers a case; `over_tls`: also over TLS with users, where that makes a difference to the bytes."""

    def add(fn):
        cases.append((section, title, over_tls, is_bare, settings, fn))
        return fn

    return add


def goaway(section, title, code, *frames, over_tls=False, settings=b""):
    """These bytes end the connection with this error."""
    cases.append((section, title, over_tls, False, settings,
                  lambda h: (h.send(b"".join(frames)), h.expect_goaway(code))))


def harmless(section, title, *frames):
    """These bytes are passed over: the connection goes on."""
    cases.append((section, title, False, False, b"", lambda h: (h.send(b"".join(frames)), h.expect_alive(), h.expect_served())))


def head(stream=1, fields=None, flags=END_HEADERS | END_STREAM, payload=None, **named):
    return raw_frame(HEADERS, flags, stream, block(fields or request()) if payload is None else payload, **named)


def malformed(section, title, fields):
    """A request with these fields is malformed: its stream is reset, the connection goes on (section 8.1.1)."""
    cases.append((section, title, False, False, b"",
                  lambda h: (h.frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields)),
                             h.expect_reset(1, PROTOCOL_ERROR), setattr(h, "next_stream", 3), h.expect_served())))


def event(size=10):
    return b'{"type":"T","data":"' + b"x" * size + b'"}'


JSON = [("content-type", "application/json")]
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


def message(content=b"", flag=0, size=None):
    return struct.pack(">BI", flag, len(content) if size is None else size) + content


def call(h, path=FEATURES, body=None, more=GRPC, flags=END_STREAM):
    stream = h.ask(h.fields(path, "POST", more), flags=END_HEADERS)
    if body is not None:
        h.frame(DATA, flags, stream, body)
    return stream


def read_all(count=None):
    """A ReadReq of $all from the start; without a count a subscription."""
    options = b"\x12\x02\x12\x00" + (b"\x32\x00" if count is None else b"\x28" + bytes([count])) + b"\x42\x00\x4a\x02\x12\x00"
    return b"\x0a" + bytes([len(options)]) + options


# ---- 3.4: the preface ----

@case("3.4", "the server's first frame is SETTINGS, without acknowledgement", over_tls=True, is_bare=True)
def _(h):
    h.send(PREFACE + raw_frame(SETTINGS))
    frame = h.read()
    if frame.kind != SETTINGS or frame.flags & ACK or frame.stream:
        raise Wrong(f"{frame} came first")


@case("3.4", "the client need not wait for the server's settings", over_tls=True, is_bare=True)
def _(h):
    h.send(PREFACE + raw_frame(SETTINGS) + raw_frame(HEADERS, 5, 1, block(h.fields())))
    h.expect_status(1, 204)


@case("3.4", "the preface may come byte by byte", is_bare=True)
def _(h):
    for byte in PREFACE + raw_frame(SETTINGS) + head():
        h.send(bytes([byte]))
    h.expect_status(1, 204)


@case("3.4", "a preface without SETTINGS is refused", over_tls=True, is_bare=True)
def _(h):
    h.send(PREFACE + raw_frame(PING, payload=b"12345678"))
    h.expect_goaway(PROTOCOL_ERROR)


@case("3.4", "a preface and then a request instead of SETTINGS is refused", is_bare=True)
def _(h):
    h.send(PREFACE + head())
    h.expect_goaway(PROTOCOL_ERROR)


@case("3.4", "a preface and then an acknowledgement of settings is refused", is_bare=True)
def _(h):
    h.send(PREFACE + raw_frame(SETTINGS, ACK))
    h.expect_goaway(PROTOCOL_ERROR)


@case("3.4", "half a preface and something else is no HTTP/2", is_bare=True)
def _(h):
    h.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + b"\0" * 64)
    data = h.socket.recv(12)
    if not data.startswith(b"HTTP/1.1 5") and not data.startswith(b"HTTP/1.1 4"):
        raise Wrong(f"answered {data}")


@case("3.4", "a second preface is refused", is_bare=True)
def _(h):
    h.send(PREFACE + PREFACE)
    h.expect_goaway(PROTOCOL_ERROR)


@case("3.4", "what the server announces is sane", over_tls=True)
def _(h):
    if h.settings.get(S_MAX_CONCURRENT_STREAMS, 0) < 100:
        raise Wrong(f"at most {h.settings.get(S_MAX_CONCURRENT_STREAMS)} streams")
    if h.settings.get(S_MAX_HEADER_LIST_SIZE) != 16384:
        raise Wrong(f"header lists of {h.settings.get(S_MAX_HEADER_LIST_SIZE)}")
    if h.settings.get(S_ENABLE_PUSH, 0) != 0 or not 16384 <= h.settings.get(S_MAX_FRAME_SIZE, 16384) < 1 << 24:
        raise Wrong(f"settings {h.settings}")


# ---- 4.1: frames ----

harmless("4.1", "a frame of an unknown type on the connection is passed over", raw_frame(0xfa, 0xff, 0, b"anything"))
harmless("4.1", "a frame of an unknown type on an idle stream is passed over", raw_frame(0x16, 0, 99, b"anything"))
harmless("4.1", "a frame of an unknown type without content is passed over", raw_frame(0x20))
harmless("4.1", "the largest frame of an unknown type is passed over", raw_frame(0xfa, 0, 0, b"x" * 16384))
goaway("4.2", "a frame of an unknown type that is too large is refused", FRAME_SIZE_ERROR, raw_frame(0xfa, 0, 0, b"x" * 16385))
harmless("4.1", "undefined flags of PING are passed over", raw_frame(PING, 0xfe, 0, b"12345678"))
harmless("4.1", "the reserved bit of a stream identifier is passed over", raw_frame(PING, 0, 1 << 31, b"12345678"))


@case("4.1", "undefined flags of HEADERS and DATA are passed over")
def _(h):
    stream = h.ask(h.fields("/v1/streams/flags-1/events", "POST", JSON), flags=END_HEADERS | 0x12)
    h.frame(DATA, END_STREAM | 0xf6, stream, event())
    h.expect_status(stream, 201)


@case("4.1", "the reserved bit of the stream of HEADERS is passed over")
def _(h):
    h.frame(HEADERS, END_HEADERS | END_STREAM, 1 | 1 << 31, block(h.fields()))
    h.expect_status(1, 204)


# ---- 4.2: frame sizes ----

@case("4.2", "DATA of exactly the largest size is taken", over_tls=True)
def _(h):
    body = event(20000)
    stream = h.ask(h.fields("/v1/streams/sizes-1/events", "POST", [*JSON, *login(h)]), flags=END_HEADERS)
    h.frame(DATA, 0, stream, body[:16384])
    h.frame(DATA, END_STREAM, stream, body[16384:])
    h.expect_status(stream, 201)


@case("4.2", "DATA larger than that is refused")
def _(h):
    stream = h.ask(h.fields("/v1/streams/sizes-1/events", "POST", JSON), flags=END_HEADERS)
    h.frame(DATA, END_STREAM, stream, b"x" * 16385)
    h.expect_goaway(FRAME_SIZE_ERROR)


goaway("4.2", "HEADERS larger than the largest frame is refused", FRAME_SIZE_ERROR, head(payload=b"\0" * 16385))
goaway("4.2", "a frame that claims 2^24 - 1 bytes is refused by its head", FRAME_SIZE_ERROR,
       raw_frame(DATA, 0, 1, b"", size=(1 << 24) - 1))
goaway("4.2", "SETTINGS larger than the largest frame is refused", FRAME_SIZE_ERROR, raw_frame(SETTINGS, payload=setting(0x99, 1) * 2731))


# ---- 4.3: header blocks ----

for title, payload in [
    ("index 0", b"\x80"),
    ("an index beyond the tables", integer(62, 7, 0x80)),
    ("the index 2^31", integer(1 << 31, 7, 0x80)),
    ("the index 2^64", integer(1 << 64, 7, 0x80)),
    ("an integer without end", b"\xff" + b"\xff" * 64),
    ("a field that is cut off", block(request()) + b"\x00\x05ab"),
    ("a name that is longer than the block", b"\x00\x7f\x80\x80\x01" + b"a" * 20),
    ("a value of 2^32 bytes", b"\x00\x01a" + integer(1 << 32, 7)),
    ("Huffman code with padding of zeros", b"\x00" + text("a") + integer(1, 7, 0x80) + huffman_encode(b"a", 0)),
    ("Huffman code with eight bits of padding", b"\x00" + text("a") + integer(2, 7, 0x80) + huffman_encode(b"a") + b"\xff"),
    ("the end of Huffman code in the middle", b"\x00" + text("a") + integer(4, 7, 0x80) + b"\xff\xff\xff\xff"),
    ("a table larger than allowed", integer(4097, 5, 0x20) + block(request())),
    ("a change of the table's size behind a field", block(request()) + integer(0, 5, 0x20)),
]:
    goaway("4.3", f"{title} is an error of compression", COMPRESSION_ERROR, head(payload=payload))

for name, frame in [("DATA", raw_frame(DATA, 0, 1, b"x")), ("PING", raw_frame(PING, payload=b"12345678")),
                    ("SETTINGS", raw_frame(SETTINGS)), ("HEADERS of another stream", head(3)),
                    ("CONTINUATION of another stream", raw_frame(CONTINUATION, END_HEADERS, 3, b"")),
                    ("a frame of an unknown type", raw_frame(0xfa)), ("WINDOW_UPDATE", raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
                    ("RST_STREAM", raw_frame(RST_STREAM, 0, 1, b"\0\0\0\x08")),
                    ("GOAWAY", raw_frame(GOAWAY, payload=b"\0" * 8))]:
    goaway("4.3", f"{name} inside a header block is refused", PROTOCOL_ERROR, head(flags=END_STREAM), frame)


@case("4.3", "a header block may change the table's size at its beginning")
def _(h):
    h.ask(payload=integer(0, 5, 0x20) + integer(4096, 5, 0x20) + block(h.fields()))
    h.expect_status(1, 204)


@case("4.3", "fields in the table are remembered from request to request", over_tls=True)
def _(h):
    h.ask(payload=b"".join(indexed(n, v) for n, v in h.fields("/ping")))
    h.ask(payload=b"".join(integer(62 + i, 7, 0x80) for i in (3, 2, 1, 0)))
    if h.expect_status(1, 200).body != h.expect_status(3, 200).body:
        raise Wrong("another answer")


@case("4.3", "a block that was refused by its content still fills the table")
def _(h):
    h.ask(payload=indexed("x-kept", "1") + block([("X-Upper", "1"), *h.fields()]))
    h.expect_reset(1, PROTOCOL_ERROR)
    h.ask(payload=block(h.fields()) + integer(62, 7, 0x80))
    h.expect_status(3, 204)


@case("4.3", "Huffman code is understood")
def _(h):
    h.ask(payload=b"".join(literal(n, v, True) for n, v in h.fields()))
    h.expect_status(1, 204)


@case("4.3", "fields that must not be kept are understood")
def _(h):
    h.ask(payload=b"".join(b"\x10" + text(n) + text(v) for n, v in h.fields()))
    h.expect_status(1, 204)


# ---- 5.1: states of streams ----

goaway("5.1", "DATA on an idle stream is refused", PROTOCOL_ERROR, raw_frame(DATA, END_STREAM, 1, b"x"), over_tls=True)
goaway("5.1", "RST_STREAM on an idle stream is refused", PROTOCOL_ERROR, raw_frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
goaway("5.1", "WINDOW_UPDATE on an idle stream is refused", PROTOCOL_ERROR, raw_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))
goaway("5.1", "CONTINUATION on an idle stream is refused", PROTOCOL_ERROR, raw_frame(CONTINUATION, END_HEADERS, 1, b""))
goaway("5.1", "DATA on an even stream, which is the server's, is refused", PROTOCOL_ERROR, raw_frame(DATA, 0, 2, b"x"))


def open_subscription(h):
    """A stream on which the client has said all, and the server goes on."""
    stream = call(h, READ, message(read_all()), [*GRPC, *login(h)])
    h.until(lambda f: f.stream == stream and f.kind == DATA, "the first message")
    return stream


@case("5.1", "DATA on a stream that the client has closed is an error of the stream")
def _(h):
    stream = open_subscription(h)
    h.frame(DATA, 0, stream, b"x")
    h.expect_goaway(STREAM_CLOSED)


@case("5.1", "HEADERS on a stream that the client has closed is an error of the stream")
def _(h):
    stream = open_subscription(h)
    h.ask(stream=stream)
    h.expect_goaway(STREAM_CLOSED)


# A stream may have been closed by the server while the client still sent on it, so nghttp2 passes over what comes on streams
# that it has forgotten; that nothing is served and the header table stays right is what matters.

@case("5.1", "DATA behind the client's own RST_STREAM is passed over")
def _(h):
    stream = h.ask(h.fields("/v1/streams/reset-1/events", "POST", JSON), flags=END_HEADERS)
    h.frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
    h.frame(DATA, END_STREAM, stream, event())
    h.expect_alive()
    h.expect_served()
    h.expect_status(h.ask(h.fields("/v1/streams/reset-1/events")), 404)


@case("5.1", "HEADERS behind the end of a stream are passed over, but for the header table")
def _(h):
    h.expect_status(h.ask(), 204)
    count = len(h.seen)
    h.ask(stream=1, payload=indexed("x-kept", "1") + block(h.fields()))
    h.expect_alive()
    if len(h.seen) != count + 1:
        raise Wrong(f"{h.seen[count:]} came")
    h.ask(stream=3, payload=block(h.fields()) + integer(62, 7, 0x80))
    h.expect_status(3, 204)


@case("5.1", "WINDOW_UPDATE, PRIORITY and RST_STREAM on a closed stream are passed over", over_tls=True)
def _(h):
    h.expect_status(h.ask(), 204)
    h.frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")
    h.frame(PRIORITY, 0, 1, b"\0\0\0\0\x10")
    h.frame(RST_STREAM, 0, 1, b"\0\0\0\x08")
    h.expect_alive()
    h.expect_served()


@case("5.1", "a subscription that the client resets is over, and the connection is not", over_tls=True)
def _(h):
    stream = open_subscription(h)
    h.frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
    h.expect_alive()
    h.expect_served()


harmless("5.1", "PRIORITY on an idle stream is passed over", raw_frame(PRIORITY, 0, 77, b"\0\0\0\0\x10"))

# ---- 5.1.1: stream identifiers ----

goaway("5.1.1", "a request on an even stream is refused", PROTOCOL_ERROR, head(2))
goaway("5.1.1", "a request on stream 0 is refused", PROTOCOL_ERROR, head(0))


@case("5.1.1", "a stream below one that was used is closed")
def _(h):
    h.expect_status(h.ask(stream=5), 204)
    h.ask(stream=3)
    h.expect_alive()
    if len([f for f in h.seen if f.kind == HEADERS]) != 1:
        raise Wrong("it was served")


@case("5.1.1", "the stream 2^31 - 1 is served, and the connection lives on", over_tls=True)
def _(h):
    stream = h.ask(h.fields("/ping"), stream=(1 << 31) - 1)
    h.expect_status(stream, 200)
    h.expect_alive()


@case("5.1.1", "after the stream 2^31 - 1 there is no further one")
def _(h):
    h.expect_status(h.ask(stream=(1 << 31) - 1), 204)
    h.ask(stream=(1 << 31) - 3)
    h.expect_alive()
    if len([f for f in h.seen if f.kind == HEADERS]) != 1:
        raise Wrong("it was served")


# ---- 5.1.2, 8.7: concurrency ----

@case("5.1.2", "streams over the limit end the connection of a client that has acknowledged it")
def _(h):
    most = h.settings[S_MAX_CONCURRENT_STREAMS]
    h.send(b"".join(raw_frame(HEADERS, END_HEADERS, 1 + 2 * i, block(h.fields("/v1/streams/many-1/events", "POST", JSON)))
                    for i in range(most + 1)))
    h.expect_goaway(PROTOCOL_ERROR)


@case("5.1.2", "as many streams as allowed are served", settings=WIDE)
def _(h):
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
    most = h.settings[S_MAX_CONCURRENT_STREAMS]
    h.send(b"".join(raw_frame(HEADERS, END_HEADERS, 1 + 2 * i, block(h.fields("/v1/streams/many-1/events", "POST", JSON)))
                    for i in range(most)))
    h.send(b"".join(raw_frame(DATA, END_STREAM, 1 + 2 * i, event()) for i in range(most)))
    for i in range(most):
        h.expect_status(1 + 2 * i, 201)


@case("8.7", "before it knows the limit, a client may try again what was refused", is_bare=True)
def _(h):
    most = 1000
    h.send(PREFACE + raw_frame(SETTINGS))
    h.send(b"".join(raw_frame(HEADERS, END_HEADERS, 1 + 2 * i, block(h.fields("/v1/streams/many-1/events", "POST", JSON)))
                    for i in range(most + 1)))
    h.next_stream = 1 + 2 * (most + 1)
    h.until(lambda f: f.kind == RST_STREAM, "RST_STREAM")
    if h.answers[1 + 2 * most].reset != REFUSED_STREAM:
        raise Wrong(f"{h.seen[-1]}")
    h.frame(DATA, END_STREAM, 1, event())
    h.expect_status(1, 201)


# ---- 5.3: priorities ----

@case("5.3", "HEADERS with a priority is served")
def _(h):
    h.ask(flags=END_HEADERS | END_STREAM | PRIORITY_FLAG, payload=b"\x80\0\0\0\xff" + block(h.fields()))
    h.expect_status(1, 204)


@case("5.3", "a thousand priorities are nothing")
def _(h):
    h.send(b"".join(raw_frame(PRIORITY, 0, 2 * i + 1, struct.pack(">IB", max(0, 2 * i - 1), 16)) for i in range(1000)))
    h.expect_alive()


goaway("6.3", "PRIORITY on stream 0 is refused", PROTOCOL_ERROR, raw_frame(PRIORITY, 0, 0, b"\0\0\0\1\x10"))


# ---- 5.4: errors of one stream ----

@case("5.4.2", "the error of a stream leaves the others alone", over_tls=True)
def _(h):
    kept = open_subscription(h)
    h.frame(HEADERS, END_HEADERS | END_STREAM, h.stream(), block([("X-Upper", "1"), *h.fields()]))
    h.expect_reset(h.next_stream - 2, PROTOCOL_ERROR)
    if h.answers[kept].reset is not None or h.answers[kept].is_ended:
        raise Wrong("the other stream ended too")
    h.expect_served()


# ---- 6.1: DATA ----

goaway("6.1", "DATA on stream 0 is refused", PROTOCOL_ERROR, raw_frame(DATA, 0, 0, b"x"))


@case("6.1", "padding is thrown away", over_tls=True)
def _(h):
    body = event()
    stream = h.ask(h.fields("/v1/streams/padded-1/events", "POST", [*JSON, *login(h)]), flags=END_HEADERS)
    h.frame(DATA, PADDED, stream, b"\xff" + body[:5] + b"\0" * 255)
    h.frame(DATA, PADDED | END_STREAM, stream, b"\0" + body[5:])
    h.expect_status(stream, 201)


@case("6.1", "DATA of padding alone is no content")
def _(h):
    stream = h.ask(h.fields("/v1/streams/padded-1/events", "POST", JSON), flags=END_HEADERS)
    h.frame(DATA, PADDED, stream, b"\x09" + b"\0" * 9)
    h.frame(DATA, END_STREAM, stream, event())
    h.expect_status(stream, 201)


for title, payload, code in [("longer than the frame", b"\x05abc", PROTOCOL_ERROR), ("as long as the frame", b"\x04abc", PROTOCOL_ERROR),
                             ("without its size", b"", PROTOCOL_ERROR)]:
    goaway("6.1", f"padding {title} is refused", code, head(fields=request("/v1/streams/a/events", "POST"), flags=END_HEADERS),
           raw_frame(DATA, PADDED, 1, payload))


@case("6.1", "padding counts for the window: the client gets it back")
def _(h):
    stream = h.ask(h.fields("/v1/streams/padded-2/events", "POST", JSON), flags=END_HEADERS)
    for _ in range(160):  # more padding than the window of a stream has
        h.frame(DATA, PADDED, stream, b"\xff" + b"\0" * 255)
    for _ in range(150):
        h.frame(DATA, 0, stream, b" " * 16384)
        if len(h.seen) > 4:
            break
    h.frame(DATA, END_STREAM, stream, event())
    h.expect_status(stream, 201)


@case("6.1", "an empty DATA with END_STREAM ends a request")
def _(h):
    stream = h.ask(h.fields("/v1/streams/ends-1/events", "POST", JSON), flags=END_HEADERS)
    h.frame(DATA, 0, stream, event())
    h.frame(DATA, END_STREAM, stream)
    h.expect_status(stream, 201)


# ---- 6.2: HEADERS ----

@case("6.2", "padding of HEADERS is thrown away")
def _(h):
    h.ask(flags=END_HEADERS | END_STREAM | PADDED | PRIORITY_FLAG,
          payload=b"\x07" + b"\0\0\0\0\x10" + block(h.fields()) + b"\0" * 7)
    h.expect_status(1, 204)


goaway("6.2", "padding of HEADERS longer than the frame is refused", PROTOCOL_ERROR,
       head(flags=END_HEADERS | END_STREAM | PADDED, payload=b"\xff" + block(request())[:100]))
goaway("6.2", "HEADERS too short for their priority are refused", FRAME_SIZE_ERROR,
       head(flags=END_HEADERS | END_STREAM | PRIORITY_FLAG, payload=b"\0\0\0\0"))
goaway("6.2", "HEADERS too short for padding and priority are refused", FRAME_SIZE_ERROR,
       head(flags=END_HEADERS | END_STREAM | PRIORITY_FLAG | PADDED, payload=b"\0\0\0\0\0"))

# ---- 6.3 to 6.8: frames of a fixed size ----

for size in (0, 3, 5):
    goaway("6.4", f"RST_STREAM of {size} bytes is refused", FRAME_SIZE_ERROR,
           head(fields=request("/v1/streams/a/events", "POST"), flags=END_HEADERS), raw_frame(RST_STREAM, 0, 1, b"\0" * size))
goaway("6.4", "RST_STREAM on stream 0 is refused", PROTOCOL_ERROR, raw_frame(RST_STREAM, 0, 0, b"\0\0\0\x08"))
for size in (0, 7, 9):
    goaway("6.7", f"PING of {size} bytes is refused", FRAME_SIZE_ERROR, raw_frame(PING, payload=b"\0" * size))
goaway("6.7", "PING on a stream is refused", PROTOCOL_ERROR, raw_frame(PING, 0, 1, b"\0" * 8))
for size in (0, 3, 5):
    goaway("6.9", f"WINDOW_UPDATE of {size} bytes is refused", FRAME_SIZE_ERROR, raw_frame(WINDOW_UPDATE, payload=b"\1" * size))
goaway("6.8", "GOAWAY of 7 bytes is refused", FRAME_SIZE_ERROR, raw_frame(GOAWAY, payload=b"\0" * 7))
goaway("6.8", "GOAWAY on a stream is refused", PROTOCOL_ERROR, raw_frame(GOAWAY, 0, 1, b"\0" * 8))
for size in (4, 6):
    goaway("6.3", f"PRIORITY of {size} bytes is refused", FRAME_SIZE_ERROR, raw_frame(PRIORITY, 0, 1, b"\0" * size))

# ---- 6.5: SETTINGS ----

goaway("6.5", "SETTINGS on a stream is refused", PROTOCOL_ERROR, raw_frame(SETTINGS, 0, 1))
goaway("6.5", "SETTINGS of 5 bytes is refused", FRAME_SIZE_ERROR, raw_frame(SETTINGS, payload=b"\0" * 5))
goaway("6.5", "an acknowledgement with content is refused", FRAME_SIZE_ERROR, raw_frame(SETTINGS, ACK, payload=setting(1, 1)))
goaway("6.5.2", "ENABLE_PUSH of 2 is refused", PROTOCOL_ERROR, raw_frame(SETTINGS, payload=setting(S_ENABLE_PUSH, 2)))
goaway("6.5.2", "INITIAL_WINDOW_SIZE of 2^31 is refused", FLOW_CONTROL_ERROR,
       raw_frame(SETTINGS, payload=setting(S_INITIAL_WINDOW_SIZE, 1 << 31)))
goaway("6.5.2", "INITIAL_WINDOW_SIZE of 2^32 - 1 is refused", FLOW_CONTROL_ERROR,
       raw_frame(SETTINGS, payload=setting(S_INITIAL_WINDOW_SIZE, (1 << 32) - 1)))
for value in (0, 16383, 1 << 24, (1 << 32) - 1):
    goaway("6.5.2", f"MAX_FRAME_SIZE of {value} is refused", PROTOCOL_ERROR,
           raw_frame(SETTINGS, payload=setting(S_MAX_FRAME_SIZE, value)))
harmless("6.5.2", "an unknown setting is passed over", raw_frame(SETTINGS, payload=setting(0x99, 1 << 31)))
goaway("6.5", "more settings in a frame than anybody has are refused", ENHANCE_YOUR_CALM, raw_frame(SETTINGS, payload=setting(0x99, 1) * 200))


@case("6.5.3", "each SETTINGS is acknowledged, in order", over_tls=True)
def _(h):
    for _ in range(3):
        h.frame(SETTINGS, payload=setting(S_ENABLE_PUSH, 0))
        h.frame(PING, payload=b"12345678")
    for _ in range(3):
        h.until(lambda f: f.kind == SETTINGS and f.flags & ACK, "an acknowledgement")
    h.expect_alive()


@case("6.5.2", "of a setting that comes twice the last counts", settings=setting(S_INITIAL_WINDOW_SIZE, 1000) + setting(S_INITIAL_WINDOW_SIZE, 7))
def _(h):
    stream = h.ask(h.fields("/ping"))
    h.until(lambda f: f.kind == DATA, "content")
    h.expect_alive()
    if len(h.answers[stream].body) != 7:
        raise Wrong(f"{len(h.answers[stream].body)} bytes came for a window of 7")


@case("6.5.2", "MAX_FRAME_SIZE lets the server send larger frames, and never larger than that", settings=setting(S_MAX_FRAME_SIZE, 20000)
      + setting(S_INITIAL_WINDOW_SIZE, 1 << 20))
def _(h):
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20))
    h.expect_status(h.ask(h.fields(LARGE)), 200)
    sizes = {len(f.payload) for f in h.seen if f.kind == DATA}
    if max(sizes) != 20000:
        raise Wrong(f"frames of {sorted(sizes)} bytes")


@case("6.5.2", "without it no frame is larger than 16384 bytes", settings=setting(S_INITIAL_WINDOW_SIZE, 1 << 20))
def _(h):
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20))
    h.expect_status(h.ask(h.fields(LARGE)), 200)
    if max(len(f.payload) for f in h.seen) > 16384:
        raise Wrong("a larger frame came")


@case("6.5.2", "a header table of no bytes is respected", settings=setting(S_HEADER_TABLE_SIZE, 0))
def _(h):
    h.decoder.size_max = 0
    for _ in range(3):
        h.expect_status(h.ask(h.fields("/ping")), 200)
    if h.decoder.table:
        raise Wrong("the server put a field into the table")


@case("6.5.2", "a smaller header table is agreed upon", settings=setting(S_HEADER_TABLE_SIZE, 64))
def _(h):
    for _ in range(5):
        h.expect_status(h.ask(h.fields("/ping")), 200)
        if sum(len(n) + len(v) + 32 for n, v in h.decoder.table) > 64:
            raise Wrong("the server uses a larger one")


# ---- 6.6: PUSH_PROMISE ----

goaway("6.6", "PUSH_PROMISE of a client is refused", PROTOCOL_ERROR, head(flags=END_HEADERS),
       raw_frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(request())))
goaway("6.6", "PUSH_PROMISE of a client on an idle stream is refused", PROTOCOL_ERROR,
       raw_frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(request())))

# ---- 6.7: PING ----


@case("6.7", "PING is answered with its content", over_tls=True)
def _(h):
    h.frame(PING, payload=b"\x00\xff\x80\x7fabcd")
    frame = h.until(lambda f: f.kind == PING, "the answer")
    if frame.payload != b"\x00\xff\x80\x7fabcd" or frame.flags != ACK:
        raise Wrong(f"answered by {frame}")


harmless("6.7", "an answer to a ping that nobody sent is passed over", raw_frame(PING, ACK, 0, b"12345678"))


@case("6.7", "clients that keep alive, without calls too, are never punished")
def _(h):
    for _ in range(600):
        h.frame(PING, payload=b"keepalve")
    for _ in range(600):
        h.until(lambda f: f.kind == PING and f.flags & ACK, "an answer")
    h.expect_served()


# ---- 6.8: GOAWAY ----

@case("6.8", "after the client's GOAWAY what it has asked for is still answered")
def _(h):
    stream = h.ask(h.fields("/v1/streams/goes-1/events", "POST", JSON), flags=END_HEADERS)
    h.frame(GOAWAY, payload=b"\0" * 8)
    h.frame(DATA, END_STREAM, stream, event())
    h.expect_status(stream, 201)
    h.expect_end()


@case("6.8", "the client's GOAWAY with nothing under way ends the connection")
def _(h):
    h.expect_served()
    h.frame(GOAWAY, payload=b"\0" * 8 + b"goodbye")
    h.expect_end()


@case("6.8", "the server's GOAWAY names the last stream that it has taken", over_tls=True)
def _(h):
    h.expect_status(h.ask(stream=7), 204)
    h.frame(DATA, 0, 0, b"x")
    frame = h.read()
    while frame.kind != GOAWAY:
        frame = h.read()
        if frame is None:
            raise Wrong("no GOAWAY")
    if struct.unpack(">I", frame.payload[:4])[0] != 7:
        raise Wrong(f"last stream {struct.unpack('>I', frame.payload[:4])[0]}")


# ---- 6.9: flow control ----

goaway("6.9", "WINDOW_UPDATE of nothing on the connection is refused", PROTOCOL_ERROR, raw_frame(WINDOW_UPDATE, payload=b"\0\0\0\0"))
goaway("6.9.1", "a window of the connection beyond 2^31 - 1 is refused", FLOW_CONTROL_ERROR,
       raw_frame(WINDOW_UPDATE, payload=b"\x7f\xff\xff\xff"), over_tls=True)


goaway("6.9", "WINDOW_UPDATE of nothing on a stream is refused", PROTOCOL_ERROR,
       head(fields=request("/v1/streams/a/events", "POST"), flags=END_HEADERS), raw_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"))


@case("6.9.1", "a window of a stream beyond 2^31 - 1 resets the stream")
def _(h):
    stream = h.ask(h.fields("/v1/streams/a/events", "POST", JSON), flags=END_HEADERS)
    h.frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff")
    h.expect_reset(stream, FLOW_CONTROL_ERROR)
    h.expect_served()


@case("6.9", "the reserved bit of a window's increment is passed over", settings=setting(S_INITIAL_WINDOW_SIZE, 0))
def _(h):
    stream = h.ask(h.fields("/ping"))
    h.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 31 | 1000))
    h.expect_status(stream, 200)


@case("6.9.1", "a window of nothing holds the content, not the head", over_tls=True, settings=setting(S_INITIAL_WINDOW_SIZE, 0))
def _(h):
    stream = h.ask(h.fields("/ping"))
    h.until(lambda f: f.kind == HEADERS, "the head")
    h.expect_alive()
    if h.answers[stream].body:
        raise Wrong("content came")
    for _ in range(3):
        h.frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1")
        if len(h.until(lambda f: f.kind == DATA, "content").payload) != 1:
            raise Wrong("not one byte came")
    h.frame(WINDOW_UPDATE, 0, stream, b"\0\0\x40\0")
    h.expect_status(stream, 200)


@case("6.9.1", "an answer without content needs no window", settings=setting(S_INITIAL_WINDOW_SIZE, 0))
def _(h):
    h.expect_status(h.ask(), 204)


@case("6.9.1", "the window of the connection is shared and kept to", over_tls=True, settings=setting(S_INITIAL_WINDOW_SIZE, 1 << 20))
def _(h):
    streams = [h.ask(h.fields(LARGE, more=login(h))) for _ in range(2)]
    h.until(lambda f: f.kind == DATA, "content")
    h.expect_alive()
    came = sum(len(h.answers[s].body) for s in streams if s in h.answers)
    if came != 65535:
        raise Wrong(f"{came} bytes came for a window of 65535")
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 22))
    for s in streams:
        h.expect_status(s, 200)


@case("6.9.2", "a change of INITIAL_WINDOW_SIZE holds for streams that are open", settings=setting(S_INITIAL_WINDOW_SIZE, 0))
def _(h):
    stream = h.ask(h.fields("/ping"))
    h.until(lambda f: f.kind == HEADERS, "the head")
    h.frame(SETTINGS, payload=setting(S_INITIAL_WINDOW_SIZE, 5))
    h.until(lambda f: f.kind == DATA, "content")
    h.expect_alive()
    if len(h.answers[stream].body) != 5:
        raise Wrong(f"{len(h.answers[stream].body)} bytes came")


@case("6.9.2", "a window that became negative has to be made good first", settings=setting(S_INITIAL_WINDOW_SIZE, 20000))
def _(h):
    stream = h.ask(h.fields(LARGE))
    while len(h.answers.get(stream, Answer()).body) < 20000:
        h.until(lambda f: f.kind == DATA, "content")
    h.frame(SETTINGS, payload=setting(S_INITIAL_WINDOW_SIZE, 10000))
    h.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 10000))
    h.expect_alive()
    if len(h.answers[stream].body) != 20000:
        raise Wrong(f"{len(h.answers[stream].body)} bytes came for a window of 0")
    h.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 3))
    h.until(lambda f: f.kind == DATA, "content")
    h.expect_alive()
    if len(h.answers[stream].body) != 20003:
        raise Wrong(f"{len(h.answers[stream].body)} bytes came for a window of 3")


@case("6.9.2", "INITIAL_WINDOW_SIZE that makes an open window too large breaks that stream", settings=setting(S_INITIAL_WINDOW_SIZE, 0))
def _(h):
    stream = h.ask(h.fields("/v1/streams/a/events", "POST", JSON), flags=END_HEADERS)
    h.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 100))
    h.frame(SETTINGS, payload=setting(S_INITIAL_WINDOW_SIZE, (1 << 31) - 1))
    h.expect_reset(stream, FLOW_CONTROL_ERROR)


@case("6.9", "the client gets back what it has sent, of a request that was refused too", over_tls=True)
def _(h):
    for _ in range(20):  # together more than the window of the connection
        stream = h.ask(h.fields("/no-such-path", "POST", JSON), flags=END_HEADERS)
        for _ in range(60):
            h.frame(DATA, 0, stream, b"x" * 16384)
        h.expect_status(stream, 404)
    h.expect_served()


# ---- 6.10: CONTINUATION ----

@case("6.10", "a header block may go on in further frames", over_tls=True)
def _(h):
    payload = block([*h.fields(), ("x-filler", "y" * 3000)])
    h.frame(HEADERS, END_STREAM, 1, payload[:10])
    for i in range(3):
        h.frame(CONTINUATION, 0, 1, payload[10 + 500 * i:510 + 500 * i])
    h.frame(CONTINUATION, END_HEADERS, 1, payload[1510:])
    h.expect_status(1, 204)


@case("6.10", "an empty CONTINUATION is one")
def _(h):
    h.frame(HEADERS, END_STREAM, 1, block(h.fields()))
    h.frame(CONTINUATION, END_HEADERS, 1)
    h.expect_status(1, 204)


goaway("6.10", "CONTINUATION on stream 0 is refused", PROTOCOL_ERROR, raw_frame(CONTINUATION, END_HEADERS, 0, b""))
goaway("6.10", "CONTINUATION behind the end of a block is refused", PROTOCOL_ERROR, head(flags=END_HEADERS),
       raw_frame(CONTINUATION, END_HEADERS, 1, b""))
goaway("6.10", "CONTINUATION behind DATA is refused", PROTOCOL_ERROR, head(flags=END_HEADERS), raw_frame(DATA, 0, 1, b"x"),
       raw_frame(CONTINUATION, END_HEADERS, 1, b""))

# ---- 8.1: messages ----


@case("8.1", "trailers of a request are passed over", over_tls=True)
def _(h):
    stream = h.ask(h.fields("/v1/streams/trailers-1/events", "POST", [*JSON, *login(h)]), flags=END_HEADERS)
    h.frame(DATA, 0, stream, event())
    h.ask([("x-checksum", "1")], stream=stream)
    h.expect_status(stream, 201)


@case("8.1", "a second header block that does not end the request is malformed")
def _(h):
    stream = h.ask(h.fields("/v1/streams/a/events", "POST", JSON), flags=END_HEADERS)
    h.ask([("x-checksum", "1")], stream=stream, flags=END_HEADERS)
    h.expect_reset(stream, PROTOCOL_ERROR)


@case("8.1", "a pseudo-header in trailers is malformed")
def _(h):
    stream = h.ask(h.fields("/v1/streams/a/events", "POST", JSON), flags=END_HEADERS)
    h.frame(DATA, 0, stream, event())
    h.ask([(":method", "GET")], stream=stream)
    h.expect_reset(stream, PROTOCOL_ERROR)


@case("8.1", "the rest of a request that has been answered is thrown away if it is small")
def _(h):
    stream = h.ask(h.fields("/no-such-path", "POST", JSON), flags=END_HEADERS)
    h.expect_status(stream, 404)
    h.frame(DATA, END_STREAM, stream, b"x" * 10000)
    h.expect_alive()
    if h.answers[stream].reset is not None:
        raise Wrong("the stream was reset")
    h.expect_served()


@case("8.1", "an answer that needs no more of a large request tells the client to stop sending")
def _(h):
    stream = h.ask(h.fields("/no-such-path", "POST", [*JSON, ("content-length", "100000000")]), flags=END_HEADERS)
    h.expect_status(stream, 404)
    h.expect_reset(stream, NO_ERROR)
    h.expect_served()


for length, title in [("11", "less content than content-length says"), ("9", "more content than that")]:
    @case("8.1.1", f"{title} is malformed")
    def _(h, length=length):
        stream = h.ask(h.fields("/v1/streams/a/events", "POST", [("content-length", length)]), flags=END_HEADERS)
        h.frame(DATA, END_STREAM, stream, b"x" * 10)
        h.expect_reset(stream, PROTOCOL_ERROR)
        h.expect_served()


@case("8.1.1", "no content where content-length says some is malformed")
def _(h):
    h.expect_reset(h.ask(h.fields("/v1/streams/a/events", "POST", [("content-length", "1")])), PROTOCOL_ERROR)


for length in ("-1", "1x", "+1", "0x1", "18446744073709551617", ""):
    malformed("8.1.1", f"content-length {length!r} is malformed", request("/v1/streams/a/events", "POST", [("content-length", length)]))
malformed("8.1.1", "two lengths are malformed", request("/v1/streams/a/events", "POST", [("content-length", "1"), ("content-length", "2")]))

# ---- 8.2: fields ----

malformed("8.2", "a name in upper case is malformed", [*request(), ("X-Upper", "1")])
malformed("8.2.1", "a name with a space is malformed", [*request(), ("x name", "1")])
malformed("8.2.1", "a name with a colon inside is malformed", [*request(), ("x:name", "1")])
malformed("8.2.1", "an empty name is malformed", [*request(), ("", "1")])
malformed("8.2.1", "a name with a control character is malformed", [*request(), ("x\x01", "1")])
malformed("8.2.1", "a name that is no ASCII is malformed", [*request(), ("x\u00e9", "1")])
for title, value in [("a line feed", "a\nb"), ("a carriage return", "a\rb"), ("a zero byte", "a\0b"), ("a second header", "1\r\nx-b: 2")]:
    malformed("8.2.1", f"a value with {title} is malformed", [*request(), ("x-a", value)])
for title, value in [("a space at the beginning", " a"), ("a space at the end", "a "), ("a tab at the end", "a\t")]:
    malformed("8.2.1", f"a value with {title} is malformed", [*request(), ("x-a", value)])
for name, value in [("connection", "close"), ("keep-alive", "5"), ("proxy-connection", "close"), ("transfer-encoding", "chunked"),
                    ("upgrade", "h2c")]:
    malformed("8.2.2", f"the header {name} is malformed", [*request(), (name, value)])
malformed("8.2.2", "te with anything but trailers is malformed", [*request(), ("te", "gzip")])


@case("8.2.2", "te: trailers is taken")
def _(h):
    h.expect_status(h.ask(h.fields(more=[("te", "trailers")])), 204)


@case("8.2.3", "cookies may come in pieces")
def _(h):
    h.expect_status(h.ask(h.fields(more=[("cookie", "a=1"), ("cookie", "b=2")])), 204)


# ---- 8.3: pseudo-headers ----

malformed("8.3", "an unknown pseudo-header is malformed", [*request(), (":unknown", "1")])
malformed("8.3", "a pseudo-header of answers is malformed", [(":status", "200"), *request()])
malformed("8.3", "a pseudo-header behind a header is malformed", [("x-a", "1"), *request()])
for name in (":method", ":scheme", ":path"):
    malformed("8.3.1", f"a request without {name} is malformed", [f for f in request() if f[0] != name])
    malformed("8.3.1", f"a request with {name} twice is malformed", [*request()[:3], next(f for f in request() if f[0] == name), request()[3]])
malformed("8.3.1", "an empty :path is malformed", request(""))
malformed("8.3.1", "a :path that does not begin with a slash is malformed", request("ping"))
malformed("8.3.1", "a whole URL as :path is malformed", request("http://localhost/ping"))
malformed("8.3.1", "an empty :method is malformed", request("/ping", ""))
malformed("8.3.1", "a :method with a space is malformed", request("/ping", "GET /"))
malformed("8.3.1", "* is a path of OPTIONS only", request("*"))
malformed("8.3.1", ":path with a space is malformed", request("/ping HTTP/1.1"))
malformed("8.3.1", ":path with a line end is malformed", request("/ping\r\nx: y"))
malformed("8.3.1", "an :authority with a slash is malformed", request(authority="local/host"))
malformed("8.5", "CONNECT with a path is malformed", request("/", "CONNECT"))
malformed("8.3.1", ":protocol that was not offered is malformed", [(":protocol", "websocket"), *request("/", "CONNECT")])


@case("8.3.1", "a Host that differs from :authority is refused")
def _(h):
    h.expect_status(h.ask([*h.fields("/ping"), ("host", "elsewhere")]), 400)
    h.expect_status(h.ask([*h.fields("/ping"), ("host", "localhost")]), 200)
    h.expect_served()


@case("8.3.1", "a Host instead of :authority is taken")
def _(h):
    h.expect_status(h.ask([*h.fields()[:3], ("host", "localhost")]), 204)


@case("8.3.1", "OPTIONS * is answered and nothing else happens")
def _(h):
    answer = h.answer(h.ask(request("*", "OPTIONS")))
    if not answer.heads or answer.status not in (204, 404):
        raise Wrong(f"answered {answer.fields}")
    h.expect_served()


@case("8.5", "CONNECT is refused: this is no proxy")
def _(h):
    answer = h.answer(h.ask([(":method", "CONNECT"), (":authority", "localhost:1")]))
    if answer.reset is None and answer.status < 400:
        raise Wrong(f"answered {answer.fields}")
    h.expect_served()


@case("8.3.1", "HEAD has the length of GET and no content", over_tls=True)
def _(h):
    got = h.expect_status(h.ask(h.fields("/ping")), 200)
    answer = h.expect_status(h.ask(h.fields("/ping", "HEAD")), 200)
    if answer.body or int(answer.fields.get(b"content-length", 0)) not in (0, len(got.body)):
        raise Wrong(f"{answer.fields} and {len(answer.body)} bytes")


@case("8.2", "no answer has a header that belongs to HTTP/1.1, and :status comes first", over_tls=True, settings=WIDE)
def _(h):
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
    for path in ("/ping", "/no-such-path", "/info", LARGE):
        answer = h.answer(h.ask(h.fields(path)))
        names = [n for n, _ in answer.heads[0]]
        if names[0] != b":status" or set(names) & {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"}:
            raise Wrong(f"{path}: {names}")


@case("10.5.1", "a header list over the limit is refused, the connection goes on", over_tls=True)
def _(h):
    payload = block([*h.fields(), *[(f"x-{i}", "y" * 1000) for i in range(17)]])
    stream = h.stream()
    h.frame(HEADERS, END_STREAM, stream, payload[:16384])
    h.frame(CONTINUATION, END_HEADERS, stream, payload[16384:])
    h.expect_status(stream, 431)
    h.expect_served()


@case("10.5.1", "101 headers are refused, 100 are not")
def _(h):
    h.expect_status(h.ask(h.fields(more=[(f"x-{i}", "") for i in range(100)])), 204)
    h.expect_status(h.ask(h.fields(more=[(f"x-{i}", "") for i in range(101)])), 431)
    h.expect_served()


# ---- gRPC over HTTP/2 ----

@case("gRPC", "a unary call has a head, one message and trailers", over_tls=True)
def _(h):
    answer = h.expect_grpc(call(h, body=message()), 0)
    if len(answer.heads) != 2 or answer.fields[b"content-type"] != b"application/grpc" or not answer.is_ended:
        raise Wrong(f"{answer.heads}")
    if answer.body[0] or struct.unpack(">I", answer.body[1:5])[0] != len(answer.body) - 5:
        raise Wrong("the message is not framed")
    if answer.reset is not None:
        raise Wrong("a call that went well was reset")


@case("gRPC", "a message may come byte by byte")
def _(h):
    stream = call(h, READ)
    for byte in message(read_all(3)):
        h.frame(DATA, 0, stream, bytes([byte]))
    h.frame(DATA, END_STREAM, stream)
    h.expect_grpc(stream, 0)


@case("gRPC", "a message may come with padding around each byte")
def _(h):
    stream = call(h, READ)
    for byte in message(read_all(3)):
        h.frame(DATA, PADDED, stream, b"\x03" + bytes([byte]) + b"\0" * 3)
    h.frame(DATA, END_STREAM | PADDED, stream, b"\x02\0\0")
    h.expect_grpc(stream, 0)


@case("gRPC", "a call without te: trailers is taken, and +proto is", over_tls=True)
def _(h):
    h.expect_grpc(call(h, body=message(), more=[("content-type", "application/grpc+proto")]), 0)


for kind in ("application/grpc+json", "application/grpc-web", "application/grpc-web+proto", "text/plain"):
    @case("gRPC", f"content-type {kind} is refused with 415")
    def _(h, kind=kind):
        h.expect_status(call(h, body=message(), more=[("content-type", kind)]), 415)


@case("gRPC", "a method that is not there is UNIMPLEMENTED, by trailers alone")
def _(h):
    answer = h.expect_grpc(call(h, FEATURES + "X", message()), 12)
    if len(answer.heads) != 1 or answer.body:
        raise Wrong("a head and trailers came")
    h.expect_grpc(call(h, "/no.such.Service/Method", message()), 12)


@case("gRPC", "GET of a method is refused as HTTP", over_tls=True)
def _(h):
    answer = h.answer(h.ask(h.fields(FEATURES, "GET")))
    if answer.status not in (405, 415):
        raise Wrong(f"status {answer.status}")


@case("gRPC", "a compressed message is UNIMPLEMENTED and names what is taken")
def _(h):
    answer = h.expect_grpc(call(h, body=message(b"x", 1)), 12)
    if answer.trailers.get(b"grpc-accept-encoding") != b"identity":
        raise Wrong(f"{answer.trailers}")


@case("gRPC", "a compressed flag of 2 is INVALID_ARGUMENT")
def _(h):
    h.expect_grpc(call(h, body=message(b"x", 2)), 3)


for size in ((1 << 32) - 1, 1 << 31, (1 << 31) - 1):
    @case("gRPC", f"a message that claims {size} bytes is refused by its first five")
    def _(h, size=size):
        stream = call(h, READ, message(b"", 0, size), flags=0)
        answer = h.expect_grpc(stream, 8)
        if str(size).encode() not in answer.trailers[b"grpc-message"]:
            raise Wrong(f"{answer.trailers}")
        h.expect_reset(stream, NO_ERROR)


@case("gRPC", "a message that is cut short is INVALID_ARGUMENT")
def _(h):
    h.expect_grpc(call(h, READ, message(b"abc", 0, 4)), 3)
    h.expect_grpc(call(h, READ, b"\0\0\0"), 3)


@case("gRPC", "a unary call with no message, or two, is INVALID_ARGUMENT")
def _(h):
    h.expect_grpc(call(h, body=b""), 3)
    h.expect_grpc(call(h, body=message() + message()), 3)


@case("gRPC", "bytes that are no message of the method are INVALID_ARGUMENT")
def _(h):
    h.expect_grpc(call(h, READ, message(b"\xff" * 40)), 3)


@case("gRPC", "a stream of messages is refused at the first that is malformed, and the client told to stop")
def _(h):
    stream = call(h, BATCH_APPEND, message(b"\xff" * 40), flags=0)
    h.expect_grpc(stream, 3)
    h.expect_reset(stream, NO_ERROR)


for value in ("", "5", "S", "123456789S", "1X", "-1S", "1 S", "1.5S", "0x1S"):
    @case("gRPC", f"grpc-timeout {value!r} is INVALID_ARGUMENT")
    def _(h, value=value):
        h.expect_grpc(call(h, body=message(), more=[*GRPC, ("grpc-timeout", value)]), 3)


@case("gRPC", "a subscription ends with DEADLINE_EXCEEDED when its time has passed", over_tls=True, settings=WIDE)
def _(h):
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
    began = time.monotonic()
    h.expect_grpc(call(h, READ, message(read_all()), [*GRPC, ("grpc-timeout", "200m"), *login(h)]), 4)
    if not 0.15 < time.monotonic() - began < 2:
        raise Wrong(f"after {time.monotonic() - began:.2f} s")


@case("gRPC", "a timeout of a nanosecond is one", settings=WIDE)
def _(h):
    h.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
    h.expect_grpc(call(h, READ, message(read_all()), [*GRPC, ("grpc-timeout", "1n")]), 4)


@case("gRPC", "binary metadata and unknown headers are passed over")
def _(h):
    h.expect_grpc(call(h, body=message(), more=[*GRPC, ("x-trace-bin", "AAEC"), ("x-broken-bin", "%%%"), ("grpc-encoding", "identity"),
                                                ("grpc-accept-encoding", "gzip,identity"), ("user-agent", "grpc-test/1")]), 0)


@case("gRPC", "headers over the limit are RESOURCE_EXHAUSTED")
def _(h):
    h.expect_grpc(call(h, body=message(), more=[*GRPC, *[(f"x-{i}", "") for i in range(101)]]), 8)
    h.expect_served()


@case("gRPC", "a client that cancels is forgotten, whenever it does", over_tls=True)
def _(h):
    for flags in (0, END_STREAM):
        for body in (None, b"\0\0", message(read_all())):
            stream = call(h, READ, body, [*GRPC, *login(h)], flags)
            h.frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
    h.expect_alive()
    h.expect_served()


@case("gRPC", "every status comes with HTTP's 200")
def _(h):
    for path, body in [(READ, b""), (READ, message(b"\xff")), ("/x/y", message()), (FEATURES, message(b"", 1))]:
        if h.answer(call(h, path, body)).status != 200:
            raise Wrong(f"{path}: not 200")


@case("gRPC", "a window of nothing holds the message and the trailers, not the head", settings=setting(S_INITIAL_WINDOW_SIZE, 0))
def _(h):
    stream = call(h, body=message())
    h.until(lambda f: f.kind == HEADERS, "the head")
    h.expect_alive()
    if h.answers[stream].body or h.answers[stream].is_ended:
        raise Wrong("more came")
    h.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 16))
    h.expect_grpc(stream, 0)


# ---- abuse (10.5): the offender's connection ends within a second, and only that ----

def flood(section, title, frames, code=ENHANCE_YOUR_CALM, settings=b"", over_tls=False, before=b""):
    def run(h):
        data, at = b"".join(frames()), 0
        began = time.monotonic()
        h.send(before)
        h.socket.settimeout(0.02)
        while at < len(data) and time.monotonic() - began < 4:
            try:
                at += h.socket.send(data[at:at + 65536])
            except (TimeoutError, ssl.SSLWantWriteError):
                pass
            except OSError:
                break
            try:
                while len(h.buffer) < 1 << 22 and h._more():
                    pass
            except (TimeoutError, ssl.SSLWantReadError):
                pass
            if b"\x00\x00\x00\x0b" in h.buffer[-200:]:
                break
        h.socket.settimeout(5)
        h.expect_goaway(code)
        if time.monotonic() - began > FLOOD_SECONDS_MAX:
            raise Wrong(f"the end took {time.monotonic() - began:.1f} s")

    cases.append((section, title, over_tls, False, settings, run))


FLOOD_SECONDS_MAX = 2.5  # of it the client needs most to say so much

flood("10.5", "rapid resets end the connection",
      lambda: [head(1 + 2 * i) + raw_frame(RST_STREAM, 0, 1 + 2 * i, b"\0\0\0\x08") for i in range(25000)], over_tls=True)


# A client must not have more streams open than allowed, so these come in pieces.
for title, frames in [("making the server reset streams for their windows",
                       lambda s: head(s, request("/v1/streams/a/events", "POST"), END_HEADERS) + raw_frame(WINDOW_UPDATE, 0, s, b"\x7f\xff\xff\xff")),
                      ("sending malformed requests", lambda s: head(s, [("X", "1")]))]:
    @case("10.5", f"{title} again and again ends the connection")
    def _(h, frames=frames):
        began = time.monotonic()
        for at in range(0, 30000, 400):
            h.send(b"".join(frames(1 + 2 * (at + i)) for i in range(400)) + raw_frame(PING, payload=b"12345678"))
            frame = h.read()
            while frame.kind != GOAWAY and not (frame.kind == PING and frame.flags & ACK):
                frame = h.read()
            if frame.kind == GOAWAY:
                break
        if frame.kind != GOAWAY or frame.code() != ENHANCE_YOUR_CALM:
            raise Wrong(f"{frame}")
        h.expect_end()
        if time.monotonic() - began > FLOOD_SECONDS_MAX:
            raise Wrong(f"the end took {time.monotonic() - began:.1f} s")


flood("10.5", "pings without end end the connection", lambda: [raw_frame(PING, payload=b"floodddd")] * 40000, over_tls=True)
flood("10.5", "answers to pings that nobody sent, without end, end the connection", lambda: [raw_frame(PING, ACK, 0, b"floodddd")] * 40000)
flood("10.5", "settings without end end the connection", lambda: [raw_frame(SETTINGS, payload=setting(S_ENABLE_PUSH, 0))] * 40000)
flood("10.5", "priorities without end end the connection",
      lambda: [raw_frame(PRIORITY, 0, 1 + 2 * i, struct.pack(">IB", 0, 16)) for i in range(40000)])
flood("10.5", "frames of unknown types without end end the connection", lambda: [raw_frame(0xfa)] * 60000)
flood("10.5", "updates of the window without end end the connection", lambda: [raw_frame(WINDOW_UPDATE, payload=b"\0\0\0\1")] * 60000)
flood("10.5", "updates of a stream's window without end end the connection", lambda: [raw_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")] * 60000,
      before=head(1, request("/v1/streams/a/events", "POST"), END_HEADERS))
flood("10.5", "empty DATA without end end the connection", lambda: [raw_frame(DATA, 0, 1)] * 60000,
      before=head(1, request("/v1/streams/a/events", "POST"), END_HEADERS))
flood("10.5", "DATA of padding alone without end end the connection", lambda: [raw_frame(DATA, PADDED, 1, b"\x01\0")] * 60000,
      before=head(1, request("/v1/streams/a/events", "POST"), END_HEADERS))
flood("10.5", "CONTINUATION without end ends the connection", lambda: [raw_frame(CONTINUATION, 0, 1, b"")] * 10000,
      before=head(1, flags=END_STREAM), over_tls=True)
flood("10.5", "CONTINUATION with fields without end ends the connection",
      lambda: [raw_frame(CONTINUATION, 0, 1, block([("x-a", "y" * 1000)]) * 10)] * 1000, before=head(1, flags=END_STREAM))
flood("10.5", "resets of a stream that is over, without end, end the connection", lambda: [raw_frame(RST_STREAM, 0, 1, b"\0\0\0\x08")] * 60000,
      before=head(1))


@case("10.5", "an HPACK bomb ends the connection")
def _(h):
    bomb = indexed("x-bomb", "y" * 4000)
    h.ask(payload=block(h.fields()) + bomb)
    h.expect_status(1, 204)
    h.frame(HEADERS, END_HEADERS | END_STREAM, 3, block(h.fields()) + integer(62, 7, 0x80) * 14000)  # 56 MB of headers
    h.expect_goaway(ENHANCE_YOUR_CALM, within=1)


@case("10.5", "an HPACK bomb that is just a little too large is an error of its request")
def _(h):
    h.ask(payload=block(h.fields()) + indexed("x-bomb", "y" * 4000))
    h.expect_status(1, 204)
    h.ask(payload=block(h.fields()) + integer(62, 7, 0x80) * 8)
    h.expect_status(3, 431)
    h.expect_served()


# ---- running them ----

def login(h):
    return [("authorization", "Basic YWRtaW46Y2hhbmdlaXQ=")] if h.has_tls else []


def run(counts, server, is_tls, wanted):
    bystander = H2(server)

    for section, title, over_tls, is_bare, settings, fn in cases:
        name = f"{section}: {title}" + (" (TLS)" if is_tls else "")
        if (is_tls and not over_tls) or not wanted.search(name):
            continue
        h, problem, began = None, None, time.monotonic()
        try:
            h = H2(server, settings, is_bare)
            fn(h)
        except Wrong as e:
            problem = str(e)
        except OSError as e:
            problem = f"{type(e).__name__}: {e}"
        finally:
            if h:
                h.close()
        try:
            if not server.is_alive():
                counts.result(name, f"the server is gone ({problem}): {server.log()[-2000:]}")
                return False
            bystander.expect_served()
        except (Wrong, OSError) as e:
            problem = f"another connection: {e}" + (f" ({problem})" if problem else "")
            bystander = H2(server)
        counts.result(f"{name} [{time.monotonic() - began:.1f} s]" if time.monotonic() - began > 0.5 else name, problem)
    return True


def main():
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    counts, wanted = Counts(), re.compile(only)
    server = Server("--memory-only")
    h = H2(server)
    for _ in range(LARGE_EVENTS):
        h.expect_status(h.post("/v1/streams/large/events", event(LARGE_EVENT_SIZE), JSON), 201)
    h.close()
    if run(counts, server, False, wanted):
        code = server.stop()
        counts.result("the server stops in order afterwards", None if code == 0 else f"exit code {code}")
    if "--no-tls" not in sys.argv:
        server = Server("--tls", "on", "--compat-default-password")
        server.wait_for_users()
        h = H2(server)
        for _ in range(LARGE_EVENTS):
            h.expect_status(h.post("/v1/streams/large/events", event(LARGE_EVENT_SIZE), [*JSON, *login(h)]), 201)
        h.close()
        if run(counts, server, True, wanted):
            code = server.stop()
            counts.result("the server with TLS stops in order afterwards", None if code == 0 else f"exit code {code}")
    counts.end()


main()
