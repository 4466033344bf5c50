"""The client for Python, unchanged, against a server with TLS and users: what tests/clients/run.py asks of every client.

Environment: ADMIN, ANN, WRONG (connection strings), CA (file)."""

import os
import sys
import uuid

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import AccessDeniedError, FailedPreconditionError, NotFoundError, StreamIsDeletedError, UnauthenticatedError, WrongCurrentVersionError

with open(os.environ["CA"], encoding="ascii") as file:
    CA = file.read()


def connect(name):
    return KurrentDBClient(uri=os.environ[name], root_certificates=CA)


def event(n, kind="Happened"):
    return NewEvent(type=kind, data=b'{"n":%d}' % n)


def refused(kinds, call):
    try:
        call()
    except kinds as error:
        return error
    raise AssertionError(f"expected one of {kinds}, but it succeeded")


def main():
    ann, admin = connect("ANN"), connect("ADMIN")
    stream = f"python-{uuid.uuid4().hex[:8]}"

    ann.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=[event(0), event(1)])
    ann.append_to_stream(stream, current_version=1, events=event(2))
    assert [e.data for e in ann.get_stream(stream)] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert [e.stream_position for e in ann.get_stream(stream, backwards=True)] == [2, 1, 0]
    print("ok appends and reads")

    refused(WrongCurrentVersionError, lambda: ann.append_to_stream(stream, current_version=7, events=event(3)))
    again = event(3)
    first = ann.append_to_stream(stream, current_version=2, events=again)
    assert ann.append_to_stream(stream, current_version=2, events=again) == first, "a retry is not written twice"
    print("ok conflicts and retries")

    got = []
    with ann.subscribe_to_stream(stream) as subscription:
        for recorded in subscription:
            got.append(recorded.stream_position)
            if len(got) == 4:
                break
    assert got == [0, 1, 2, 3]
    print("ok a catch-up subscription")

    admin.create_subscription_to_stream(group_name="team", stream_name=stream, from_end=False)
    taken = []
    with ann.read_subscription_to_stream(group_name="team", stream_name=stream) as consumer:
        for recorded in consumer:
            consumer.ack(recorded)
            taken.append(recorded.stream_position)
            if len(taken) == 4:
                break
    assert taken == [0, 1, 2, 3]
    print("ok a group of consumers")

    ann.set_stream_metadata(stream, metadata={"$maxCount": 2})
    assert len(ann.get_stream(stream)) == 2
    ann.delete_stream(stream, current_version=StreamState.ANY)
    refused(NotFoundError, lambda: ann.get_stream(stream))
    ann.tombstone_stream(stream, current_version=StreamState.ANY)
    # The client tells reads of it from other failures, but not appends of one event.
    refused((StreamIsDeletedError, FailedPreconditionError), lambda: ann.append_to_stream(stream, current_version=StreamState.ANY, events=event(9)))
    print("ok metadata, deletion and tombstone")

    secret = f"$python-{uuid.uuid4().hex[:8]}"
    admin.append_to_stream(secret, current_version=StreamState.NO_STREAM, events=event(0))
    refused((AccessDeniedError, UnauthenticatedError), lambda: ann.get_stream(secret))
    refused((AccessDeniedError, UnauthenticatedError), lambda: ann.append_to_stream(secret, current_version=StreamState.ANY, events=event(1)))
    assert any(e.stream_name == secret for e in admin.read_all())
    refused((AccessDeniedError, UnauthenticatedError), lambda: list(ann.read_all()))
    wrong = connect("WRONG")
    refused(UnauthenticatedError, lambda: wrong.get_stream(stream))
    print("ok rights and passwords")


main()
sys.exit(0)
