// Appends: expected revisions, conflicts, batches, retries (G1, G4, G5), by both write paths of the client.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { ANY, NO_STREAM, STREAM_EXISTS, jsonEvent } from '@kurrent/kurrentdb-client';
import { collect, connect, event, events, fresh, ids, numbers, onOneServer, refused, revisions, writePaths } from './helpers.mjs';

const on = onOneServer();

for (const { path, with: options } of writePaths) {
  const append = (stream, what, streamState) => on.client.appendToStream(stream, what, { streamState, ...options });

  describe(`${path}: expected revision`, () => {
    test('any, no_stream, exact and stream_exists in their order', async () => {
      const stream = fresh();
      const first = await append(stream, event(0), ANY);
      assert.equal(first.success, true);
      assert.equal(first.nextExpectedRevision, 0n);
      const second = await append(stream, event(1), 0n);
      assert.equal(second.nextExpectedRevision, 1n);
      const third = await append(stream, event(2), STREAM_EXISTS);
      assert.equal(third.nextExpectedRevision, 2n);
      const other = fresh();
      assert.equal((await append(other, event(0), NO_STREAM)).nextExpectedRevision, 0n);
      assert.ok(first.position.commit < second.position.commit && second.position.commit < third.position.commit);
      assert.deepEqual(numbers(await collect(on.client.readStream(stream))), [0, 1, 2]);
    });

    test('without one, any is meant', async () => {
      const stream = fresh();
      await on.client.appendToStream(stream, event(0), options);
      assert.equal((await on.client.appendToStream(stream, event(1), options)).nextExpectedRevision, 1n);
    });

    const conflicts = [
      { name: 'stream_exists on an absent stream', before: 0, expected: STREAM_EXISTS, actual: 'no_stream' },
      { name: 'an exact revision on an absent stream', before: 0, expected: 0n, actual: 'no_stream' },
      { name: 'no_stream on a stream', before: 3, expected: NO_STREAM, actual: 2n },
      { name: 'a revision that has passed', before: 3, expected: 1n, actual: 2n },
      { name: 'a revision to come', before: 3, expected: 7n, actual: 2n },
    ];
    for (const { name, before, expected, actual } of conflicts) {
      test(`conflict: ${name}`, async () => {
        const stream = fresh();
        if (before) await append(stream, events(before), NO_STREAM);
        const error = await refused(append(stream, event(9), expected), 'wrong-expected-version');
        assert.equal(error.streamName, stream);
        assert.equal(error.expectedState, expected);
        assert.equal(error.actualState, actual);
        if (before) assert.equal((await collect(on.client.readStream(stream))).length, before);
        else await refused(collect(on.client.readStream(stream)), 'stream-not-found');
      });
    }

    test('a conflict as a result, where the caller asks for results', async () => {
      const quiet = connect(on.server.port, '&throwOnAppendFailure=false');
      const stream = fresh();
      await quiet.appendToStream(stream, events(5), options);
      const result = await quiet.appendToStream(stream, event(9), { streamState: NO_STREAM, ...options });
      assert.equal(result.success, false);
      assert.equal(result.position, undefined);
      // By BatchAppend the client itself loses the number.
      if (path === 'Append') assert.equal(result.nextExpectedRevision, 4n);
      await quiet.dispose();
    });

    test('of racing writers exactly one wins each revision', async () => {
      const stream = fresh();
      await append(stream, event(0), NO_STREAM);
      for (let round = 0n; round < 5n; round++) {
        const results = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => append(stream, event(n), round)));
        const won = results.filter((r) => r.status === 'fulfilled');
        assert.equal(won.length, 1);
        assert.equal(won[0].value.nextExpectedRevision, round + 1n);
        for (const lost of results.filter((r) => r.status === 'rejected')) {
          assert.equal(lost.reason.type, 'wrong-expected-version');
          assert.equal(lost.reason.expectedState, round);
          assert.equal(lost.reason.actualState, round + 1n);
        }
      }
      assert.deepEqual(revisions(await collect(on.client.readStream(stream))), [0, 1, 2, 3, 4, 5]);
    });
  });

  describe(`${path}: batches`, () => {
    test('a batch is contiguous, in order, and answered with its last revision and position', async () => {
      const stream = fresh();
      const result = await append(stream, events(100), NO_STREAM);
      assert.equal(result.nextExpectedRevision, 99n);
      const read = await collect(on.client.readStream(stream));
      assert.deepEqual(numbers(read), Array.from({ length: 100 }, (_, n) => n));
      const positions = read.map((r) => r.event.position.commit);
      for (let i = 1; i < positions.length; i++) assert.equal(positions[i], positions[i - 1] + 1n);
      assert.equal(result.position.commit, positions.at(-1));
      assert.equal(result.position.prepare, result.position.commit);
    });

    test('a refused batch writes none of its events', async () => {
      const stream = fresh();
      await append(stream, event(0), NO_STREAM);
      await refused(append(stream, events(50), 4n), 'wrong-expected-version');
      assert.equal((await collect(on.client.readStream(stream))).length, 1);
    });

    test('a batch larger than one message of the client', async () => {
      const stream = fresh();
      const large = Array.from({ length: 12 }, (_, n) => jsonEvent({ type: 'Large', data: { n, text: 'x'.repeat(700_000) } }));
      assert.equal((await append(stream, large, NO_STREAM)).nextExpectedRevision, 11n);
      const read = await collect(on.client.readStream(stream));
      assert.deepEqual(numbers(read), large.map((e) => e.data.n));
      assert.ok(read.every((r) => r.event.data.text.length === 700_000));
    });

    test('no events: the check alone, and the current revision', async () => {
      const stream = fresh();
      await append(stream, events(3), NO_STREAM);
      const result = await append(stream, [], 2n);
      assert.equal(result.success, true);
      assert.equal(result.nextExpectedRevision, 2n);
      await refused(append(stream, [], 1n), 'wrong-expected-version');
      assert.equal((await collect(on.client.readStream(stream))).length, 3);
    });
  });

  describe(`${path}: a retry with the same ids`, () => {
    for (const [name, state] of [['any', ANY], ['no_stream', NO_STREAM]]) {
      test(`${name}: the first answer again, nothing written twice`, async () => {
        const stream = fresh();
        const batch = events(3);
        const first = await append(stream, batch, state);
        await append(stream, event(8), ANY);
        const again = await append(stream, batch, state);
        assert.deepEqual(again, first);
        assert.deepEqual(ids(await collect(on.client.readStream(stream))).slice(0, 3), batch.map((e) => e.id));
        assert.equal((await collect(on.client.readStream(stream))).length, 4);
      });
    }

    test('exact: the same, wherever in the stream', async () => {
      const stream = fresh();
      await append(stream, events(2), NO_STREAM);
      const batch = events(2);
      const first = await append(stream, batch, 1n);
      await append(stream, events(4), 3n);
      assert.deepEqual(await append(stream, batch, 1n), first);
      assert.equal((await collect(on.client.readStream(stream))).length, 8);
    });

    test('stream_exists: the same', async () => {
      const stream = fresh();
      await append(stream, event(0), NO_STREAM);
      const one = event(1);
      const first = await append(stream, one, STREAM_EXISTS);
      assert.deepEqual(await append(stream, one, STREAM_EXISTS), first);
      assert.equal((await collect(on.client.readStream(stream))).length, 2);
    });

    test('a batch of known and unknown ids is a conflict, not half a write', async () => {
      const stream = fresh();
      const [one, two, three] = events(3);
      await append(stream, [one, two], NO_STREAM);
      await refused(append(stream, [one, two, three], NO_STREAM), 'wrong-expected-version');
      await refused(append(stream, [one, three], ANY), 'wrong-expected-version');
      assert.equal((await collect(on.client.readStream(stream))).length, 2);
    });

    test('the same id in another stream is another event', async () => {
      const one = event(1);
      const streams = [fresh(), fresh()];
      for (const stream of streams) assert.equal((await append(stream, one, NO_STREAM)).nextExpectedRevision, 0n);
      for (const stream of streams) assert.deepEqual(ids(await collect(on.client.readStream(stream))), [one.id]);
    });

    test('sent twice at once: both get one answer, one event is written', async () => {
      const stream = fresh();
      const one = event(1);
      const [a, b] = await Promise.all([append(stream, one, NO_STREAM), append(stream, one, NO_STREAM)]);
      assert.deepEqual(a, b);
      assert.equal((await collect(on.client.readStream(stream))).length, 1);
    });
  });
}

test('2 000 appends at once: each answered once, dense revisions, no position used twice', async () => {
  const streams = Array.from({ length: 200 }, () => fresh('load'));
  const results = await Promise.all(
    Array.from({ length: 2000 }, (_, n) => on.client.appendToStream(streams[n % 200], event(n), { streamState: ANY })));
  assert.equal(new Set(results.map((r) => r.position.commit)).size, 2000);
  for (let s = 0; s < 200; s++) {
    const answered = results.filter((_, n) => n % 200 === s).map((r) => Number(r.nextExpectedRevision)).sort((a, b) => a - b);
    assert.deepEqual(answered, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  }
  const read = await collect(on.client.readStream(streams[7]));
  assert.deepEqual(numbers(read).sort((a, b) => a - b), Array.from({ length: 10 }, (_, n) => 7 + 200 * n));
  for (const r of read) {
    assert.equal(results[r.event.data.n].position.commit, r.event.position.commit);
    assert.equal(results[r.event.data.n].nextExpectedRevision, r.event.revision);
  }
});
