// Persistent subscriptions at work: who gets what by each strategy, what becomes of each answer, retries and time-outs,
// parking and replay, and that a slow one slows nobody (G11, G18).

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DISPATCH_TO_SINGLE, PINNED, PINNED_BY_CORRELATION, ROUND_ROBIN, jsonEvent } from '@kurrent/kurrentdb-client';
import { collect, connect, event, events, fresh, numbers, onOneServer, revisions, settle } from './helpers.mjs';
import { consume, eventually, join, joinAll, link, parked, parkedStream, range, settings, settingsOfAll } from './groups.mjs';

const on = onOneServer();
const append = (stream, what) => on.client.appendToStream(stream, what);
const create = (stream, group, changes) => on.client.createPersistentSubscriptionToStream(stream, group, settings(changes));
const info = (stream, group) => on.client.getPersistentSubscriptionToStreamInfo(stream, group);
const sorted = (list) => [...list].sort((a, b) => a - b);
const total = (consumers) => consumers.reduce((sum, s) => sum + s.events.length, 0);
const allCame = (consumers, count) => eventually(`${count} events`, () => total(consumers), (n) => n >= count);
const endAll = (consumers) => Promise.all(consumers.map((s) => s.end()));

describe('strategies', () => {
  test('RoundRobin: to each in turn', async () => {
    const stream = fresh('rr');
    await create(stream, 'g', { consumerStrategyName: ROUND_ROBIN });
    const consumers = [await join(on.client, stream, 'g'), await join(on.client, stream, 'g'), await join(on.client, stream, 'g')];
    await append(stream, events(30));
    await allCame(consumers, 30);
    assert.deepEqual(consumers.map((s) => s.events.length), [10, 10, 10]);
    assert.deepEqual(sorted(consumers.flatMap((s) => numbers(s.events))), range(0, 30));
    await endAll(consumers);
  });

  test('RoundRobin: who is full is left out', async () => {
    const stream = fresh('rr');
    await create(stream, 'g', { consumerStrategyName: ROUND_ROBIN });
    const full = await join(on.client, stream, 'g', () => null, { bufferSize: 2 });
    const quick = await join(on.client, stream, 'g');
    await append(stream, events(40));
    await quick.count(38);
    await settle(100);
    assert.equal(full.events.length, 2);
    assert.equal(quick.events.length, 38);
    await endAll([full, quick]);
  });

  test('DispatchToSingle: to the first until it is full', async () => {
    const stream = fresh('single');
    await create(stream, 'g', { consumerStrategyName: DISPATCH_TO_SINGLE });
    const held = [];
    const first = await join(on.client, stream, 'g', (r) => void held.push(r), { bufferSize: 5 });
    const second = await join(on.client, stream, 'g', () => null, { bufferSize: 50 });
    await append(stream, events(12));
    await allCame([first, second], 12);
    assert.deepEqual(numbers(first.events), range(0, 5));
    assert.deepEqual(numbers(second.events), range(5, 12));
    await first.subscription.ack(...held);
    await settle(100);
    await append(stream, range(12, 15).map((n) => event(n)));
    await first.count(8);
    assert.deepEqual(numbers(first.events).slice(5), [12, 13, 14]);
    await endAll([first, second]);
  });

  test('Pinned: events of one stream to one consumer, in order, whoever joins and leaves', async () => {
    const [list, source] = [fresh('pin'), fresh('src')];
    for (const n of range(0, 8)) await append(`${source}-${n}`, events(40));
    await create(list, 'g', { consumerStrategyName: PINNED, resolveLinkTos: true });
    const consumers = [];
    for (let n = 0; n < 3; n++) consumers.push(await join(on.client, list, 'g', () => settle(1).then(() => 'ack')));
    for (const n of range(0, 20)) await append(list, range(0, 8).map((s) => link(`${source}-${s}`, n)));
    await allCame(consumers, 160);
    const places = new Map();
    for (const [c, seen] of consumers.entries()) {
      for (const r of seen.events) places.set(r.event.streamId, (places.get(r.event.streamId) ?? new Set()).add(c));
    }
    assert.equal(places.size, 8);
    for (const [stream, who] of places) assert.equal(who.size, 1, `${stream} went to ${[...who]}`);
    // One leaves, one joins: order is kept, per stream over all of them together.
    await consumers[0].end();
    consumers.push(await join(on.client, list, 'g'));
    for (const n of range(20, 40)) await append(list, range(0, 8).map((s) => link(`${source}-${s}`, n)));
    await eventually('all', () => new Set(consumers.flatMap((s) => s.events.map((r) => r.link.revision))).size, (n) => n === 320);
    for (const seen of consumers) {
      for (const s of range(0, 8)) {
        const own = seen.events.filter((r) => r.event.streamId === `${source}-${s}` && r.retryCount === 0);
        assert.deepEqual(revisions(own), sorted(revisions(own)), 'in order');
      }
    }
    await endAll(consumers.slice(1));
  });

  test('PinnedByCorrelation: events of one correlation to one consumer', async () => {
    const stream = fresh('corr');
    await create(stream, 'g', { consumerStrategyName: PINNED_BY_CORRELATION });
    const consumers = [await join(on.client, stream, 'g'), await join(on.client, stream, 'g')];
    for (const n of range(0, 10)) {
      await append(stream, range(0, 12).map((c) => jsonEvent({ type: 'T', data: { n: n * 12 + c, c }, metadata: { $correlationId: `c-${c}` } })));
    }
    await allCame(consumers, 120);
    for (const c of range(0, 12)) {
      const who = consumers.filter((s) => s.events.some((r) => r.event.data.c === c));
      assert.equal(who.length, 1, `correlation ${c}`);
      const own = numbers(who[0].events.filter((r) => r.event.data.c === c));
      assert.deepEqual(own, range(0, 10).map((n) => n * 12 + c));
    }
    await endAll(consumers);
  });
});

describe('answers', () => {
  test('retry: again with one retry more, to the number allowed, then parked with the reason', async () => {
    const stream = fresh('nack');
    await append(stream, events(3));
    await create(stream, 'g', { maxRetryCount: 3 });
    const seen = await join(on.client, stream, 'g', (r) => (r.event.data.n === 1 ? 'retry' : 'ack'), { reason: 'not today' });
    const all = await eventually('a parked event', () => parked(on.client, stream, 'g').catch(() => []), (p) => p.length === 1);
    assert.deepEqual(seen.events.filter((r) => r.event.data.n === 1).map((r) => r.retryCount), [0, 1, 2, 3]);
    assert.equal(seen.events.length, 6);
    assert.equal(all[0].event.type, '$>');
    assert.equal(Buffer.from(all[0].event.data).toString(), `1@${stream}`);
    assert.ok(all[0].event.metadata.Reason);
    assert.ok(all[0].event.metadata.Added);
    assert.equal((await info(stream, 'g')).stats.parkedMessageCount, 1n);
    await seen.end();
  });

  test('park: at once, with what the client said', async () => {
    const stream = fresh('nack');
    await append(stream, events(3));
    await create(stream, 'g');
    const seen = await join(on.client, stream, 'g', (r) => (r.event.data.n === 1 ? 'park' : 'ack'), { reason: 'poison: ☠' });
    await seen.count(3);
    const [one] = await eventually('a parked event', () => parked(on.client, stream, 'g').catch(() => []), (p) => p.length === 1);
    assert.match(one.event.metadata.Reason, /poison: ☠/);
    const [resolved] = await collect(on.client.readStream(parkedStream(stream, 'g'), { resolveLinkTos: true }));
    assert.equal(resolved.event.data.n, 1);
    assert.equal(resolved.event.streamId, stream);
    await settle(100);
    assert.equal(seen.events.length, 3);
    await seen.end();
  });

  test('skip: done, and nothing is parked', async () => {
    const stream = fresh('nack');
    await append(stream, events(3));
    await create(stream, 'g', { checkPointLowerBound: 1, checkPointUpperBound: 1 });
    const seen = await join(on.client, stream, 'g', () => 'skip');
    await seen.count(3);
    await eventually('a checkpoint', () => info(stream, 'g'), (i) => i.stats.lastCheckpointedEventRevision === 2n);
    const said = await info(stream, 'g');
    assert.equal(said.stats.parkedMessageCount, 0n);
    assert.equal(said.stats.totalInFlightMessages, 0);
    assert.equal(seen.events.length, 3);
    await seen.end();
  });

  test('stop: changes nothing; the message times out', async () => {
    const stream = fresh('nack');
    await append(stream, events(1));
    await create(stream, 'g', { messageTimeout: 500 });
    const seen = await join(on.client, stream, 'g', (_, n) => (n === 0 ? 'stop' : 'ack'));
    await seen.count(1);
    await settle(150);
    assert.equal(seen.events.length, 1);
    await seen.count(2);
    assert.equal(seen.events[1].retryCount, 1);
    await seen.end();
  });

  test('none in time: again, to others too, and parked at last', async () => {
    const stream = fresh('late');
    await append(stream, events(2));
    await create(stream, 'g', { messageTimeout: 250, maxRetryCount: 2 });
    const seen = await join(on.client, stream, 'g', (r) => (r.event.data.n === 0 ? null : 'ack'));
    const all = await eventually('a parked event', () => parked(on.client, stream, 'g').catch(() => []), (p) => p.length === 1);
    assert.deepEqual(seen.events.filter((r) => r.event.data.n === 0).map((r) => r.retryCount), [0, 1, 2]);
    assert.match(all[0].event.metadata.Reason, /./);
    await seen.end();
  });

  test('many in one message, each once, and what is unknown is ignored', async () => {
    const stream = fresh('ids');
    await append(stream, events(20));
    await create(stream, 'g', { checkPointLowerBound: 1, checkPointUpperBound: 1 });
    const held = [];
    const seen = await join(on.client, stream, 'g', (r) => void held.push(r), { bufferSize: 20 });
    await seen.count(20);
    const stranger = { event: { ...held[0].event, id: '3f2504e0-4f89-41d3-9a0c-0305e82c3301' } };
    await seen.subscription.ack(stranger, ...held.slice(0, 10), ...held.slice(0, 10));
    await seen.subscription.nack('park', 'half', ...held.slice(10));
    await eventually('a checkpoint', () => info(stream, 'g'), (i) => i.stats.lastCheckpointedEventRevision === 19n);
    assert.equal((await info(stream, 'g')).stats.parkedMessageCount, 10n);
    assert.equal(seen.events.length, 20);
    await seen.end();
  });
});

describe('parked events', () => {
  const withParked = async (count) => {
    const stream = fresh('parked');
    await append(stream, events(count));
    await create(stream, 'g');
    let isParking = true;
    const seen = await join(on.client, stream, 'g', () => (isParking ? 'park' : 'ack'), { bufferSize: 100 });
    await eventually('parked', () => info(stream, 'g'), (i) => i.stats.parkedMessageCount === BigInt(count));
    isParking = false;
    return { stream, seen };
  };

  test('are replayed, all of them, and are parked no more', async () => {
    const { stream, seen } = await withParked(12);
    await on.client.replayParkedMessagesToStream(stream, 'g');
    await seen.count(24);
    assert.deepEqual(sorted(numbers(seen.events.slice(12))), range(0, 12));
    assert.deepEqual(new Set(seen.events.map((r) => r.retryCount)), new Set([0]));
    await eventually('nothing parked', () => info(stream, 'g'), (i) => i.stats.parkedMessageCount === 0n);
    await settle(100);
    assert.equal(seen.events.length, 24);
    await seen.end();
  });

  test('are replayed up to a number', async () => {
    const { stream, seen } = await withParked(6);
    await on.client.replayParkedMessagesToStream(stream, 'g', { stopAt: 2 });
    await seen.count(8);
    await settle(200);
    assert.equal(seen.events.length, 8);
    await eventually('four parked', () => info(stream, 'g'), (i) => i.stats.parkedMessageCount === 4n);
    await on.client.replayParkedMessagesToStream(stream, 'g');
    await seen.count(12);
    assert.deepEqual(sorted(numbers(seen.events.slice(6))), range(0, 6));
    await seen.end();
  });

  test('a negative number is refused', async () => {
    const { stream, seen } = await withParked(1);
    await assert.rejects(on.client.replayParkedMessagesToStream(stream, 'g', { stopAt: -1 }), { type: 'persistent-subscription-failed' });
    await seen.end();
  });

  test('may be parked again', async () => {
    const stream = fresh('parked');
    await append(stream, events(4));
    await create(stream, 'g');
    const seen = await join(on.client, stream, 'g', () => 'park');
    for (const round of range(1, 4)) {
      await eventually('all parked', () => info(stream, 'g'), (i) => i.stats.parkedMessageCount === 4n);
      await seen.count(4 * round);
      if (round < 3) await on.client.replayParkedMessagesToStream(stream, 'g');
      await eventually('a new round', () => seen.events.length, (n) => round === 3 || n > 4 * round);
    }
    assert.deepEqual(sorted(numbers(await collect(on.client.readStream(parkedStream(stream, 'g'), { resolveLinkTos: true })))), [0, 1, 2, 3]);
    await seen.end();
  });

  test('are there for a consumer that comes later', async () => {
    const { stream, seen } = await withParked(3);
    await seen.end();
    await on.client.replayParkedMessagesToStream(stream, 'g');
    const late = await join(on.client, stream, 'g');
    await late.count(3);
    assert.deepEqual(sorted(numbers(late.events)), [0, 1, 2]);
    await late.end();
  });
});

describe('isolation', () => {
  test('a consumer that stands still holds up neither writers nor other groups', async () => {
    const stream = fresh('slow');
    for (const group of ['slow', 'quick']) await create(stream, group, { messageTimeout: 60_000 });
    const client = connect(on.server.port);
    const subscription = client.subscribeToPersistentSubscriptionToStream(stream, 'slow', { bufferSize: 1000 });
    await new Promise((done) => subscription.once('confirmation', done).once('readable', () => {})); // and never reads
    const quick = await join(on.client, stream, 'quick', undefined, { bufferSize: 100 });
    const text = 'x'.repeat(4000);
    const began = performance.now();
    for (const n of range(0, 20)) await append(stream, range(0, 100).map((m) => jsonEvent({ type: 'Large', data: { n: n * 100 + m, text } })));
    assert.ok(performance.now() - began < 10_000, 'writers waited');
    await quick.count(2000);
    assert.deepEqual(numbers(quick.events), range(0, 2000));
    await quick.end();
    await client.dispose();
    // What it had was not lost.
    const seen = await join(on.client, stream, 'slow', undefined, { bufferSize: 1000 });
    await seen.until('all', (s) => new Set(numbers(s.events)).size === 2000);
    await seen.end();
  });

  test('a group that fails every event holds up no other', async () => {
    const stream = fresh('poison');
    await create(stream, 'bad', { maxRetryCount: 3 });
    await create(stream, 'good');
    const bad = await join(on.client, stream, 'bad', () => 'retry');
    const good = await join(on.client, stream, 'good');
    await append(stream, events(100));
    await good.count(100);
    await eventually('all parked', () => info(stream, 'bad'), (i) => i.stats.parkedMessageCount === 100n);
    assert.equal(bad.events.length, 400);
    await endAll([bad, good]);
  });

  test('consumers that come and go all the time: everything comes, in the end', async () => {
    const prefix = fresh('flap');
    // Each leave of a consumer counts as a retry of what it had.
    await on.client.createPersistentSubscriptionToAll('flap', settingsOfAll({ maxRetryCount: 1000 }), { filter: (await import('@kurrent/kurrentdb-client')).streamNameFilter({ prefixes: [prefix] }) });
    const acked = new Set();
    const writing = (async () => {
      for (const n of range(0, 300)) await append(`${prefix}-${n % 7}`, event(n));
    })();
    for (const round of range(0, 12)) {
      const seen = await joinAll(on.client, 'flap', (r) => {
        if (round % 3 === 2) return null;
        acked.add(r.event.data.n);
        return 'ack';
      });
      await settle(40);
      await seen.end();
    }
    await writing;
    const last = await joinAll(on.client, 'flap');
    // An ack of a consumer that left at once may not have arrived: then the event comes again.
    await last.until('the rest', (s) => new Set([...acked, ...numbers(s.events)]).size === 300);
    await last.end();
    assert.equal(last.error, null);
  });

  test('a registration storm: 200 groups at once, made, listed, deleted', async () => {
    const stream = fresh('storm');
    await append(stream, events(3));
    await Promise.all(range(0, 200).map((n) => create(stream, `g-${n}`)));
    assert.equal((await on.client.listPersistentSubscriptionsToStream(stream)).length, 200);
    const some = await Promise.all(range(0, 20).map((n) => join(on.client, stream, `g-${n}`)));
    await append(stream, event(3));
    for (const seen of some) {
      await seen.count(4);
      assert.deepEqual(numbers(seen.events), [0, 1, 2, 3]);
      await seen.end();
    }
    await Promise.all(range(0, 200).map((n) => on.client.deletePersistentSubscriptionToStream(stream, `g-${n}`)));
    await assert.rejects(on.client.listPersistentSubscriptionsToStream(stream), { type: 'persistent-subscription-does-not-exist' });
  });

  test('half-closed or cancelled: the consumer is gone', async () => {
    const stream = fresh('gone');
    await create(stream, 'g');
    const seen = consume(on.client.subscribeToPersistentSubscriptionToStream(stream, 'g'));
    await seen.confirmation();
    assert.equal((await info(stream, 'g')).connections.length, 1);
    await seen.end();
    await eventually('nobody', () => info(stream, 'g'), (i) => i.connections.length === 0);
  });
});
