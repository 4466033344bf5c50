// Persistent subscriptions of one stream: what is defined is read back, where they begin, who may join, how they end, and
// every refusal as the client tells them apart.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DISPATCH_TO_SINGLE, END, NO_STREAM, PINNED, PINNED_BY_CORRELATION, ROUND_ROBIN, START, UNBOUNDED } from '@kurrent/kurrentdb-client';
import { connect, event, events, fresh, numbers, onOneServer, refused, revisions, settle } from './helpers.mjs';
import { consume, eventually, idOf, join, link, range, settings } from './groups.mjs';

const on = onOneServer();
const append = (stream, what) => on.client.appendToStream(stream, what);
const create = (stream, group, changes) => on.client.createPersistentSubscriptionToStream(stream, group, settings(changes));
const info = (stream, group) => on.client.getPersistentSubscriptionToStreamInfo(stream, group);

/** Every setting with another value than its default. */
const variations = [
  {},
  { startFrom: END },
  { startFrom: 7n },
  { resolveLinkTos: true },
  { extraStatistics: true },
  { messageTimeout: 1_234 },
  { maxRetryCount: 0 },
  { maxRetryCount: 99 },
  { checkPointAfter: 4_321 },
  { checkPointLowerBound: 1, checkPointUpperBound: 2 },
  { maxSubscriberCount: 3 },
  { liveBufferSize: 50 },
  { readBatchSize: 7, historyBufferSize: 70 },
  { consumerStrategyName: ROUND_ROBIN },
  { consumerStrategyName: DISPATCH_TO_SINGLE },
  { consumerStrategyName: PINNED },
];

describe('settings', () => {
  test('are read back as they were sent: by info and by the list', async () => {
    const stream = fresh('ps');
    for (const [n, changes] of [...variations, { consumerStrategyName: PINNED_BY_CORRELATION }].entries()) {
      await create(stream, `g-${n}`, changes);
      const said = await info(stream, `g-${n}`);
      assert.deepEqual(said.settings, settings(changes));
      assert.equal(said.eventSource, stream);
      assert.equal(said.groupName, `g-${n}`);
      assert.deepEqual(said.connections, []);
      const listed = (await on.client.listPersistentSubscriptionsToStream(stream)).find((s) => s.groupName === `g-${n}`);
      assert.deepEqual(listed.settings, settings(changes));
    }
  });

  test('are replaced by an update', async () => {
    const stream = fresh('ps');
    await create(stream, 'g');
    for (const changes of variations) {
      await on.client.updatePersistentSubscriptionToStream(stream, 'g', settings(changes));
      assert.deepEqual((await info(stream, 'g')).settings, settings(changes));
    }
  });

  test('that make no sense are refused with the reason', async () => {
    const stream = fresh('ps');
    for (const changes of [{ readBatchSize: 500, historyBufferSize: 500 }, { readBatchSize: 501, historyBufferSize: 500 }]) {
      const error = await refused(create(stream, 'g', changes), 'persistent-subscription-failed');
      assert.equal(error.streamName, stream);
      assert.equal(error.groupName, 'g');
      assert.match(error.reason, /read.batch|history/i);
      await refused(info(stream, 'g'), 'persistent-subscription-does-not-exist');
    }
    await refused(create(stream, 'g'.repeat(5_000)), 'persistent-subscription-failed');
  });

  test('names with every kind of character', async () => {
    const stream = fresh('pß:: ☃/%41');
    for (const group of ['ü ☃', 'a::b', 'a/b?c=d&e', '%41', '$system']) {
      await create(stream, group);
      assert.equal((await info(stream, group)).groupName, group);
      const seen = await join(on.client, stream, group);
      assert.equal(seen.subscription.id, `${stream}::${group}`);
      await seen.end();
    }
    assert.equal((await on.client.listPersistentSubscriptionsToStream(stream)).length, 5);
  });
});

describe('where it begins', () => {
  const starting = async (from, historic = 4) => {
    const stream = fresh('ps');
    if (historic) await append(stream, events(historic));
    await create(stream, 'g', { startFrom: from });
    return { stream, seen: await join(on.client, stream, 'g') };
  };

  test('start: everything', async () => {
    const { stream, seen } = await starting(START);
    await seen.count(4);
    await append(stream, [event(4), event(5)]);
    await seen.count(6);
    assert.deepEqual(numbers(seen.events), range(0, 6));
    assert.deepEqual(seen.events.map((r) => r.retryCount), [0, 0, 0, 0, 0, 0]);
    await seen.end();
  });

  test('a revision: itself and what follows', async () => {
    const { seen } = await starting(1n);
    await seen.count(3);
    await settle(100);
    assert.deepEqual(revisions(seen.events), [1, 2, 3]);
    await seen.end();
  });

  test('a revision that does not exist yet', async () => {
    const { stream, seen } = await starting(6n);
    await append(stream, events(4));
    await seen.count(2);
    await settle(100);
    assert.deepEqual(revisions(seen.events), [6, 7]);
    await seen.end();
  });

  test('end: only what comes', async () => {
    const { stream, seen } = await starting(END);
    await append(stream, event(77));
    await seen.count(1);
    await settle(100);
    assert.deepEqual(numbers(seen.events), [77]);
    await seen.end();
  });

  test('end, with nobody connected: what came since the creation', async () => {
    const stream = fresh('ps');
    await append(stream, events(3));
    await create(stream, 'g', { startFrom: END });
    await append(stream, [event(3), event(4)]);
    const seen = await join(on.client, stream, 'g');
    await seen.count(2);
    assert.deepEqual(numbers(seen.events), [3, 4]);
    await seen.end();
  });

  test('a stream that is not there yet', async () => {
    const { stream, seen } = await starting(START, 0);
    await append(stream, events(3));
    await seen.count(3);
    assert.deepEqual(numbers(seen.events), [0, 1, 2]);
    await seen.end();
  });
});

describe('what comes', () => {
  // Reads and persistent subscriptions have bytes in different classes.
  const bytes = (value) => (value instanceof Uint8Array ? [...value] : value);
  const plain = (e) => ({ ...e, created: 0, data: bytes(e.data), metadata: bytes(e.metadata) });

  test('is what was written: data, metadata, type, id, position', async () => {
    const stream = fresh('ps');
    const { jsonEvent, binaryEvent } = await import('@kurrent/kurrentdb-client');
    const written = [
      jsonEvent({ type: 'Json', data: { a: [1, 'ü'] }, metadata: { m: true } }),
      binaryEvent({ type: 'Binary', data: Buffer.from([0, 255, 1]), metadata: Buffer.from([9, 8]) }),
      jsonEvent({ type: 'Empty', data: {} }),
    ];
    await append(stream, written);
    const { collect } = await import('./helpers.mjs');
    const read = await collect(on.client.readAll());
    await create(stream, 'g');
    const seen = await join(on.client, stream, 'g');
    await seen.count(3);
    assert.deepEqual(seen.events.map((r) => r.event.id), written.map((e) => e.id));
    for (const resolved of seen.events) {
      const other = read.find((r) => r.event.id === resolved.event.id);
      assert.deepEqual(plain(resolved.event), plain(other.event));
      assert.ok(Math.abs(resolved.event.created - other.event.created) < 1000); // reads cut it to seconds
      assert.equal(resolved.commitPosition, other.event.position.commit);
    }
    await seen.end();
  });

  test('links are followed when asked, and acknowledged as links', async () => {
    const [target, stream] = [fresh('target'), fresh('ps')];
    await append(target, events(3));
    await append(stream, [link(target, 2), link(target, 0), link(`${target}-none`, 0)]);
    await create(stream, 'followed', { resolveLinkTos: true, checkPointLowerBound: 1, checkPointUpperBound: 1 });
    await create(stream, 'plain');
    const followed = await join(on.client, stream, 'followed');
    await followed.count(3);
    assert.deepEqual(followed.events.map((r) => [r.event && Number(r.event.revision), Number(r.link.revision)]), [[2, 0], [0, 1], [undefined, 2]]);
    await eventually('a checkpoint at the last link', () => info(stream, 'followed'), (i) => i.stats.lastCheckpointedEventRevision === 2n);
    const plain = await join(on.client, stream, 'plain');
    await plain.count(3);
    assert.deepEqual(plain.events.map((r) => [r.event.streamId, r.link]), range(0, 3).map(() => [stream, undefined]));
    await followed.end();
    await plain.end();
  });

  test('only its own events, to each group of the stream', async () => {
    const [stream, other] = [fresh('ps'), fresh('ps')];
    for (const group of ['a', 'b']) await create(stream, group);
    const both = [await join(on.client, stream, 'a'), await join(on.client, stream, 'b')];
    for (const n of range(0, 20)) await append(n % 2 ? other : stream, event(n));
    for (const seen of both) {
      await seen.count(10);
      assert.deepEqual(numbers(seen.events), range(0, 10).map((n) => 2 * n));
      await seen.end();
    }
  });

  test('no more than the buffer without an answer', async () => {
    const stream = fresh('ps');
    await append(stream, events(50));
    await create(stream, 'g');
    const held = [];
    const seen = await join(on.client, stream, 'g', (r) => void held.push(r), { bufferSize: 7 });
    await seen.count(7);
    await settle(200);
    assert.equal(seen.events.length, 7);
    assert.equal((await info(stream, 'g')).connections[0].availableSlots, 0);
    await seen.subscription.ack(...held.slice(0, 3));
    await seen.count(10);
    await settle(100);
    assert.deepEqual(numbers(seen.events), range(0, 10));
    await seen.end();
  });

  test('thousands, acknowledged together', async () => {
    const stream = fresh('ps');
    for (const n of range(0, 5)) await append(stream, range(0, 1000).map((m) => event(n * 1000 + m)));
    await create(stream, 'g', { historyBufferSize: 2000, readBatchSize: 500 });
    let held = [];
    const seen = await join(on.client, stream, 'g', (r) => {
      held.push(r);
      if (held.length === 100) void seen.subscription.ack(...held.splice(0));
    }, { bufferSize: 1000 });
    await seen.count(5_000, 30_000);
    assert.deepEqual(numbers(seen.events), range(0, 5_000));
    await seen.end();
  });
});

describe('refusals', () => {
  test('what exists is not created again; what does not exist is not there for anybody', async () => {
    const stream = fresh('ps');
    await create(stream, 'g');
    const error = await refused(create(stream, 'g', { maxRetryCount: 3 }), 'persistent-subscription-exists');
    assert.equal(error.streamName, stream);
    assert.equal(error.groupName, 'g');
    assert.equal((await info(stream, 'g')).settings.maxRetryCount, 10);
    const missing = [
      () => on.client.updatePersistentSubscriptionToStream(stream, 'none', settings()),
      () => on.client.deletePersistentSubscriptionToStream(stream, 'none'),
      () => on.client.replayParkedMessagesToStream(stream, 'none'),
      () => info(stream, 'none'),
    ];
    for (const call of missing) {
      const e = await refused(call(), 'persistent-subscription-does-not-exist');
      assert.equal(e.streamName, stream);
      assert.equal(e.groupName, 'none');
      assert.match(e.message, new RegExp(`Subscription group none on stream ${stream} does not exist\\.`));
    }
    const e = await refused(on.client.listPersistentSubscriptionsToStream(fresh('none')), 'persistent-subscription-does-not-exist');
    assert.match(e.message, /Subscription group {2}on stream none-\S+ does not exist\./);
    const nobody = consume(on.client.subscribeToPersistentSubscriptionToStream(stream, 'none'));
    assert.equal((await nobody.failure()).type, 'persistent-subscription-does-not-exist');
    assert.equal(nobody.confirmed, false);
  });

  test('one consumer more than allowed', async () => {
    const stream = fresh('ps');
    await create(stream, 'g', { maxSubscriberCount: 2 });
    const two = [await join(on.client, stream, 'g'), await join(on.client, stream, 'g')];
    const third = consume(on.client.subscribeToPersistentSubscriptionToStream(stream, 'g'));
    const error = await third.failure();
    assert.equal(error.type, 'maximum-subscribers-reached');
    assert.equal(error.streamName, stream);
    assert.equal(error.groupName, 'g');
    await two[0].end();
    await eventually('a place', () => info(stream, 'g'), (i) => i.connections.length === 1);
    await (await join(on.client, stream, 'g')).end();
    await two[1].end();
  });

  test('$all is no stream, and the stream must have a name', async () => {
    await refused(create('$all', 'g'), 'unknown');
    await refused(create('', 'g'), 'unknown');
    await refused(create(fresh('ps'), ''), 'unknown');
  });
});

describe('ends', () => {
  test('a deletion drops its consumers and forgets it: checkpoint and parked events too', async () => {
    const stream = fresh('ps');
    await append(stream, events(10));
    const changes = { checkPointLowerBound: 1, checkPointUpperBound: 1 };
    await create(stream, 'g', changes);
    const seen = await join(on.client, stream, 'g', (_, n) => (n === 3 ? 'park' : 'ack'));
    await seen.count(10);
    await eventually('a checkpoint', () => info(stream, 'g'), (i) => i.stats.lastCheckpointedEventRevision === 9n);
    await on.client.deletePersistentSubscriptionToStream(stream, 'g');
    const error = await seen.failure();
    assert.equal(error.type, 'persistent-subscription-dropped');
    assert.equal(error.streamName, stream);
    assert.equal(error.groupName, 'g');
    await refused(info(stream, 'g'), 'persistent-subscription-does-not-exist');
    await create(stream, 'g', changes);
    const again = await join(on.client, stream, 'g');
    await again.count(10);
    assert.deepEqual(numbers(again.events), range(0, 10));
    assert.equal((await info(stream, 'g')).stats.parkedMessageCount, 0n);
    await again.end();
  });

  test('an update drops its consumers; it goes on from its checkpoint, not from the new start', async () => {
    const stream = fresh('ps');
    await append(stream, events(20));
    await create(stream, 'g', { checkPointLowerBound: 1, checkPointUpperBound: 1 });
    const first = await join(on.client, stream, 'g', (_, n) => (n < 10 ? 'ack' : null), { bufferSize: 5 });
    await first.count(15);
    await eventually('a checkpoint', () => info(stream, 'g'), (i) => i.stats.lastCheckpointedEventRevision === 9n);
    await on.client.updatePersistentSubscriptionToStream(stream, 'g', settings({ startFrom: START, maxRetryCount: 5 }));
    assert.equal((await first.failure()).type, 'persistent-subscription-dropped');
    const second = await join(on.client, stream, 'g');
    await second.count(10);
    await settle(100);
    assert.deepEqual(revisions(second.events), range(10, 20));
    await second.end();
  });

  test('an update before any checkpoint takes the new start', async () => {
    const stream = fresh('ps');
    await append(stream, events(6));
    await create(stream, 'g', { startFrom: END });
    await on.client.updatePersistentSubscriptionToStream(stream, 'g', settings({ startFrom: 2n }));
    const seen = await join(on.client, stream, 'g');
    await seen.count(4);
    assert.deepEqual(revisions(seen.events), [2, 3, 4, 5]);
    await seen.end();
  });

  test('who leaves gets nothing more; what it had goes to others, once more', async () => {
    const stream = fresh('ps');
    await append(stream, events(10));
    await create(stream, 'g');
    const first = await join(on.client, stream, 'g', () => null, { bufferSize: 4 });
    await first.count(4);
    await first.end();
    const second = await join(on.client, stream, 'g');
    await second.count(10);
    assert.deepEqual(numbers(second.events).sort((a, b) => a - b), range(0, 10));
    for (const r of second.events) assert.equal(r.retryCount, r.event.data.n < 4 ? 1 : 0);
    await second.end();
    assert.equal(first.error, null);
  });

  test('the subsystem restarts: consumers are dropped, and everything goes on', async () => {
    const stream = fresh('ps');
    await append(stream, events(10));
    await create(stream, 'g', { checkPointLowerBound: 1, checkPointUpperBound: 1 });
    const first = await join(on.client, stream, 'g', (_, n) => (n < 5 ? 'ack' : null), { bufferSize: 2 });
    await first.count(7);
    await on.client.restartPersistentSubscriptionSubsystem();
    assert.equal((await first.failure()).type, 'persistent-subscription-dropped');
    const second = await eventually('the group', async () => {
      const seen = consume(on.client.subscribeToPersistentSubscriptionToStream(stream, 'g'));
      await seen.until('an answer', (s) => s.confirmed || s.error);
      return seen;
    }, (s) => s.confirmed);
    await second.until('the last event', (s) => s.events.some((r) => r.event.data.n === 9));
    assert.ok(numbers(second.events)[0] <= 5, 'nothing was lost');
    assert.deepEqual([...new Set([...numbers(first.acked), ...numbers(second.events)])].sort((a, b) => a - b), range(0, 10));
    await second.end();
  });
});

describe('lists and statistics', () => {
  test('all subscriptions, those of a stream', async () => {
    const [one, two] = [fresh('ps'), fresh('ps')];
    await create(one, 'a');
    await create(one, 'b', { maxRetryCount: 3 });
    await create(two, 'a');
    const names = (list) => list.map((s) => `${s.eventSource}::${s.groupName}`);
    assert.deepEqual(names(await on.client.listPersistentSubscriptionsToStream(one)).sort(), [`${one}::a`, `${one}::b`]);
    const all = names(await on.client.listAllPersistentSubscriptions());
    for (const name of [`${one}::a`, `${one}::b`, `${two}::a`]) assert.ok(all.includes(name));
    assert.equal(new Set(all).size, all.length);
  });

  test('connections: who, how many, how fast', async () => {
    const stream = fresh('ps');
    const client = connect(on.server.port, '&connectionName=the-consumer');
    await append(stream, events(100));
    await create(stream, 'g', { extraStatistics: true });
    const held = [];
    const seen = await join(client, stream, 'g', (r, n) => (n < 60 ? 'ack' : void held.push(r)), { bufferSize: 20 });
    await seen.count(80);
    const said = await eventually('statistics', () => info(stream, 'g'), (i) => i.stats.totalInFlightMessages === 20);
    assert.equal(said.connections.length, 1);
    const [connection] = said.connections;
    assert.equal(connection.connectionName, 'the-consumer');
    assert.equal(connection.username, 'anonymous');
    assert.match(connection.from, /127\.0\.0\.1|::1/);
    assert.equal(connection.totalItems, 80n);
    assert.equal(connection.inFlightMessages, 20);
    assert.equal(connection.availableSlots, 0);
    assert.deepEqual([...connection.extraStatistics.keys()], ['mean', 'median', 'fastest', 'quintile 1', 'quintile 2', 'quintile 3',
      'quintile 4', 'quintile 5', '90%', '95%', '99%', '99.5%', '99.9%', 'highest']);
    const measured = connection.extraStatistics;
    assert.ok(measured.get('fastest') <= measured.get('median') && measured.get('median') <= measured.get('highest'));
    assert.ok(measured.get('highest') < 10_000n);
    assert.equal(said.stats.totalItems, 80n);
    assert.equal(said.stats.outstandingMessagesCount, 20);
    assert.equal(said.stats.parkedMessageCount, 0n);
    assert.equal(said.stats.lastKnownEventRevision, 99n);
    await seen.subscription.ack(...held);
    await seen.count(100);
    await seen.end();
    await client.dispose();
    await eventually('nobody', () => info(stream, 'g'), (i) => i.connections.length === 0);
  });

  test('how long acknowledging took is measured', async () => {
    const stream = fresh('ps');
    await append(stream, events(5));
    await create(stream, 'g', { extraStatistics: true });
    const seen = await join(on.client, stream, 'g', () => settle(300).then(() => 'ack'), { bufferSize: 1 });
    await eventually('measurements', () => info(stream, 'g'), (i) => i.connections[0]?.extraStatistics?.get('fastest') >= 250n);
    await seen.end();
  });

  test('without extraStatistics there are none', async () => {
    const stream = fresh('ps');
    await append(stream, events(5));
    await create(stream, 'g');
    const seen = await join(on.client, stream, 'g');
    await seen.count(5);
    assert.equal((await info(stream, 'g')).connections[0].extraStatistics, undefined);
    await seen.end();
  });

  test('live when all is given out, behind before', async () => {
    const stream = fresh('ps');
    await append(stream, events(30));
    await create(stream, 'g');
    const seen = await join(on.client, stream, 'g', () => null, { bufferSize: 5 });
    await seen.count(5);
    await seen.end();
    const all = await join(on.client, stream, 'g');
    await all.count(30);
    const said = await eventually('live', () => info(stream, 'g'), (i) => i.status === 'Live');
    assert.equal(said.stats.lastKnownEventRevision, 29n);
    await all.end();
  });
});

test('a stream that is tombstoned has no group any more', async () => {
  const stream = fresh('ps');
  await on.client.appendToStream(stream, events(3), { streamState: NO_STREAM });
  await create(stream, 'g');
  const seen = await join(on.client, stream, 'g');
  await seen.count(3);
  assert.equal(new Set(seen.events.map(idOf)).size, 3);
  await seen.end();
  await on.client.tombstoneStream(stream);
  const late = consume(on.client.subscribeToPersistentSubscriptionToStream(stream, 'g'));
  await late.until('an answer', (s) => s.confirmed || s.error);
  if (late.error) assert.match(late.error.type, /stream-deleted|persistent-subscription-does-not-exist/);
  else await late.end();
});
