#!/usr/bin/env python3
"""Secrets and contents of events are planted in every way in, over HTTP/1.1, HTTP/2 and gRPC, in requests that go well and in such
that fail, while every logger shows all it has. None of them comes out in the log, the facts, the numbers, the state or an answer
to anybody. What logins do over HTTP is in tests/cli/canary.test.mjs too; here are the bodies, gRPC and what is malformed.

    tests/security/canary.py [NILO]

Its last line is `N passed, N failed, N skipped`."""

import base64
import glob
import secrets
import socket
import time

from wire import *  # noqa: F403: this is the other half of one program

ADMIN = "admin:changeit"
USERS = "/event_store.client.users.Users/"
STREAMS = "/event_store.client.streams.Streams/"
counts = Counts()
planted = {}
answers = []  # (what was asked, what came)


def plant(name):
    assert name not in planted
    planted[name] = f"canary{secrets.token_hex(12)}"
    return planted[name]


def basic(credentials):
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def field(number, value):
    """A field of protobuf: bytes, or a number."""
    if isinstance(value, int):
        return integer_of_protobuf(number << 3) + integer_of_protobuf(value)
    value = value.encode() if isinstance(value, str) else value
    return integer_of_protobuf(number << 3 | 2) + integer_of_protobuf(len(value)) + value


def integer_of_protobuf(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def framed(content_of_message):
    return struct.pack(">BI", 0, len(content_of_message)) + content_of_message


def http(server, method, path, credentials=ADMIN, body=None, headers=(), status=None):
    """Over HTTP/1.1; the answer is kept to be searched."""
    h = H1(server, timeout=20)
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{n}: {v}" for n, v in headers)]
    if credentials is not None:
        lines.append(f"Authorization: {basic(credentials) if ':' in credentials else credentials}")
    body = body.encode() if isinstance(body, str) else body
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    h.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
    got, fields, text_of = h.answer()
    h.close()
    answers.append((f"{method} {path.split('?')[0]}", repr(fields).encode() + text_of))
    if status and got != status:
        counts.result(f"{method} {path.split('?')[0]} with status {status}", f"{got}: {text_of[:300]}")
    return text_of


def grpc(h, path, messages, credentials=ADMIN, status=0, more=()):
    headers = [("content-type", "application/grpc"), ("te", "trailers"), *more]
    if credentials is not None:
        headers.append(("authorization", basic(credentials) if ":" in credentials else credentials))
    stream = h.ask(h.fields(path, "POST", headers), flags=END_HEADERS)
    h.frame(DATA, END_STREAM, stream, b"".join(messages))
    answer = h.answer(stream)
    answers.append((path, repr(answer.heads).encode() + answer.body))
    if status is not None and answer.grpc_status != status:
        counts.result(f"{path} with grpc-status {status}", f"{answer.grpc_status}: {answer.trailers}")
    return answer


JSON = [("Content-Type", "application/json")]


def users_over_http(server):
    first, second = plant("password of a user made over HTTP"), plant("password of a user made as KurrentDB does")
    http(server, "POST", "/v1/users", body=json.dumps({"login": "ann", "password": first, "groups": []}), headers=JSON, status=201)
    http(server, "POST", "/users", body=json.dumps({"loginName": "ben", "fullName": "Ben", "password": second, "groups": []}), headers=JSON, status=201)
    http(server, "GET", "/v1/whoami", f"ann:{first}", status=200)
    http(server, "GET", "/users/$current", f"ben:{second}", status=200)
    http(server, "GET", "/users/$current", f"ben:{plant('wrong password')}", status=401)
    http(server, "GET", "/v1/whoami", f"nobody:{plant('password of nobody')}", status=401)
    http(server, "GET", "/v1/whoami", f"Bearer {plant('bearer token')}", status=401)
    http(server, "GET", "/v1/whoami", f"Basic {plant('malformed login')}", status=401)
    http(server, "GET", "/v1/whoami", f"Negotiate {plant('login of another scheme')}", status=401)
    http(server, "POST", "/users/ben/command/change-password", f"ben:{second}", json.dumps(
        {"currentPassword": plant("wrong current password"), "newPassword": plant("new password that was refused")}), JSON)
    http(server, "POST", "/users/ben/command/change-password", f"ben:{second}", json.dumps(
        {"currentPassword": second, "newPassword": plant("new password")}), JSON, 200)
    http(server, "POST", "/users/ben/command/reset-password", body=json.dumps({"newPassword": plant("password that was reset")}), headers=JSON, status=200)
    http(server, "POST", "/users", body='{"loginName":"carl","password":"' + plant("password in half an object"), headers=JSON, status=400)
    http(server, "POST", "/users", body=json.dumps({"loginName": "ann", "fullName": "", "password": plant("password of a user who is there"), "groups": []}), headers=JSON)
    http(server, "POST", "/users", f"ann:{first}", json.dumps({"loginName": "dan", "password": plant("password by who may not"), "groups": []}), JSON)
    http(server, "PUT", "/users/ben", body=json.dumps({"fullName": "B", "password": plant("password where none belongs")}), headers=JSON)
    http(server, "GET", f"/v1/whoami?password={plant('password in a query')}", status=None)
    return first


def users_over_grpc(h):
    first = plant("password of a user made over gRPC")
    options = field(1, "eve") + field(2, first) + field(3, "Eve")
    grpc(h, USERS + "Create", [framed(field(1, options))])
    grpc(h, USERS + "Create", [framed(field(1, field(1, "eve") + field(2, plant("another password over gRPC")) + field(3, "Eve")))], status=None)
    grpc(h, USERS + "Create", [framed(field(1, field(1, "fay") + field(2, plant("password over gRPC without the right"))))], f"eve:{first}", 7)
    grpc(h, USERS + "ChangePassword", [framed(field(1, field(1, "eve") + field(2, plant("wrong current password over gRPC")) +
                                                   field(3, plant("new password over gRPC that was refused"))))], f"eve:{first}", None)
    grpc(h, USERS + "ResetPassword", [framed(field(1, field(1, "eve") + field(2, plant("password that was reset over gRPC"))))])
    grpc(h, USERS + "Create", [framed(b"\xff" + plant("password in bytes that are no message").encode())], status=None)
    grpc(h, USERS + "Details", [framed(field(1, field(1, "eve")))])
    grpc(h, STREAMS + "Append", [], f"eve:{plant('wrong password over gRPC')}", 16)
    grpc(h, STREAMS + "Append", [], f"Bearer {plant('bearer token over gRPC')}", 16)
    grpc(h, STREAMS + "Append", [], f"Basic {plant('malformed login over gRPC')}", 16)
    grpc(h, STREAMS + "Append", [framed(b"")], None, None, [("x-api-key", plant("a header that nobody knows"))])


def append_request(stream, data, metadata, revision=None):
    options = field(1, field(3, stream)) + (field(4, b"") if revision is None else field(2, revision))
    message = field(1, field(2, "01234567-89ab-cdef-0123-456789abcdef")) + field(2, field(1, "type") + field(2, "T")) + \
        field(2, field(1, "content-type") + field(2, "application/json")) + field(3, metadata) + field(4, data)
    return [framed(field(1, options)), framed(field(2, message))]


def events(server, h):
    path = "/v1/streams/events-1/events"
    http(server, "POST", path, body=json.dumps({"type": "T", "data": plant("data"), "metadata": {"m": plant("metadata")}}), headers=JSON, status=201)
    http(server, "POST", path, body=plant("raw data"), headers=[("Content-Type", "text/plain"), ("Nilo-Event-Type", "T")], status=201)
    http(server, "POST", path, body=json.dumps({"type": "T", "data": plant("data of a conflict")}), headers=[*JSON, ("Nilo-Expect", "77")], status=409)
    http(server, "POST", path, "ann:x", json.dumps({"type": "T", "data": plant("data of a stranger")}), JSON, 401)
    http(server, "POST", path, body=json.dumps({"type": "", "data": plant("data of an event without a type")}), headers=JSON, status=400)
    http(server, "POST", path, body='{"type":"T","data":{"a":"' + plant("data that break off"), headers=JSON, status=400)
    http(server, "POST", path, body='{"type":"T","data":' + plant("data that are no JSON") + "}", headers=JSON, status=400)
    http(server, "POST", path, body='{"type":"T","data":"' + plant("data that are no UTF-8") + '\\ud800"}', headers=JSON)
    http(server, "POST", path, body=(json.dumps({"type": "T", "data": plant("data of no UTF-8")})[:-2] + "\xff\"}").encode("latin-1"), headers=JSON, status=400)
    http(server, "POST", path, body=json.dumps({"type": "T", "data_base64": plant("data that are no base64") + "%"}), headers=JSON, status=400)
    http(server, "POST", "/v1/append", body=json.dumps({"streams": [{"stream": "events-2", "expect": 5, "events": [{"type": "T", "data": plant("data of several")}]}]}),
         headers=JSON, status=409)
    http(server, "PUT", "/v1/streams/events-1/metadata", body=json.dumps({"own": plant("metadata of a stream")}), headers=JSON)
    grpc(h, STREAMS + "Append", append_request("events-3", f'"{plant("data over gRPC")}"', f'"{plant("metadata over gRPC")}"'))
    grpc(h, STREAMS + "Append", append_request("events-4", f'"{plant("data of a conflict over gRPC")}"', b"", 77), status=None)
    grpc(h, STREAMS + "Append", append_request("$user-x", f'"{plant("data for a stream of the system")}"', b""), "ops:changeit", None)
    grpc(h, STREAMS + "Append", [framed(b"\xff\xff" + plant("data in bytes that are no message").encode())], status=None)
    grpc(h, STREAMS + "BatchAppend", [framed(field(1, "x") + field(3, plant("data in half a batch")))], status=None)
    h.frame(DATA, 0, 0, plant("data in a frame of no stream").encode())
    raw = H1(server)
    raw.send(b"POST /v1/streams/events-1/events HTTP/1.1\r\nX Y: " + plant("data in a malformed head").encode() + b"\r\n\r\n")
    answers.append(("a malformed head", raw.answer()[2]))
    raw.close()


def facts(server):
    """All that are kept."""
    h = H1(server)
    h.send(f"GET /v1/facts?from=oldest HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\nAuthorization: {basic(ADMIN)}\r\n\r\n".encode())
    h.socket.settimeout(1.5)
    try:
        while h._more():
            pass
    except socket.timeout:
        pass
    h.close()
    return h.buffer


def forms(secret):
    """As it is, in hexadecimal, and inside any base64."""
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        yield coded[2 if shift else 0:][2 * bool(shift):-2]


def main():
    server = Server("--tls", "on", "--compat-default-password", "--log-level", "trace")
    server.wait_for_users()
    h = H2(server, timeout=20)
    users_over_http(server)
    users_over_grpc(h)
    token = json.loads(http(server, "POST", "/v1/token", body="{}", headers=JSON))["token"]
    answers.pop()  # which is where the token belongs
    planted["token"] = token
    http(server, "GET", "/v1/whoami", f"Bearer {token}", status=200)
    http(server, "GET", "/v1/whoami", f"Bearer {token[:-6]}AAAAAA", status=401)
    events(server, h)
    heard = {"the facts": facts(server)}
    for path in ("/metrics", "/stats", "/info", "/v1/info", "/info/options", "/gossip", "/v1/health", "/v1/subsystems", "/v1/users", "/users",
                 "/v1/readers", "/v1/subscriptions", "/v1/streams", "/v1/types", "/v1/categories", "/v1/openapi.json"):
        heard[path] = http(server, "GET", path, status=200)
    for path in glob.glob(os.path.join(server.directory, "**", "*"), recursive=True):
        if os.path.isfile(path) and path != server.log_path:
            with open(path, "rb") as f:
                data = f.read()
            if b"PRIVATE KEY" in data:
                planted[f"private key in {os.path.basename(path)}"] = data.split(b"\n")[1].decode()
    counts.result("there are private keys to look for", None if any(n.startswith("private key") for n in planted) else "none was found")
    counts.result("the server stops in order", None if server.process.send_signal(signal.SIGTERM) is None and server.process.wait(20) == 0 else "it does not")
    heard["the log"] = server.log().encode() + server.first_line
    heard["the answers"] = b"\n".join(text_of for _, text_of in answers)
    counts.result("the log shows all", None if heard["the log"].count(b"TRACE") > 20 else f"{heard['the log'].count(b'TRACE')} lines at that level")
    counts.result("the facts tell of logins", None if b"login_denied" in heard["the facts"] else f"{heard['the facts'][:200]}")
    counts.result("what is searched for would be found", None if all(form_in("canary12345", text_of) for text_of in (
        b"a canary12345!", b"63616e6172793132333435", base64.b64encode(b"a:canary12345"), base64.b64encode(b"ab:canary12345"),
        base64.b64encode(b"abc:canary12345"))) else "it is not")
    for name, secret in planted.items():
        asked = next((what for what, text_of in answers if form_in(secret, text_of)), "")
        found = [f"{where} {asked}" for where, text_of in heard.items() if form_in(secret, text_of)]
        counts.result(f"nowhere: {name}", ", ".join(found) or None)
    server.kill()
    counts.end()


def form_in(secret, text_of):
    return any(form in text_of for form in forms(secret))


main()
