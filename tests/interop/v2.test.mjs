// Appends to several streams by version 2 of the protocol, as the official client makes them: sessions
// (multiStreamAppend) and records with checks (appendRecords); every outcome of a check, errors as the client's
// classes, limits (G4-G6, G17).

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { ANY, binaryEvent, jsonEvent, NO_STREAM, START, STREAM_EXISTS } from '@kurrent/kurrentdb-client';
import { collect, event, events, fresh, onOneServer, refused } from './helpers.mjs';

const on = onOneServer();
const SOFT_DELETED = -5n;
const TOMBSTONED = -6n;
const EVENT_SIZE_MAX = 16 * 1024 * 1024 - 10_000;
const APPEND_SIZE_MAX = 64 * 1024 * 1024;

const read = (stream) => collect(on.client.readStream(stream));
const count = async (stream) => {
  try {
    return (await read(stream)).length;
  } catch (error) {
    if (error.type === 'stream-not-found') return 0;
    throw error;
  }
};
const record = (streamName, what = event(1)) => ({ streamName, record: what });
const check = (streamName, expectedState) => ({ type: 'streamState', streamName, expectedState });

describe('multiStreamAppend', () => {
  test('writes several streams as one, and tells where they are', async () => {
    const [a, b] = [fresh('a'), fresh('b')];
    await on.client.appendToStream(b, events(2));
    const result = await on.client.multiStreamAppend([
      { streamName: a, events: events(3), expectedState: NO_STREAM },
      { streamName: b, events: events(2), expectedState: 1n },
    ]);
    assert.deepEqual(result.responses, [
      { streamName: a, revision: 2n },
      { streamName: b, revision: 3n },
    ]);
    const [inA, inB] = [await read(a), await read(b)];
    assert.equal(inB.at(-1).event.position.commit, result.position);
    // One after the other, with nothing between.
    assert.equal(inA[0].event.position.commit + 4n, result.position);
  });

  test('metadata and schema are there for older readers', async () => {
    const stream = fresh('meta');
    const json = jsonEvent({ id: randomUUID(), type: 'Placed', data: { total: 5 }, metadata: { tenant: 'é "x"', empty: '' } });
    const binary = binaryEvent({ type: 'Scanned', data: new Uint8Array([1, 2, 255]) });
    await on.client.multiStreamAppend([{ streamName: stream, events: [json, binary], expectedState: ANY }]);
    const [first, second] = (await read(stream)).map((r) => r.event);
    assert.equal(first.id, json.id);
    assert.equal(first.type, 'Placed');
    assert.equal(first.isJson, true);
    assert.deepEqual(first.data, { total: 5 });
    assert.deepEqual(first.metadata, { tenant: 'é "x"', empty: '', '$schema.name': 'Placed', '$schema.format': 'Json' });
    assert.equal(second.isJson, false);
    assert.deepEqual([...second.data], [1, 2, 255]);
    const metadata = second.metadata instanceof Uint8Array ? JSON.parse(Buffer.from(second.metadata).toString()) : second.metadata;
    assert.deepEqual(metadata, { '$schema.name': 'Scanned', '$schema.format': 'Bytes' });
  });

  for (const [name, expectedState, current] of [
    ['no stream', NO_STREAM, 1n],
    ['an older revision', 0n, 1n],
    ['a revision to come', 9n, 1n],
  ]) {
    test(`expecting ${name} of a stream that is elsewhere, nothing is written`, async () => {
      const [good, bad] = [fresh('good'), fresh('bad')];
      await on.client.appendToStream(bad, events(2));
      const error = await refused(
        on.client.multiStreamAppend([
          { streamName: good, events: [event(1)], expectedState: NO_STREAM },
          { streamName: bad, events: [event(1)], expectedState },
        ]),
        'wrong-expected-version',
      );
      assert.equal(error.streamName, bad);
      assert.equal(error.expectedState, expectedState);
      assert.equal(error.actualState, current);
      assert.equal(await count(good), 0);
      assert.equal(await count(bad), 2);
    });
  }

  test('expecting a stream that is absent', async () => {
    const stream = fresh();
    const error = await refused(
      on.client.multiStreamAppend([{ streamName: stream, events: [event(1)], expectedState: STREAM_EXISTS }]),
      'wrong-expected-version',
    );
    assert.equal(error.actualState, NO_STREAM);
    assert.equal(error.expectedState, STREAM_EXISTS);
  });

  test('a tombstoned stream refuses all', async () => {
    const [good, gone] = [fresh('good'), fresh('gone')];
    await on.client.appendToStream(gone, event(1));
    await on.client.tombstoneStream(gone);
    const error = await refused(
      on.client.multiStreamAppend([
        { streamName: good, events: [event(1)], expectedState: ANY },
        { streamName: gone, events: [event(1)], expectedState: ANY },
      ]),
      'stream-tombstoned',
    );
    assert.equal(error.stream, gone);
    assert.equal(await count(good), 0);
  });

  test('a soft-deleted stream is there again', async () => {
    const stream = fresh('revived');
    await on.client.appendToStream(stream, events(2));
    await on.client.deleteStream(stream);
    const result = await on.client.multiStreamAppend([{ streamName: stream, events: [event(7)], expectedState: NO_STREAM }]);
    assert.equal(result.responses[0].revision, 2n);
    assert.deepEqual((await read(stream)).map((r) => r.event.data.n), [7]);
  });

  test('the same ids again are written once (G6)', async () => {
    const [a, b] = [fresh('a'), fresh('b')];
    const session = [
      { streamName: a, events: events(2), expectedState: NO_STREAM },
      { streamName: b, events: events(1), expectedState: ANY },
    ];
    const first = await on.client.multiStreamAppend(session);
    assert.deepEqual(await on.client.multiStreamAppend(session), first);
    assert.equal(await count(a), 2);
    assert.equal(await count(b), 1);
  });

  test('each stream once', async () => {
    const stream = fresh('twice');
    await assert.rejects(
      on.client.multiStreamAppend([
        { streamName: stream, events: [event(1)], expectedState: ANY },
        { streamName: stream, events: [event(2)], expectedState: ANY },
      ]),
      (error) => {
        assert.match(error.message, /came before in the session/);
        assert.notEqual(error.type, 'unavailable');
        return true;
      },
    );
    assert.equal(await count(stream), 0);
  });

  test('an empty session is refused', async () => {
    await assert.rejects(on.client.multiStreamAppend([]), (error) => {
      assert.notEqual(error.type, 'unavailable');
      return true;
    });
  });

  test('a session over the limit of appends is refused with it', async () => {
    const streams = Array.from({ length: 5 }, () => fresh('large'));
    const large = (size) => binaryEvent({ type: 'Large', data: new Uint8Array(size) });
    const error = await refused(
      on.client.multiStreamAppend(
        streams.map((streamName) => ({ streamName, events: [large(15 * 1024 * 1024)], expectedState: NO_STREAM })),
      ),
      'transaction-max-size-exceeded',
    );
    assert.equal(error.maxSize, APPEND_SIZE_MAX);
    assert.ok(error.size > APPEND_SIZE_MAX);
    assert.equal(await count(streams[0]), 0);
  });
});

describe('appendRecords', () => {
  test('records of several streams are in the log in their order', async () => {
    const [a, b] = [fresh('a'), fresh('b')];
    const result = await on.client.appendRecords([
      record(a, event(1)),
      record(b, event(2)),
      record(a, event(3)),
      record(b, event(4)),
    ]);
    assert.deepEqual(
      new Map(result.responses.map((r) => [r.streamName, r.revision])),
      new Map([
        [a, 1n],
        [b, 1n],
      ]),
    );
    const positions = [...(await read(a)), ...(await read(b))]
      .map((r) => [r.event.position.commit, r.event.data.n])
      .sort((x, y) => Number(x[0] - y[0]));
    assert.deepEqual(positions.map(([, n]) => n), [1, 2, 3, 4]);
    assert.equal(positions[3][0], result.position);
    assert.equal(positions[0][0] + 3n, result.position);
  });

  // What a check says of a stream in each state; `true`: it holds.
  const states = {
    absent: async () => {},
    live: async (stream) => on.client.appendToStream(stream, events(3)),
    'soft-deleted': async (stream) => {
      await on.client.appendToStream(stream, events(3));
      await on.client.deleteStream(stream);
    },
    tombstoned: async (stream) => {
      await on.client.appendToStream(stream, events(3));
      await on.client.tombstoneStream(stream);
    },
  };
  const matrix = [
    [2n, { absent: NO_STREAM, live: true, 'soft-deleted': true, tombstoned: TOMBSTONED }],
    [1n, { absent: NO_STREAM, live: 2n, 'soft-deleted': 2n, tombstoned: TOMBSTONED }],
    [0n, { absent: NO_STREAM, live: 2n, 'soft-deleted': 2n, tombstoned: TOMBSTONED }],
    [NO_STREAM, { absent: true, live: 2n, 'soft-deleted': true, tombstoned: true }, { tombstoned: TOMBSTONED }],
    [STREAM_EXISTS, { absent: NO_STREAM, live: true, 'soft-deleted': SOFT_DELETED, tombstoned: TOMBSTONED }],
    [SOFT_DELETED, { absent: NO_STREAM, live: 2n, 'soft-deleted': true, tombstoned: TOMBSTONED }],
    [TOMBSTONED, { absent: NO_STREAM, live: 2n, 'soft-deleted': 2n, tombstoned: true }, { tombstoned: TOMBSTONED }],
  ];
  for (const isWritten of [false, true]) {
    for (const [expected, checked, written = {}] of matrix) {
      test(`a check for ${expected} of a stream that is ${isWritten ? 'written too' : 'only checked'}`, async () => {
        for (const [state, bring] of Object.entries(states)) {
          const outcome = (isWritten && written[state]) || checked[state];
          const [stream, beside] = [fresh(state), fresh('beside')];
          await bring(stream);
          const records = [record(beside), ...(isWritten ? [record(stream)] : [])];
          const appended = on.client.appendRecords(records, [check(stream, expected)]);
          if (outcome === true) {
            assert.equal((await appended).responses.length, records.length);
            assert.equal(await count(beside), 1);
            continue;
          }
          const error = await refused(appended, 'append-consistency-violation');
          assert.deepEqual(error.violations, [
            { checkIndex: 0, streamName: stream, expectedState: expected, actualState: outcome },
          ]);
          assert.equal(await count(beside), 0);
        }
      });
    }
  }

  test('every check that fails is told, and a tombstone without a check', async () => {
    const [absent, live, gone] = [fresh('absent'), fresh('live'), fresh('gone')];
    await states.live(live);
    await states.tombstoned(gone);
    const error = await refused(
      on.client.appendRecords(
        [record(live), record(gone)],
        [check(absent, STREAM_EXISTS), check(live, 2n), check(fresh(), 4n)],
      ),
      'append-consistency-violation',
    );
    assert.deepEqual(
      error.violations.map((v) => [v.checkIndex, v.actualState]),
      [
        [0, NO_STREAM],
        [2, NO_STREAM],
        [3, TOMBSTONED],
      ],
    );
    assert.equal(error.violations[2].streamName, gone);
    assert.equal(error.violations[2].expectedState, ANY);
    assert.equal(await count(live), 3);
  });

  test('checks are decided with appends that are in flight (G5)', async () => {
    const stream = fresh('raced');
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) =>
        on.client.appendRecords([record(stream, event(n)), record(fresh('beside'), event(n))], [check(stream, NO_STREAM)]),
      ),
    );
    assert.equal(results.filter((r) => r.status === 'fulfilled').length, 1);
    for (const result of results) {
      if (result.status === 'fulfilled') continue;
      assert.equal(result.reason.type, 'append-consistency-violation');
      assert.equal(result.reason.violations[0].actualState, 0n);
    }
    assert.equal(await count(stream), 1);
  });

  test('the same ids again are written once (G6)', async () => {
    const stream = fresh('again');
    const records = [record(stream, event(1)), record(fresh(), event(2))];
    const first = await on.client.appendRecords(records, [check(stream, NO_STREAM)]);
    assert.deepEqual(await on.client.appendRecords(records, [check(stream, NO_STREAM)]), first);
    assert.equal(await count(stream), 1);
  });

  test('no records, an unknown check and a bad type are refused with the field', async () => {
    for (const [records, checks, pattern] of [
      [[], [], /records is empty/],
      [[record(fresh())], [check(fresh(), ANY)], /checks\[0\]\.stream_state\.expected_state/],
      [[record(fresh(), event(1, 'two words'))], [], /records\[0\]\.schema\.name/],
      [[record('$all')], [], /records\[0\]\.stream/],
    ]) {
      await assert.rejects(on.client.appendRecords(records, checks), (error) => {
        assert.match(error.message, pattern);
        assert.notEqual(error.type, 'unavailable');
        return true;
      });
    }
  });

  test('a record over the limit is refused with its size', async () => {
    const stream = fresh('large');
    const large = binaryEvent({ type: 'Large', data: new Uint8Array(EVENT_SIZE_MAX) });
    const error = await refused(on.client.appendRecords([record(stream, large)]), 'append-record-size-exceeded');
    assert.equal(error.stream, stream);
    assert.equal(error.recordId, large.id);
    assert.equal(error.maxSize, EVENT_SIZE_MAX);
    assert.equal(error.size, EVENT_SIZE_MAX + 'Large'.length);
    assert.equal(await count(stream), 0);
  });

  test('subscriptions are given them like any other events', async () => {
    const stream = fresh('live');
    const subscription = on.client.subscribeToStream(stream, { fromRevision: START });
    const seen = [];
    const done = new Promise((resolve, reject) => {
      subscription.on('error', reject).on('data', ({ event: e }) => {
        seen.push(e.data.n);
        if (seen.length === 4) resolve();
      });
    });
    await on.client.appendRecords([record(stream, event(1)), record(fresh(), event(9)), record(stream, event(2))]);
    await on.client.multiStreamAppend([{ streamName: stream, events: [event(3), event(4)], expectedState: 1n }]);
    await done;
    assert.deepEqual(seen, [1, 2, 3, 4]);
    await subscription.unsubscribe();
  });
});
