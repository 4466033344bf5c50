// Soft delete and tombstone: expectations, errors, what readers and later writers see.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { ANY, BACKWARDS, END, NO_STREAM, STREAM_EXISTS } from '@kurrent/kurrentdb-client';
import { collect, event, events, fresh, numbers, onOneServer, refused, revisions, writePaths } from './helpers.mjs';

const on = onOneServer();
const read = (stream, options) => collect(on.client.readStream(stream, options));
const written = async (count = 3) => {
  const stream = fresh('del');
  await on.client.appendToStream(stream, events(count), { streamState: NO_STREAM });
  return stream;
};

describe('soft delete', () => {
  test('with any, and with the exact revision', async () => {
    for (const expectedRevision of [ANY, 2n]) {
      const stream = await written();
      const { position } = await on.client.deleteStream(stream, { expectedRevision });
      assert.ok(position.commit > 0n);
      await refused(read(stream), 'stream-not-found');
      await refused(read(stream, { direction: BACKWARDS, fromRevision: END }), 'stream-not-found');
    }
  });

  test('with a wrong revision: refused, nothing changes', async () => {
    const stream = await written();
    for (const expectedRevision of [1n, 3n, NO_STREAM]) {
      const error = await refused(on.client.deleteStream(stream, { expectedRevision }), 'wrong-expected-version');
      assert.equal(error.streamName, stream);
      assert.equal(error.expectedState, expectedRevision === NO_STREAM ? -1n : expectedRevision);
      assert.equal(error.actualState, 2n);
    }
    assert.equal((await read(stream)).length, 3);
  });

  test('of an absent stream: refused, whatever is expected', async () => {
    for (const expectedRevision of [ANY, NO_STREAM, 0n]) {
      const error = await refused(on.client.deleteStream(fresh('absent'), { expectedRevision }), 'wrong-expected-version');
      assert.equal(error.actualState, -1n);
    }
  });

  test('twice is fine', async () => {
    const stream = await written();
    await on.client.deleteStream(stream);
    await on.client.deleteStream(stream, { expectedRevision: ANY });
    await refused(read(stream), 'stream-not-found');
  });

  for (const { path, with: options } of writePaths) {
    for (const [name, streamState] of [['any', ANY], ['no_stream', NO_STREAM], ['the last revision', 2n]]) {
      test(`${path} with ${name} revives it: numbers go on, the old stays away`, async () => {
        const stream = await written();
        await on.client.deleteStream(stream);
        const result = await on.client.appendToStream(stream, [event(10), event(11)], { streamState, ...options });
        assert.equal(result.nextExpectedRevision, 4n);
        const now = await read(stream);
        assert.deepEqual(revisions(now), [3, 4]);
        assert.deepEqual(numbers(now), [10, 11]);
      });
    }

    test(`${path} with stream_exists or a wrong revision does not`, async () => {
      const stream = await written();
      await on.client.deleteStream(stream);
      const append = (streamState) => on.client.appendToStream(stream, event(10), { streamState, ...options });
      await refused(append(STREAM_EXISTS), 'stream-deleted');
      assert.equal((await refused(append(1n), 'wrong-expected-version')).actualState, 2n);
      await refused(read(stream), 'stream-not-found');
    });
  }

  test('$all goes on showing what was there', async () => {
    const stream = await written();
    await on.client.deleteStream(stream);
    const all = await collect(on.client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 4 }));
    assert.deepEqual(all.map((r) => [r.event.streamId, r.event.type]), [
      [`$$${stream}`, '$metadata'], [stream, 'Happened'], [stream, 'Happened'], [stream, 'Happened'],
    ]);
  });
});

describe('tombstone', () => {
  for (const [name, count, expectedRevision] of [['any', 3, ANY], ['the exact revision', 3, 2n], ['any, of an absent stream', 0, ANY],
    ['no_stream, of an absent stream', 0, NO_STREAM]]) {
    test(`with ${name}: for good`, async () => {
      const stream = count ? await written(count) : fresh('absent');
      const { position } = await on.client.tombstoneStream(stream, { expectedRevision });
      assert.ok(position.commit > 0n);
      const error = await refused(read(stream), 'stream-deleted');
      assert.equal(error.streamName, stream);
      await refused(read(stream, { direction: BACKWARDS, fromRevision: END }), 'stream-deleted');
      await refused(on.client.deleteStream(stream), 'stream-deleted');
      await refused(on.client.tombstoneStream(stream), 'stream-deleted');
      for (const { with: options } of writePaths) {
        for (const streamState of [ANY, NO_STREAM, STREAM_EXISTS, 2n]) {
          const denied = await refused(on.client.appendToStream(stream, event(1), { streamState, ...options }), 'stream-deleted');
          assert.equal(denied.streamName, stream);
        }
      }
    });
  }

  test('with a wrong revision: refused, nothing changes', async () => {
    const stream = await written();
    for (const expectedRevision of [0n, 5n, NO_STREAM]) {
      const error = await refused(on.client.tombstoneStream(stream, { expectedRevision }), 'wrong-expected-version');
      assert.equal(error.actualState, 2n);
    }
    assert.equal((await read(stream)).length, 3);
    await refused(on.client.tombstoneStream(fresh('absent'), { expectedRevision: 0n }), 'wrong-expected-version');
  });

  test('of a soft-deleted stream', async () => {
    const stream = await written();
    await on.client.deleteStream(stream);
    await on.client.tombstoneStream(stream);
    await refused(read(stream), 'stream-deleted');
  });

  test('$all shows it, last in the stream', async () => {
    const stream = await written();
    await on.client.tombstoneStream(stream);
    const [last] = await collect(on.client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 1 }));
    assert.equal(last.event.streamId, stream);
    assert.equal(last.event.type, '$streamDeleted');
    assert.equal(last.event.revision, 9223372036854775807n);
  });
});
