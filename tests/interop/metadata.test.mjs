// Stream metadata: stored, versioned, and obeyed by readers.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { BACKWARDS, END, NO_STREAM, streamNameFilter } from '@kurrent/kurrentdb-client';
import { collect, event, events, fresh, onOneServer, refused, revisions, settle } from './helpers.mjs';

const on = onOneServer();
const read = (stream, options) => collect(on.client.readStream(stream, options));
const written = async (count) => {
  const stream = fresh('meta');
  if (count) await on.client.appendToStream(stream, events(count), { streamState: NO_STREAM });
  return stream;
};

test('what was set comes back: limits, rights and keys of one\'s own', async () => {
  const stream = await written(1);
  const metadata = {
    maxCount: 20, maxAge: 3600, cacheControl: 15, truncateBefore: 0,
    acl: { readRoles: ['$all'], writeRoles: ['alice', 'bob'], deleteRoles: ['$admins'], metaReadRoles: ['$all'], metaWriteRoles: ['$admins'] },
    custom: { deep: [1, 'zwei', { three: null }] }, große: 'Umlaut',
  };
  await on.client.setStreamMetadata(stream, metadata);
  const result = await on.client.getStreamMetadata(stream);
  assert.equal(result.streamName, stream);
  assert.deepEqual(result.metadata, metadata);
});

test('a stream without any, and no stream', async () => {
  for (const stream of [await written(1), fresh('absent')]) {
    assert.deepEqual(await on.client.getStreamMetadata(stream), { streamName: stream });
  }
});

test('expected revisions hold for it too; the newest counts', async () => {
  const stream = await written(1);
  await on.client.setStreamMetadata(stream, { maxCount: 1 }, { streamState: NO_STREAM });
  await refused(on.client.setStreamMetadata(stream, { maxCount: 2 }, { streamState: NO_STREAM }), 'wrong-expected-version');
  await on.client.setStreamMetadata(stream, { maxCount: 3 }, { streamState: 0n });
  assert.deepEqual((await on.client.getStreamMetadata(stream)).metadata, { maxCount: 3 });
  // The metastream itself keeps one event.
  assert.deepEqual(revisions(await read(`$$${stream}`)), [1]);
});

test('before the stream exists', async () => {
  const stream = fresh('meta');
  await on.client.setStreamMetadata(stream, { maxCount: 2 });
  await refused(read(stream), 'stream-not-found');
  await on.client.appendToStream(stream, events(5), { streamState: NO_STREAM });
  assert.deepEqual(revisions(await read(stream)), [3, 4]);
});

describe('readers obey', () => {
  test('maxCount: the newest, both ways and from any revision', async () => {
    const stream = await written(10);
    await on.client.setStreamMetadata(stream, { maxCount: 3 });
    assert.deepEqual(revisions(await read(stream)), [7, 8, 9]);
    assert.deepEqual(revisions(await read(stream, { direction: BACKWARDS, fromRevision: END })), [9, 8, 7]);
    assert.deepEqual(revisions(await read(stream, { fromRevision: 2n, maxCount: 2 })), [7, 8]);
    assert.deepEqual(revisions(await read(stream, { direction: BACKWARDS, fromRevision: 4n })), []);
    await on.client.appendToStream(stream, event(10));
    assert.deepEqual(revisions(await read(stream)), [8, 9, 10]);
    // Taken back, the events are there again: nothing was scavenged yet.
    await on.client.setStreamMetadata(stream, { maxCount: 5 });
    assert.deepEqual(revisions(await read(stream)), [6, 7, 8, 9, 10]);
  });

  test('truncateBefore', async () => {
    const stream = await written(10);
    await on.client.setStreamMetadata(stream, { truncateBefore: 6 });
    assert.deepEqual(revisions(await read(stream)), [6, 7, 8, 9]);
    assert.deepEqual(revisions(await read(stream, { direction: BACKWARDS, fromRevision: END })), [9, 8, 7, 6]);
    assert.deepEqual(revisions(await read(stream, { maxCount: 1 })), [6]);
  });

  test('maxAge', async () => {
    const stream = await written(3);
    await on.client.setStreamMetadata(stream, { maxAge: 1 });
    await settle(1500);
    await on.client.appendToStream(stream, event(3));
    assert.deepEqual(revisions(await read(stream)), [3]);
  });

  test('all of them at once: the strictest', async () => {
    const stream = await written(10);
    await on.client.setStreamMetadata(stream, { maxCount: 8, truncateBefore: 5, maxAge: 3600 });
    assert.deepEqual(revisions(await read(stream)), [5, 6, 7, 8, 9]);
  });

  test('$all does not: it shows everything until a scavenge', async () => {
    const stream = await written(4);
    await on.client.setStreamMetadata(stream, { maxCount: 1 });
    const all = await collect(on.client.readAll({ filter: streamNameFilter({ prefixes: [stream] }) }));
    assert.deepEqual(revisions(all), [0, 1, 2, 3]);
  });
});

test('a soft delete replaces it, a new event keeps the other keys', async () => {
  const stream = await written(3);
  await on.client.setStreamMetadata(stream, { maxCount: 100, custom: 'gone' });
  await on.client.deleteStream(stream);
  assert.deepEqual((await on.client.getStreamMetadata(stream)).metadata, { truncateBefore: Number(9223372036854775807n) });
  await on.client.appendToStream(stream, event(3));
  assert.deepEqual((await on.client.getStreamMetadata(stream)).metadata, { truncateBefore: 3 });
  assert.deepEqual(revisions(await read(stream)), [3]);
});

test('metadata written to a soft-deleted stream revives it', async () => {
  const stream = await written(2);
  await on.client.deleteStream(stream);
  await on.client.setStreamMetadata(stream, { custom: 'back' });
  await on.client.appendToStream(stream, event(2));
  const now = revisions(await read(stream));
  assert.equal(now.at(-1), 2);
  assert.equal((await on.client.getStreamMetadata(stream)).metadata.custom, 'back');
});
