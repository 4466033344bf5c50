// Persistent subscriptions of $all: filters, positions, and that they do not feed on themselves.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { END, START, eventTypeFilter, excludeSystemEvents, streamNameFilter } from '@kurrent/kurrentdb-client';
import { collect, event, events, fresh, numbers, onOneServer, refused, settle } from './helpers.mjs';
import { consume, eventually, joinAll, range, settings, settingsOfAll } from './groups.mjs';

const on = onOneServer();
const append = (stream, what) => on.client.appendToStream(stream, what);
const create = (group, changes, filter) => on.client.createPersistentSubscriptionToAll(group, settingsOfAll(changes), { filter });
const info = (group) => on.client.getPersistentSubscriptionToAllInfo(group);
const drop = (group) => on.client.deletePersistentSubscriptionToAll(group);

describe('filters', () => {
  test('by prefix and expression, of name and type: history and live', async () => {
    const category = fresh('flt').replaceAll('-', '');
    for (const n of range(0, 6)) await append(`${category}-${n % 2}`, event(n, n < 3 ? `${category}Low` : `${category}High`));
    const filters = [
      streamNameFilter({ prefixes: [`${category}-1`] }),
      streamNameFilter({ regex: `^${category}-0$` }),
      eventTypeFilter({ prefixes: [`${category}Hig`, 'Nothing'] }),
      eventTypeFilter({ regex: `^${category}Low$` }),
      streamNameFilter({ prefixes: [`${category}-0`, `${category}-1`] }),
    ];
    const consumers = [];
    for (const [n, filter] of filters.entries()) {
      await create(`${category}-${n}`, {}, filter);
      consumers.push(await joinAll(on.client, `${category}-${n}`));
    }
    for (const n of range(6, 12)) await append(`${category}-${n % 2}`, event(n, n < 9 ? `${category}Low` : `${category}High`));
    const expected = [[1, 3, 5, 7, 9, 11], [0, 2, 4, 6, 8, 10], [3, 4, 5, 9, 10, 11], [0, 1, 2, 6, 7, 8], range(0, 12)];
    for (const [n, seen] of consumers.entries()) {
      await seen.count(expected[n].length);
      assert.deepEqual(numbers(seen.events), expected[n]);
      await seen.end();
      await drop(`${category}-${n}`);
    }
  });

  test('an expression that is none is refused', async () => {
    await refused(create('bad', {}, streamNameFilter({ regex: '(' })), 'unknown');
    await refused(info('bad'), 'persistent-subscription-does-not-exist');
  });
});

describe('positions', () => {
  test('settings are read back as they were sent', async () => {
    const { position } = await append(fresh('all'), event(0));
    const all = [{}, { startFrom: START }, { startFrom: END }, { startFrom: position }, { maxRetryCount: 3, extraStatistics: true }];
    for (const [n, changes] of all.entries()) {
      await create(`set-${n}`, changes);
      const said = await info(`set-${n}`);
      assert.deepEqual(said.settings, settingsOfAll(changes));
      assert.equal(said.eventSource, '$all');
    }
    for (const changes of all) {
      await on.client.updatePersistentSubscriptionToAll('set-0', settingsOfAll(changes));
      assert.deepEqual((await info('set-0')).settings, settingsOfAll(changes));
    }
    for (const n of all.keys()) await drop(`set-${n}`);
  });

  test('a position: itself and what follows', async () => {
    const stream = fresh('all');
    await append(stream, event(0));
    const { position } = await append(stream, event(1));
    await append(stream, event(2));
    await create('from', { startFrom: position }, streamNameFilter({ prefixes: [stream] }));
    const seen = await joinAll(on.client, 'from');
    await seen.count(2);
    await settle(100);
    assert.deepEqual(numbers(seen.events), [1, 2]);
    assert.equal(seen.events[0].commitPosition, position.commit);
    await seen.end();
    await drop('from');
  });

  test('behind the end of the log, or prepare above commit: refused', async () => {
    const { position } = await append(fresh('all'), event(0));
    await refused(create('far', { startFrom: { commit: position.commit + 1_000_000n, prepare: 0n } }), 'unknown');
    await refused(create('far', { startFrom: { commit: position.commit, prepare: position.commit + 1n } }), 'unknown');
    await refused(info('far'), 'persistent-subscription-does-not-exist');
  });

  test('end: only what comes', async () => {
    const stream = fresh('all');
    await append(stream, events(3));
    await create('end', { startFrom: END }, streamNameFilter({ prefixes: [stream] }));
    await append(stream, event(3));
    const seen = await joinAll(on.client, 'end');
    await append(stream, event(4));
    await seen.count(2);
    await settle(100);
    assert.deepEqual(numbers(seen.events), [3, 4]);
    await seen.end();
    await drop('end');
  });
});

describe('everything', () => {
  test('the whole log in order, and no end of its own making', async () => {
    for (const n of range(0, 10)) await append(fresh('all'), event(n));
    const log = await collect(on.client.readAll());
    await create('whole', { checkPointLowerBound: 1, checkPointUpperBound: 1, checkPointAfter: 1 });
    const seen = await joinAll(on.client, 'whole', undefined, { bufferSize: 50 });
    const marker = await append(fresh('marker'), event(-1));
    await seen.until('the marker', (s) => s.events.some((r) => r.commitPosition === marker.position.commit));
    const got = seen.events.map((r) => r.event.id);
    // What groups of $all write about themselves is not for them.
    const isOwn = (name) => /^(\$\$)?\$persistentsubscription-\$all::/.test(name);
    for (const r of log.filter((l) => !isOwn(l.event.streamId))) assert.ok(got.includes(r.event.id), `${r.event.streamId} is missing`);
    assert.equal(new Set(got).size, got.length);
    // Its own checkpoints are events of the log too: each would cause another.
    await settle(1500);
    const count = seen.events.length;
    await settle(1500);
    assert.ok(seen.events.length - count <= 2, `${seen.events.length - count} events though nobody wrote`);
    const position = (await info('whole')).stats.lastCheckpointedEventPosition;
    assert.ok(position.commit >= marker.position.commit);
    await seen.end();
    await drop('whole');
  });

  test('without system events', async () => {
    await create('user', {}, excludeSystemEvents ? eventTypeFilter({ regex: '^[^$].*' }) : undefined);
    const stream = fresh('all');
    const seen = await joinAll(on.client, 'user');
    await append(stream, event(5));
    await seen.until('ours', (s) => s.events.some((r) => r.event.streamId === stream));
    assert.ok(seen.events.every((r) => !r.event.type.startsWith('$')));
    await seen.end();
    await drop('user');
  });
});

describe('groups', () => {
  test('are created once, listed, deleted in use', async () => {
    await create('one');
    await create('two', { maxSubscriberCount: 1 });
    await refused(create('one'), 'persistent-subscription-exists');
    const names = (await on.client.listPersistentSubscriptionsToAll()).map((s) => s.groupName);
    assert.deepEqual(names.sort(), ['one', 'two']);
    assert.ok((await on.client.listAllPersistentSubscriptions()).filter((s) => s.eventSource === '$all').length === 2);
    const seen = await joinAll(on.client, 'two', () => null);
    const more = consume(on.client.subscribeToPersistentSubscriptionToAll('two'));
    assert.equal((await more.failure()).type, 'maximum-subscribers-reached');
    await drop('two');
    assert.equal((await seen.failure()).type, 'persistent-subscription-dropped');
    await refused(drop('two'), 'persistent-subscription-does-not-exist');
    await refused(info('two'), 'persistent-subscription-does-not-exist');
    await refused(on.client.updatePersistentSubscriptionToAll('two', settingsOfAll()), 'persistent-subscription-does-not-exist');
    await refused(on.client.replayParkedMessagesToAll('two'), 'persistent-subscription-does-not-exist');
    await drop('one');
    await refused(on.client.listPersistentSubscriptionsToAll(), 'persistent-subscription-does-not-exist');
  });

  test('an update keeps the filter, drops consumers and goes on from the checkpoint', async () => {
    const stream = fresh('all');
    await append(stream, events(10));
    await create('upd', { checkPointLowerBound: 1, checkPointUpperBound: 1 }, streamNameFilter({ prefixes: [stream] }));
    const first = await joinAll(on.client, 'upd');
    await first.count(10);
    const last = first.events.at(-1).commitPosition;
    await eventually('a checkpoint', () => info('upd'), (i) => i.stats.lastCheckpointedEventPosition?.commit >= last);
    await on.client.updatePersistentSubscriptionToAll('upd', settingsOfAll({ maxRetryCount: 1 }));
    assert.equal((await first.failure()).type, 'persistent-subscription-dropped');
    const second = await joinAll(on.client, 'upd');
    await append(fresh('other'), event(99));
    await append(stream, event(10));
    await second.count(1);
    await settle(100);
    assert.deepEqual(numbers(second.events), [10]);
    await second.end();
    await drop('upd');
  });

  test('parked events are replayed', async () => {
    const stream = fresh('all');
    await append(stream, events(5));
    await create('park', {}, streamNameFilter({ prefixes: [stream] }));
    let isParking = true;
    const seen = await joinAll(on.client, 'park', () => (isParking ? 'park' : 'ack'));
    await eventually('parked', () => info('park'), (i) => i.stats.parkedMessageCount === 5n);
    isParking = false;
    await on.client.replayParkedMessagesToAll('park');
    await seen.count(10);
    assert.deepEqual(numbers(seen.events.slice(5)).sort(), range(0, 5));
    await eventually('nothing parked', () => info('park'), (i) => i.stats.parkedMessageCount === 0n);
    await seen.end();
    await drop('park');
  });
});

test('a group of $all and one of a stream with the same name are two', async () => {
  const stream = fresh('both');
  await create('same', {}, streamNameFilter({ prefixes: ['nothing-'] }));
  await on.client.createPersistentSubscriptionToStream(stream, 'same', settings());
  await drop('same');
  assert.equal((await on.client.getPersistentSubscriptionToStreamInfo(stream, 'same')).groupName, 'same');
});

test('what only this server selects by is in the list too, and can be consumed by the name that it has there', async () => {
  const type = fresh('Rare');
  for (const n of range(0, 6)) await append(fresh('any'), event(n, n % 2 ? type : 'Other'));
  for (const name of ['$all', '$nilo-type']) {
    const made = await fetch(`${on.server.url}/v1/subscriptions/${name}/${type}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ from: 'start', selector: { kind: 'type', types: [type] } }),
    });
    assert.equal(made.status, 201, await made.text());
    const subscription = name === '$all'
      ? on.client.subscribeToPersistentSubscriptionToAll(type)
      : on.client.subscribeToPersistentSubscriptionToStream(name, type);
    const seen = consume(subscription);
    await seen.count(3);
    assert.deepEqual(numbers(seen.events), [1, 3, 5]);
    const listed = (await on.client.listAllPersistentSubscriptions()).find((s) => s.eventSource === name && s.groupName === type);
    assert.equal(listed.settings.startFrom, START);
    assert.equal(listed.connections.length, 1);
    await seen.end();
  }
});
