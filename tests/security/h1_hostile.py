#!/usr/bin/env python3
"""HTTP/1.1 by clients that mean harm, and bodies that mean harm over it: smuggling, line ends, lengths, depth, encodings, slowness.
Each has its exact answer, and nothing behind a refused request is taken for another one.

    tests/security/h1_hostile.py [NILO]

Its last line is `N passed, N failed, N skipped`."""

import concurrent.futures
import json
import socket
import time

from wire import *  # noqa: F403: this is the other half of one program

HOST = b"Host: localhost\r\n"
SMUGGLED = b"POST /v1/streams/smuggled/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n" \
           b'{"type":"S"}'
# As /info tells them.
HEAD_SIZE_MAX = LINE_SIZE_MAX = HEADERS_MAX = EVENT_SIZE_MAX = NAME_SIZE_MAX = TYPE_SIZE_MAX = None

counts = Counts()
server = None


def ask(data, is_head=False):
    """The first answer to these bytes."""
    h = H1(server)
    h.send(data)
    try:
        return h, h.answer(is_head)
    except socket.timeout:
        h.close()
        return None, (0, [], b"no answer")


def get(path, more=b"", version=b"HTTP/1.1", method=b"GET"):
    return method + b" " + path + b" " + version + b"\r\n" + HOST + more + b"\r\n"


def post(path, body, more=b"Content-Type: application/json\r\n", length=None):
    length = str(len(body)).encode() if length is None else length
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + more + b"Content-Length: " + length + b"\r\n\r\n" + body


def chunked(chunks, more=b"Content-Type: application/json\r\n"):
    return b"POST /v1/streams/chunked-1/events HTTP/1.1\r\n" + HOST + more + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def expect(name, data, status, code=None, says=None, is_head=False):
    """This request is answered so, with a problem of that code; the server lives."""
    h, (got, headers, body) = ask(data, is_head) or (None, (None, [], b""))
    problem = None
    if got != status:
        problem = f"status {got} instead of {status}: {body[:200]}"
    elif code and json.loads(body)["type"] != f"urn:nilo:{code}":
        problem = f"{body[:200]} instead of {code}"
    elif says and says not in body:
        problem = f"{body[:300]} does not say {says}"
    elif not server.is_alive():
        problem = f"the server is gone: {server.log()[-2000:]}"
    if h:
        h.close()
    counts.result(name, problem)


def expect_no_smuggling(name, data, status=400):
    """Refused, the connection is closed, and what stands behind is not taken for a request."""
    h, answer = ask(data + SMUGGLED)
    problem = None
    if not answer or answer[0] != status:
        problem = f"answered {answer and answer[0]} instead of {status}: {answer and answer[2][:200]}"
    else:
        try:
            second = h.answer()
            if second:
                problem = f"a second answer with {second[0]}"
        except (socket.timeout, Wrong) as e:
            problem = f"not closed: {e}"
    if h:
        h.close()
    counts.result(name, problem)


# ---- where a request ends ----

def smuggling():
    path = b"POST /v1/streams/s-1/events HTTP/1.1\r\n" + HOST
    for name, more, body in [
        ("Content-Length and Transfer-Encoding", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        ("Transfer-Encoding and Content-Length", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
        ("two lengths that differ", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"12345"),
        ("two lengths that agree", b"Content-Length: 5\r\nContent-Length: 5\r\n", b"12345"),
        ("a list of lengths", b"Content-Length: 5, 5\r\n", b"12345"),
        ("a length with a plus", b"Content-Length: +5\r\n", b"12345"),
        ("a length of -1", b"Content-Length: -1\r\n", b""),
        ("a length in hexadecimal", b"Content-Length: 0x5\r\n", b"12345"),
        ("a length with an underscore", b"Content-Length: 1_0\r\n", b"1234567890"),
        ("an empty length", b"Content-Length: \r\n", b""),
        ("a length of 2^64", b"Content-Length: 18446744073709551616\r\n", b""),
        ("a length of 2^64 + 5", b"Content-Length: 18446744073709551621\r\n", b"12345"),
        ("a length with a space inside", b"Content-Length: 1 0\r\n", b"1234567890"),
        ("a length behind a vertical tab", b"Content-Length:\x0b5\r\n", b"12345"),
        ("a space before the colon", b"Content-Length : 5\r\n", b"12345"),
        ("a tab before the colon", b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n"),
        ("a folded header", b"X-A: 1\r\n Content-Length: 5\r\n", b"12345"),
        ("a folded Transfer-Encoding", b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
        ("a header folded by a tab", b"X-A: 1\r\n\tb\r\n", b""),
        ("a first header that begins with a space", b" X-A: 1\r\n", b""),
        ("a bare line feed in the head", b"X-A: 1\nContent-Length: 5\r\n", b"12345"),
        ("a bare carriage return in a value", b"X-A: 1\rContent-Length: 5\r\n", b"12345"),
        ("a zero byte in a value", b"X-A: 1\0\r\n", b""),
        ("a header without a colon", b"Content-Length\r\n", b""),
        ("a header without a name", b": 5\r\n", b""),
        ("a header with a space in its name", b"Content Length: 5\r\n", b"12345"),
        ("a name that is no ASCII", b"Content-L\xc3\xa4ngth: 5\r\n", b"12345"),
        ("two Transfer-Encodings", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        ("a second Host", b"Host: localhost\r\n", b""),
        ("a Host with a slash", b"", b""),
    ]:
        data = path + more + b"\r\n" + body
        if name == "a Host with a slash":
            data = data.replace(b"localhost", b"local/host")
        expect_no_smuggling(f"smuggling: {name} is refused", data)
    for name, more, status in [("identity", b"identity", 400), ("gzip, chunked", b"gzip, chunked", 501),
                               ("chunked, identity", b"chunked, identity", 400), ("chunked with a parameter", b"chunked;q=1", 400),
                               ("xchunked", b"xchunked", 400), ("an empty coding", b"", 400)]:
        expect_no_smuggling(f"smuggling: Transfer-Encoding {name} is refused",
                            path + b"Transfer-Encoding: " + more + b"\r\n\r\n0\r\n\r\n", status)
    expect_no_smuggling("smuggling: Transfer-Encoding in HTTP/1.0 is refused",
                        b"POST /v1/streams/s-1/events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    expect_no_smuggling("smuggling: no Host in HTTP/1.1 is refused", b"GET /ping HTTP/1.1\r\n\r\n")
    expect_no_smuggling("smuggling: an expectation that nobody knows is refused", get(b"/ping", b"Expect: wonders\r\n"), 417)


def chunks():
    body = b'{"type":"T"}'
    size = f"{len(body):x}".encode()
    for name, data in [("as they should be", size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with an extension", size + b";name=value\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with leading zeros", b"000" + size + b"\r\n" + body + b"\r\n000\r\n\r\n"),
                       ("in upper case", size.upper() + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with a trailer", size + b"\r\n" + body + b"\r\n0\r\nX-Sum: 1\r\n\r\n"),
                       ("of one byte", b"".join(b"1\r\n" + bytes([b]) + b"\r\n" for b in body) + b"0\r\n\r\n")]:
        expect(f"chunks: {name} are taken", chunked(data), 201)
    for name, data in [("with a bare line feed behind the size", size + b"\n" + body + b"\r\n0\r\n\r\n"),
                       ("with a bare line feed behind the content", size + b"\r\n" + body + b"\n0\r\n\r\n"),
                       ("with anything behind the content", size + b"\r\n" + body + b"XX0\r\n\r\n"),
                       ("of a negative size", b"-1\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of a size with a plus", b"+" + size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of a size with 0x", b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of a size behind a space", b" " + size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of a size before a space", size + b" \r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of no size", b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of 2^64 bytes", b"10000000000000000\r\n" + body),
                       ("of 2^64 bytes and some", b"1000000000000000c\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("of a size of a hundred zeros", b"0" * 100 + size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with a control character in an extension", size + b";a=\x01\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with a bare carriage return in an extension", size + b";a=\rb\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with an extension without end", size + b";" + b"a" * 20000 + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with a thousand long extensions", (b"1;" + b"a" * 100 + b"\r\n \r\n") * 1000 + size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
                       ("with trailers without end", size + b"\r\n" + body + b"\r\n0\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n"),
                       ("with a bare line feed in a trailer", size + b"\r\n" + body + b"\r\n0\r\nX: y\n\r\n")]:
        expect_no_smuggling(f"chunks: {name} are refused", chunked(data))
    h = H1(server)
    h.send(chunked(b"fffffffffffffff\r\n"))
    began, memory, answer, is_closed = time.monotonic(), server.memory(), None, False
    h.socket.settimeout(0.001)
    while time.monotonic() - began < 10:  # a client that does not look for answers yet gets two seconds to find this one
        try:
            h.socket.send(b" " * (1 << 18))
            time.sleep(0.002)
            answer = answer or h.answer()
        except TimeoutError:
            pass
        except OSError:
            is_closed = True
            break
    grown = server.memory() - memory
    counts.result("chunks: a chunk of 2^60 bytes is refused at the limit of the body, and its sender soon cut off",
                  None if is_closed and answer and answer[0] == 413 and grown < 128 << 20 else
                  f"answered {answer and answer[0]}, closed: {is_closed}, memory grew by {grown}")


# ---- request lines and targets ----

def targets():
    for name, data, status in [
        ("two spaces", b"GET  /ping HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        ("a tab instead of a space", b"GET\t/ping HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        ("a space at its end", b"GET /ping HTTP/1.1 \r\n" + HOST + b"\r\n", 505),
        ("a space in the target", b"GET /pi ng HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        ("no version", b"GET /ping\r\n" + HOST + b"\r\n", 505),
        ("HTTP/0.9", get(b"/ping", version=b"HTTP/0.9"), 505),
        ("HTTP/1.2", get(b"/ping", version=b"HTTP/1.2"), 505),
        ("HTTP/2.0", get(b"/ping", version=b"HTTP/2.0"), 505),
        ("HTTP/11.1", get(b"/ping", version=b"HTTP/11.1"), 505),
        ("a version in lower case", get(b"/ping", version=b"http/1.1"), 400),
        ("an unknown method", get(b"/ping", method=b"BREW"), 501),
        ("a method in lower case", get(b"/ping", method=b"get"), 501),
        ("CONNECT", b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        ("TRACE", get(b"/ping", method=b"TRACE"), 405),
        ("a target without a slash", get(b"ping"), 400),
        ("an authority as target", get(b"localhost:1"), 400),
        ("another scheme", get(b"ftp://localhost/ping"), 400),
        ("a URL without a path", get(b"http://localhost"), 400),
        ("a byte that must be encoded", get(b"/pi\xffng"), 400),
        ("a control character", get(b"/pi\x01ng"), 400),
        ("a zero byte", get(b"/ping\0"), 400),
    ]:
        expect(f"request line: {name} is refused", data, status)
    expect("request line: an absolute URL is taken", get(b"http://localhost/ping"), 200)
    expect("request line: an absolute URL's host counts, not the header's", get(b"http://elsewhere.example/ping"), 421)
    expect("request line: another host is refused", b"GET /ping HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", 421)
    expect("request line: a host that only begins as ours is refused", b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1.elsewhere.example\r\n\r\n", 421)
    expect("request line: a page of another site is refused", get(b"/ping", b"Origin: https://elsewhere.example\r\n"), 403)
    expect("request line: * is a target of OPTIONS, and is nothing here", get(b"*", method=b"OPTIONS"), 404)
    for name, path, status in [
        ("..", b"/v1/../../etc/passwd", 404), ("../ encoded", b"/v1/%2e%2e/%2e%2e/etc/passwd", 404),
        ("a slash encoded is part of the name", b"/v1/streams/..%2f..%2fetc%2fpasswd/events", 404),
        ("two slashes", b"//ping", 404), ("a slash at the end", b"/ping/", 404), ("a dot", b"/./ping", 404),
        ("a backslash", b"/v1\\..\\ping", 404), ("half an escape", b"/v1/streams/a%2/events", 400),
        ("an escape that is none", b"/v1/streams/a%zz/events", 400), ("an escape at the end", b"/v1/streams/%", 400),
        ("a zero byte encoded", b"/v1/streams/a%00b/events", 400), ("a line end encoded", b"/v1/streams/a%0d%0ab/events", 404),
        ("UTF-8 that is too long", b"/v1/streams/%c0%ae/events", 400), ("half a character", b"/v1/streams/%e2%82/events", 400),
        ("a surrogate", b"/v1/streams/%ed%a0%80/events", 400), ("no character", b"/v1/streams/%ff/events", 400),
        ("an empty name", b"/v1/streams//events", 404),
        ("an unknown parameter", b"/v1/streams/a/events?limits=1", 400),
        ("a number that is none", b"/v1/streams/a/events?limit=-1", 400), ("2^64", b"/v1/streams/a/events?limit=18446744073709551616", 400),
        ("a parameter with half an escape", b"/v1/streams/a/events?limit=%3", 400),
    ]:
        expect(f"path: {name}", get(path), status)
    expect("path: names come back as they are, in JSON, never as headers",
           get(b"/v1/streams/a%0d%0aSet-Cookie:%20x/events"), 404)
    for size, status in ((NAME_SIZE_MAX, 404), (NAME_SIZE_MAX + 1, 413)):
        expect(f"path: a stream name of {size} bytes", get(b"/v1/streams/" + b"a" * size + b"/events"), status)


# ---- sizes of heads ----

def heads():
    line = b"GET /ping?" + b"a" * (LINE_SIZE_MAX - len(b"GET /ping? HTTP/1.1\r\n"))
    for more, status in ((b"", 200), (b"a", 414)):
        data = line + more + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        expect(f"head: a request line of {LINE_SIZE_MAX + len(more)} bytes", data, status)
    expect("head: a request line without end", b"GET /" + b"a" * 100000, 414)
    base = len(b"hostlocalhost") + len(b"x") + 2 * 32  # as HTTP/2 counts
    for more, status in ((-1, 200), (0, 200), (1, 431)):
        expect(f"head: of {HEAD_SIZE_MAX + more} bytes", get(b"/ping", b"X: " + b"a" * (HEAD_SIZE_MAX + more - base) + b"\r\n"), status)
    for more, status in ((-1, 200), (0, 200), (1, 431)):
        expect(f"head: {HEADERS_MAX + more} headers", get(b"/ping", b"a: b\r\n" * (HEADERS_MAX + more - 1)), status)
    expect("head: headers without end", b"GET /ping HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 20000, 431)
    expect("head: a header without end", b"GET /ping HTTP/1.1\r\n" + HOST + b"a: " + b"b" * 100000, 431)
    expect("head: empty lines before a request are passed over", b"\r\n\r\n" + get(b"/ping"), 200)
    expect_no_smuggling("head: a bare line feed before a request is refused", b"\n" + get(b"/ping"))
    expect("head: garbage", b"\x80\x81\x82\r\n\r\n", 501)
    expect("head: an offer to speak HTTP/2 is declined",
           get(b"/ping", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), 200)
    expect("head: an offer of a web socket is declined", get(b"/ping", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), 200)


# ---- bodies ----

def bodies():
    path = b"/v1/streams/bodies-1/events"
    expect("body: an event", post(path, b'{"type":"T","data":1}'), 201)
    for name, length in [("2^31 - 1", (1 << 31) - 1), ("2^31", 1 << 31), ("2^32 - 1", (1 << 32) - 1), ("2^32", 1 << 32),
                         ("2^32 + 5", (1 << 32) + 5), ("2^63 - 1", (1 << 63) - 1), ("2^63", 1 << 63)]:
        expect(f"body: a length of {name} is refused by its head", post(path, b"12345", length=str(length).encode()), 413, "body-too-large")
    expect("body: a length of 2^64 - 1 is refused by its head", post(path, b"12345", length=str((1 << 64) - 1).encode()), 400)
    for depth in (10 ** 5,):
        for name, text in [("arrays", b"[" * depth), ("arrays that close", b"[" * depth + b"]" * depth),
                           ("objects", b'{"a":' * depth), ("objects that close", b'{"a":' * depth + b"1" + b"}" * depth)]:
            expect(f"body: {depth} {name} in each other as body are refused", post(path, text), 400)
            expect(f"body: {depth} {name} in each other as data are refused", post(path, b'{"type":"T","data":' + text + b"}"), 400)
    for name, text in [
        ("a type that comes twice", b'{"type":"A","type":"B"}'),
        ("data that come twice", b'{"type":"A","data":1,"data":2}'),
        ("a field that nobody knows", b'{"type":"A","dat":1}'),
        ("nothing", b""), ("a number", b"1"), ("text", b'"a"'), ("null", b"null"), ("an empty object", b"{}"),
        ("half an object", b'{"type":"A"'), ("two objects", b'{"type":"A"}{"type":"B"}'), ("a comma too many", b'{"type":"A",}'),
        ("a comment", b'{"type":"A"/**/}'), ("single quotes", b"{'type':'A'}"), ("NaN", b'{"type":"A","data":NaN}'),
        ("a number with a leading zero", b'{"type":"A","data":01}'), ("an escape that is none", b'{"type":"\\x41"}'),
        ("half a surrogate as type", b'{"type":"\\ud800"}'), ("a control character in text", b'{"type":"a\x01"}'),
        ("a line end in text", b'{"type":"a\n"}'),
        ("invalid UTF-8 as type", b'{"type":"\xff"}'), ("UTF-8 that is too long as type", b'{"type":"\xc0\xae"}'),
        ("invalid UTF-8 in data", b'{"type":"A","data":"\xff"}'), ("a surrogate in UTF-8 in data", b'{"type":"A","data":"\xed\xa0\x80"}'),
        ("an empty type", b'{"type":""}'), ("a type that is a number", b'{"type":1}'), ("an id that is none", b'{"type":"A","id":"x"}'),
        ("base64 that is none", b'{"type":"A","data_base64":"%%%"}'),
        ("a byte order mark", b'\xef\xbb\xbf{"type":"A"}'), ("UTF-16", '{"type":"A"}'.encode("utf-16")),
    ]:
        expect(f"body: {name} is refused", post(path, text), 400)
    expect("body: a type may have a zero byte", post(b"/v1/streams/zero-1/events", b'{"type":"a\\u0000b"}'), 201)
    expect("body: and is read as it was sent", get(b"/v1/streams/zero-1/events"), 200, says=b'"a\\u0000b"')
    expect("body: a number of a thousand digits stays exact", post(b"/v1/streams/digits-1/events", b'{"type":"A","data":' + b"9" * 1000 + b"}"), 201)
    expect("body: and is read as it was", get(b"/v1/streams/digits-1/events"), 200, says=b"9" * 1000)
    for size, status in ((TYPE_SIZE_MAX, 201), (TYPE_SIZE_MAX + 1, 413)):
        expect(f"body: a type of {size} bytes", post(path, b'{"type":"' + b"t" * size + b'"}'), status)
    for more, status in ((-1, 201), (0, 201), (1, 413)):
        size = EVENT_SIZE_MAX + more - 2  # twice the length of the type counts
        expect(f"body: an event of {EVENT_SIZE_MAX + more} bytes", b"POST /v1/streams/large-1/events HTTP/1.1\r\n" + HOST +
               b"Content-Type: application/octet-stream\r\nNilo-Event-Type: T\r\nContent-Length: " + str(size).encode() + b"\r\n\r\n" + b"x" * size, status)
    expect("body: a type in a header with an escape that is none", b"POST /v1/streams/a/events HTTP/1.1\r\n" + HOST +
           b"Content-Type: application/octet-stream\r\nNilo-Event-Type: %zz\r\nContent-Length: 0\r\n\r\n", 201)
    expect("body: an unknown content coding is refused", post(path, b'{"type":"T"}', b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n"), 415)


# ---- several requests of a connection ----

def pipelines():
    h = H1(server)
    h.send(b"".join(get(b"/ping") if i % 2 else get(b"/no-such-path") for i in range(500)))
    got = [h.answer()[0] for _ in range(500)]
    counts.result("pipeline: 500 requests are answered in order", None if got == [404, 200] * 250 else "another order")
    h.send(post(b"/no-such-path", b"x" * 1000) + get(b"/ping"))
    got = [h.answer()[0] for _ in range(2)]
    counts.result("pipeline: behind a body that nobody wanted the next request is found", None if got == [404, 200] else f"{got}")
    h.send(get(b"/ping", b"Connection: close\r\n") + get(b"/ping"))
    got = [h.answer(), h.answer()]
    counts.result("pipeline: behind the last request nothing is answered", None if got[0][0] == 200 and got[1] is None else f"{got}")
    h = H1(server)
    h.send(get(b"/ping", method=b"HEAD") + get(b"/ping"))
    got = [h.answer(True)[0], h.answer()[0]]
    counts.result("pipeline: HEAD has no body that the next answer could hide in", None if got == [200, 200] else f"{got}")
    h.close()
    expect("response splitting: what comes from a client is no header of ours", get(b"/health/live?liveCode=200%0d%0aX-Evil:%201"), 400)
    h, (_, headers, _) = ask(get(b"/v1/streams/%0d%0aX-Evil:%201/events"))
    counts.result("response splitting: a stream's name is no header", None if b"x-evil" not in dict(headers) else f"{headers}")
    h.close()


# ---- slow ones: they take long, so they run beside the others ----

def slow(name, first, piece, every, status, least, most, is_h2=False):
    """Sends `first`, then a piece now and then; gives the problem, if it is not ended in time."""
    began = time.monotonic()
    try:
        if is_h2:
            h = H2(server)
        else:
            h = H1(server)
        h.send(first(h) if is_h2 else first)
        h.socket.settimeout(every)
        while time.monotonic() - began < most:
            try:
                if is_h2:
                    if h.read() is None:
                        break
                    if any(f.kind == GOAWAY for f in h.seen) or 1 in h.answers and h.answers[1].is_ended:
                        break
                else:
                    answer = h.answer()
                    break
            except TimeoutError:
                h.send(piece)
        took = time.monotonic() - began
        if not least <= took <= most:
            return name, f"ended after {took:.1f} s, not within {least} to {most} s"
        if is_h2:
            got = h.answers[1].status if h.answers.get(1) and h.answers[1].heads else next(f.code() for f in h.seen if f.kind == GOAWAY)
        else:
            got = answer and answer[0]
        return name, None if got == status else f"answered {got} instead of {status}"
    except (OSError, Wrong, StopIteration) as e:
        return name, f"{type(e).__name__}: {e}"


def slow_ones(pool):
    def h2_head(h):
        return raw_frame(HEADERS, END_STREAM, 1, block(h.fields())[:20])

    def h2_frame(h):
        return raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, block(h.fields()))[:30]

    def h2_body(h):
        return raw_frame(HEADERS, END_HEADERS, 1, block(h.fields("/v1/streams/slow-1/events", "POST", [("content-type", "application/json")])))

    body = post(b"/v1/streams/slow-1/events", b"", length=b"100000")
    return [
        pool.submit(slow, "slow: a head of HTTP/1.1, a byte in a second, is ended after 10 s", get(b"/ping")[:-2] + b"x", b"x", 1, 408, 9.5, 13),
        pool.submit(slow, "slow: a body of HTTP/1.1, ten bytes in a tenth of a second, is ended after 30 s", body, b" " * 10, 0.1, 408, 29.5, 36),
        pool.submit(slow, "slow: chunks of a byte are ended after 30 s", chunked(b"1\r\n \r\n"), b"1\r\n \r\n", 0.1, 408, 29.5, 36),
        pool.submit(slow, "slow: a header block of HTTP/2 that does not end is ended after 10 s", h2_head, b"", 1, ENHANCE_YOUR_CALM, 9.5, 13, True),
        pool.submit(slow, "slow: half a HEADERS frame is ended after 10 s", h2_frame, b"", 1, ENHANCE_YOUR_CALM, 9.5, 13, True),
        pool.submit(slow, "slow: a body of HTTP/2, ten bytes in a tenth of a second, is ended after 30 s", h2_body,
                    raw_frame(DATA, 0, 1, b" " * 10), 0.1, 408, 29.5, 36, True),
        pool.submit(slow, "slow: half a preface of HTTP/2 is ended after 10 s", PREFACE[:10], b"", 1, None, 9.5, 13),
        pool.submit(slow, "slow: a connection that says nothing is ended after 10 s", b"", b"", 1, None, 9.5, 13),
    ]


def connections_of_an_address():
    """The address of this machine stands for somebody else's; who comes over loopback has no such limit."""
    name = "connections of one address over their limit are refused, and so told a few times; loopback is exempt"
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
    except OSError:
        counts.skip(name, "this machine has no address beside loopback")
        return
    finally:
        probe.close()
    few = Server("--memory-only", "--listen", "0.0.0.0", "--insecure", "--connections-per-address", "5")

    def is_served(host):
        s = socket.create_connection((host, few.port), 5)
        s.settimeout(5)
        kept.append(s)
        try:
            s.sendall(get(b"/ping").replace(b"localhost", host.encode()))
            return s.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    kept = []
    served = [is_served(address) for _ in range(300)]
    from_loopback = [is_served("127.0.0.1") for _ in range(20)]
    kept.pop(0).close()
    time.sleep(0.3)
    again = is_served(address)
    for s in kept:
        s.close()
    said = few.log().count("limit of 5 connections of an address")
    counts.result(name, None if served == [True] * 5 + [False] * 295 and all(from_loopback) and again and 1 <= said <= 60 else
                  f"{served.count(True)} served, {from_loopback.count(True)} over loopback, again: {again}, told {said} times")
    few.kill()


def main():
    global server, HEAD_SIZE_MAX, LINE_SIZE_MAX, HEADERS_MAX, EVENT_SIZE_MAX, NAME_SIZE_MAX, TYPE_SIZE_MAX
    server = Server("--memory-only")
    limits = json.loads(ask(get(b"/info"))[1][2])["nilo"]["limits"]
    HEAD_SIZE_MAX, LINE_SIZE_MAX, HEADERS_MAX, EVENT_SIZE_MAX, NAME_SIZE_MAX, TYPE_SIZE_MAX = (limits[name] for name in (
        "head_size", "request_line_size", "headers", "event_size", "stream_name_size", "event_type_size"))
    counts.result("limits: none is missing, and none is infinite", None if len(limits) > 40 and all(0 < v < 1 << 48 for v in limits.values())
                  else f"{limits}")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        waiting = slow_ones(pool)
        for part in (smuggling, chunks, targets, heads, bodies, pipelines, connections_of_an_address):
            part()
        expect("smuggling: not one of the requests that were hidden has been carried out", get(b"/v1/streams/smuggled/events"), 404)
        for future in waiting:
            counts.result(*future.result())
    expect("the server serves", get(b"/health/live"), 204)
    counts.result("the server stops in order", None if server.stop() == 0 else "another exit code than 0")
    counts.end()


main()
