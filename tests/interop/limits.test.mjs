// What is too large is refused with the limit in the answer, writes nothing, and hurts nobody else (G17).

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binaryEvent, NO_STREAM } from '@kurrent/kurrentdb-client';
import { collect, event, fresh, onOneServer, refused, writePaths } from './helpers.mjs';

const on = onOneServer();
const EVENT_SIZE_MAX = 16 * 1024 * 1024 - 10_000; // data, metadata and twice the type
const APPEND_SIZE_MAX = 64 * 1024 * 1024;
const TYPE = 'Large';
const large = (size) => binaryEvent({ type: TYPE, data: new Uint8Array(size) });

for (const { path, with: options } of writePaths) {
  const append = (stream, what) => on.client.appendToStream(stream, what, { streamState: NO_STREAM, ...options });
  const nothingWritten = async (stream) => {
    await refused(collect(on.client.readStream(stream)), 'stream-not-found');
    assert.equal((await append(stream, event(1))).success, true);
  };

  describe(path, () => {
    test('an event of exactly the limit is taken and read back', async () => {
      const stream = fresh('limit');
      const data = new Uint8Array(EVENT_SIZE_MAX - 2 * TYPE.length).map((_, n) => (n * 31) >> 3);
      await append(stream, binaryEvent({ type: TYPE, data }));
      const [read] = await collect(on.client.readStream(stream));
      assert.equal(Buffer.compare(Buffer.from(read.event.data), Buffer.from(data)), 0);
    });

    test('one byte more is refused', async () => {
      const stream = fresh('limit');
      await assert.rejects(append(stream, large(EVENT_SIZE_MAX - 2 * TYPE.length + 1)), (error) => {
        // The client has a class for an append that is too large, and none for an event.
        assert.match(`${error.type} ${error.message}`, /maximum-append-size-exceeded|MaximumAppend|exceed|too large|limit/i);
        assert.notEqual(error.type, 'unavailable');
        return true;
      });
      await nothingWritten(stream);
    });

    test('an append over the limit of appends is refused with it', async () => {
      const stream = fresh('limit');
      const batch = Array.from({ length: 9 }, () => large(8 * 1024 * 1024 - 100));
      const error = await refused(append(stream, batch), 'maximum-append-size-exceeded');
      assert.equal(error.maxAppendSize, APPEND_SIZE_MAX);
      await nothingWritten(stream);
    });

    test('a stream name over 1 024 bytes is refused', async () => {
      const name = 'n'.repeat(1025);
      await assert.rejects(append(name, event(1)), (error) => {
        assert.notEqual(error.type, 'unavailable');
        return true;
      });
    });

    test('an event type over 1 024 bytes is refused', async () => {
      const stream = fresh('limit');
      await assert.rejects(append(stream, event(1, 'T'.repeat(1025))));
      await nothingWritten(stream);
    });
  });
}

test('a message over 17 MiB ends its call, not the server', async () => {
  const stream = fresh('limit');
  await assert.rejects(on.client.appendToStream(stream, large(20 * 1024 * 1024), { credentials: { username: 'a', password: 'b' } }));
  await on.client.appendToStream(stream, event(1), { streamState: NO_STREAM });
  assert.equal((await collect(on.client.readStream(stream))).length, 1);
});
