// Catch-up subscriptions (G10): history, then live, without a gap or a repeat; filters with checkpoints; slow readers (G18).

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { END, START, eventTypeFilter, jsonEvent, streamNameFilter } from '@kurrent/kurrentdb-client';
import { collect, connect, event, events, follow, fresh, ids, numbers, onOneServer, revisions, settle } from './helpers.mjs';

const on = onOneServer();
const append = (stream, what) => on.client.appendToStream(stream, what);
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);

describe('a stream', () => {
  test('history, caught up once, then live', async () => {
    const stream = fresh('sub');
    await append(stream, events(5));
    const seen = follow(on.client.subscribeToStream(stream));
    await seen.live();
    assert.equal(seen.confirmed, true);
    assert.deepEqual(numbers(seen.events), [0, 1, 2, 3, 4]);
    assert.equal(seen.caughtUp[0].revision, 4n);
    assert.ok(Math.abs(seen.caughtUp[0].date.getTime() - Date.now()) < 5000);
    await append(stream, event(5));
    await append(stream, [event(6), event(7)]);
    await seen.count(8);
    assert.deepEqual(revisions(seen.events), range(0, 8));
    await settle(100);
    assert.equal(seen.caughtUp.length, 1);
    assert.equal(seen.events.length, 8);
    await seen.end();
  });

  test('after a revision: what follows it, not itself', async () => {
    const stream = fresh('sub');
    await append(stream, events(5));
    const seen = follow(on.client.subscribeToStream(stream, { fromRevision: 2n }));
    await seen.live();
    assert.deepEqual(revisions(seen.events), [3, 4]);
    await append(stream, event(5));
    await seen.count(3);
    assert.deepEqual(revisions(seen.events), [3, 4, 5]);
    await seen.end();
  });

  test('from the end: only what is new', async () => {
    const stream = fresh('sub');
    await append(stream, events(5));
    const seen = follow(on.client.subscribeToStream(stream, { fromRevision: END }));
    await seen.live();
    await append(stream, event(5));
    await seen.count(1);
    assert.deepEqual(revisions(seen.events), [5]);
    await seen.end();
  });

  test('that does not exist yet: waits for its first event', async () => {
    const stream = fresh('sub');
    const seen = follow(on.client.subscribeToStream(stream, { fromRevision: START }));
    await seen.live();
    assert.equal(seen.events.length, 0);
    assert.equal(seen.caughtUp[0].revision, undefined);
    await append(stream, events(2));
    await seen.count(2);
    assert.deepEqual(revisions(seen.events), [0, 1]);
    await seen.end();
  });

  test('only its own events, and to each of its subscribers', async () => {
    const [stream, other] = [fresh('sub'), fresh('sub')];
    const all = range(0, 5).map(() => follow(on.client.subscribeToStream(stream)));
    await Promise.all(all.map((s) => s.live()));
    for (const n of range(0, 20)) await append(n % 2 ? other : stream, event(n));
    for (const seen of all) {
      await seen.count(10);
      assert.deepEqual(numbers(seen.events), range(0, 10).map((n) => 2 * n));
      await seen.end();
    }
  });

  test('links are followed when asked', async () => {
    const [stream, list] = [fresh('target'), fresh('sub')];
    await append(stream, events(2));
    const { binaryEvent } = await import('@kurrent/kurrentdb-client');
    await append(list, binaryEvent({ type: '$>', data: Buffer.from(`1@${stream}`) }));
    const seen = follow(on.client.subscribeToStream(list, { resolveLinkTos: true }));
    await seen.live();
    await append(list, binaryEvent({ type: '$>', data: Buffer.from(`0@${stream}`) }));
    await seen.count(2);
    assert.deepEqual(seen.events.map((r) => [r.event.streamId, Number(r.event.revision), r.link.streamId]), [[stream, 1, list], [stream, 0, list]]);
    await seen.end();
  });

  test('after it was left nothing comes, and the client goes on', async () => {
    const stream = fresh('sub');
    const seen = follow(on.client.subscribeToStream(stream));
    await seen.live();
    await seen.end();
    await append(stream, events(3));
    await settle(200);
    assert.equal(seen.events.length, 0);
    assert.equal(seen.error, null);
    assert.equal((await collect(on.client.readStream(stream))).length, 3);
  });

  test('a tombstone ends it with stream-deleted; so does subscribing afterwards', async () => {
    const stream = fresh('sub');
    await append(stream, events(2));
    const seen = follow(on.client.subscribeToStream(stream));
    await seen.live();
    await on.client.tombstoneStream(stream);
    await seen.until('the end', (s) => s.error);
    assert.equal(seen.error.type, 'stream-deleted');
    assert.equal(seen.error.streamName, stream);
    const late = follow(on.client.subscribeToStream(stream));
    await late.until('a refusal', (s) => s.error);
    assert.equal(late.error.type, 'stream-deleted');
  });

  test('a soft delete does not end it', async () => {
    const stream = fresh('sub');
    await append(stream, events(2));
    const seen = follow(on.client.subscribeToStream(stream));
    await seen.live();
    await on.client.deleteStream(stream);
    await append(stream, event(2));
    await seen.count(3);
    assert.deepEqual(revisions(seen.events), [0, 1, 2]);
    await seen.end();
  });
});

describe('$all', () => {
  test('history and live are the log itself', async () => {
    const seen = follow(on.client.subscribeToAll());
    await seen.live();
    const historic = seen.events.length;
    assert.ok(historic > 0);
    assert.deepEqual(seen.caughtUp[0].position, seen.events.at(-1).event.position);
    for (const n of range(0, 10)) await append(fresh('all'), event(n));
    await seen.count(historic + 10);
    assert.deepEqual(ids(seen.events), ids(await collect(on.client.readAll())));
    assert.equal(seen.caughtUp.length, 1);
    await seen.end();
  });

  test('after a position: what follows it', async () => {
    const stream = fresh('all');
    const { position } = await append(stream, event(0));
    await append(stream, events(3));
    const seen = follow(on.client.subscribeToAll({ fromPosition: position }));
    await seen.live();
    assert.equal(seen.events[0].event.position.commit, position.commit + 1n);
    assert.deepEqual(revisions(seen.events), [1, 2, 3]);
    await seen.end();
  });

  test('from the end', async () => {
    const seen = follow(on.client.subscribeToAll({ fromPosition: END }));
    await seen.live();
    const stream = fresh('all');
    await append(stream, events(3));
    await seen.count(3);
    assert.deepEqual(seen.events.map((r) => r.event.streamId), [stream, stream, stream]);
    await seen.end();
  });

  test('joined at any moment of a busy writer: no gap, no repeat', async () => {
    const prefix = fresh('busy');
    const { position: start } = await append(`${prefix}-0`, event(-1));
    let writing = true;
    let wrote = 1;
    const writers = range(0, 8).map(async (w) => {
      while (writing && wrote < 5000) {
        await append(`${prefix}-${w}`, event(wrote++));
      }
    });
    const seen = [];
    for (const n of range(0, 6)) {
      await settle(60);
      seen.push(follow(on.client.subscribeToAll({ fromPosition: n % 2 ? start : START })));
      seen.push(follow(on.client.subscribeToAll({ fromPosition: start, filter: streamNameFilter({ prefixes: [prefix] }) })));
      seen.push(follow(on.client.subscribeToStream(`${prefix}-${n}`)));
    }
    await settle(100);
    writing = false;
    await Promise.all(writers);
    const last = (await append(`${prefix}-0`, event(-2))).position;
    const log = await collect(on.client.readAll());
    for (const s of seen.filter((_, n) => n % 3 !== 2)) {
      await s.until('the last event', ({ events }) => events.at(-1)?.event.position.commit === last.commit);
      const first = s.events[0].event.position.commit;
      assert.deepEqual(ids(s.events), ids(log.filter((r) => r.event.position.commit >= first)));
      await s.end();
    }
    for (const [n, s] of seen.filter((_, n) => n % 3 === 2).entries()) {
      const stream = log.filter((r) => r.event.streamId === `${prefix}-${n}`);
      await s.count(stream.length);
      assert.deepEqual(ids(s.events), ids(stream));
      await s.end();
    }
  });

  test('a reader who stands still holds nobody up, and then gets everything', async () => {
    const client = connect(on.server.port); // a connection of its own: the others must not wait behind it
    const stream = fresh('slow');
    const { position } = await append(stream, event(-1));
    const subscription = client.subscribeToAll({ fromPosition: position });
    await new Promise((done) => subscription.once('confirmation', done).once('readable', () => {}));
    const text = 'x'.repeat(4000);
    const began = performance.now();
    for (const n of range(0, 40)) {
      await append(stream, range(0, 100).map((m) => jsonEvent({ type: 'Large', data: { n: n * 100 + m, text } })));
    }
    assert.ok(performance.now() - began < 10_000, 'writers waited');
    const got = [];
    for await (const resolved of subscription) {
      got.push(resolved.event.data.n);
      if (got.length === 4000) break;
    }
    assert.deepEqual(got, range(0, 4000));
    await client.dispose();
  });
});

describe('filters', () => {
  const subscribe = async (filter, options = {}) => {
    const seen = follow(on.client.subscribeToAll({ filter, ...options }));
    await seen.live();
    return seen;
  };

  test('by prefix and expression, of name and type: history and live', async () => {
    const category = fresh('flt').replaceAll('-', '');
    for (const n of range(0, 6)) await append(`${category}-${n % 2}`, event(n, n < 3 ? 'Low' : 'High'));
    const all = await Promise.all([
      subscribe(streamNameFilter({ prefixes: [`${category}-1`] })),
      subscribe(streamNameFilter({ regex: `^${category}-0$` })),
      subscribe(eventTypeFilter({ prefixes: ['Hig', 'Nothing'] })),
      subscribe(eventTypeFilter({ regex: '^Low$' })),
    ]);
    for (const n of range(6, 12)) await append(`${category}-${n % 2}`, event(n, n < 9 ? 'Low' : 'High'));
    const expected = [[1, 3, 5, 7, 9, 11], [0, 2, 4, 6, 8, 10], [3, 4, 5, 9, 10, 11], [0, 1, 2, 6, 7, 8]];
    for (const [n, seen] of all.entries()) {
      await seen.count(6);
      assert.deepEqual(numbers(seen.events), expected[n]);
      await seen.end();
    }
  });

  test('checkpoints rise, come though nothing matches, and are good to go on from', async () => {
    const prefix = fresh('cp');
    const { position: start } = await append(`${prefix}-before`, event(0));
    for (const n of range(0, 10)) await append(`${prefix}-other`, events(100));
    const checkpoints = [];
    const filter = (reached) =>
      streamNameFilter({ prefixes: [`${prefix}-wanted`], maxSearchWindow: 50, checkpointInterval: 2, checkpointReached: reached });
    const seen = await subscribe(filter((_, position) => void checkpoints.push(position)), { fromPosition: start });
    assert.equal(seen.events.length, 0);
    assert.ok(checkpoints.length >= 8, `${checkpoints.length} checkpoints for 1 000 events examined, one per 100 asked for`);
    assert.ok(checkpoints.length <= 12);
    for (let i = 1; i < checkpoints.length; i++) assert.ok(checkpoints[i].commit > checkpoints[i - 1].commit);
    await seen.end();

    const { position } = await append(`${prefix}-wanted`, event(7));
    const resumed = await subscribe(filter(() => {}), { fromPosition: checkpoints.at(-1) });
    assert.deepEqual(numbers(resumed.events), [7]);
    assert.deepEqual(resumed.events[0].event.position, position);
    await resumed.end();
  });

  test('384 matching events, window 32, every 2 windows: 6 or 7 checkpoints, as KurrentDB', async () => {
    const prefix = fresh('cp384');
    const { position: start } = await append(`${prefix}-before`, event(0));
    await append(prefix, events(384));
    let checkpoints = 0;
    const seen = await subscribe(
      streamNameFilter({ prefixes: [prefix], maxSearchWindow: 32, checkpointInterval: 2, checkpointReached: () => void checkpoints++ }),
      { fromPosition: start });
    await seen.count(384);
    assert.ok(checkpoints === 6 || checkpoints === 7, `${checkpoints} checkpoints`);
    await seen.end();
  });

  test('checkpoints go on in live', async () => {
    const prefix = fresh('cplive');
    const checkpoints = [];
    const seen = await subscribe(
      streamNameFilter({ prefixes: [`${prefix}-never`], maxSearchWindow: 10, checkpointInterval: 1, checkpointReached: (_, p) => void checkpoints.push(p) }),
      { fromPosition: END });
    const before = checkpoints.length;
    for (const n of range(0, 60)) await append(prefix, event(n));
    await settle(300);
    assert.ok(checkpoints.length - before >= 4, `${checkpoints.length - before} live checkpoints for 60 events, one per 10 asked for`);
    await seen.end();
  });
});
