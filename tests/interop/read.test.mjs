// Reads by stream and of everything: directions, bounds, positions, filters, links, and what comes back of an event.

import { before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  BACKWARDS, END, FORWARDS, NO_STREAM, START, binaryEvent, eventTypeFilter, excludeSystemEvents, jsonEvent, streamNameFilter,
} from '@kurrent/kurrentdb-client';
import { collect, event, events, fresh, numbers, onOneServer, refused, revisions } from './helpers.mjs';

const on = onOneServer();
const readStream = (stream, options) => collect(on.client.readStream(stream, options));
const readAll = (options) => collect(on.client.readAll(options));

describe('a stream', () => {
  const stream = fresh('read');
  before(() => on.client.appendToStream(stream, events(10), { streamState: NO_STREAM }));

  // Not here: backwards from the start and forwards from the end, for which the client sends the other direction.
  const cases = [
    [{}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    [{ maxCount: 3 }, [0, 1, 2]],
    [{ fromRevision: START, maxCount: 1 }, [0]],
    [{ fromRevision: 4n }, [4, 5, 6, 7, 8, 9]],
    [{ fromRevision: 4n, maxCount: 2 }, [4, 5]],
    [{ fromRevision: 9n }, [9]],
    [{ fromRevision: 10n }, []],
    [{ fromRevision: 1000n }, []],
    [{ direction: BACKWARDS, fromRevision: END }, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]],
    [{ direction: BACKWARDS, fromRevision: END, maxCount: 1 }, [9]],
    [{ direction: BACKWARDS, fromRevision: 3n }, [3, 2, 1, 0]],
    [{ direction: BACKWARDS, fromRevision: 3n, maxCount: 2 }, [3, 2]],
    [{ direction: BACKWARDS, fromRevision: 1000n, maxCount: 2 }, [9, 8]],
  ];
  for (const [options, expected] of cases) {
    const name = JSON.stringify(options, (_, v) => (typeof v === 'bigint' ? Number(v) : v));
    test(`read with ${name}`, async () => {
      assert.deepEqual(numbers(await readStream(stream, options)), expected);
    });
  }

  test('more events than a page, both ways', async () => {
    const long = fresh('read');
    await on.client.appendToStream(long, events(2500), { streamState: NO_STREAM });
    const expected = Array.from({ length: 2500 }, (_, n) => n);
    assert.deepEqual(revisions(await readStream(long)), expected);
    assert.deepEqual(revisions(await readStream(long, { direction: BACKWARDS, fromRevision: END })), expected.reverse());
  });

  test('that does not exist', async () => {
    const absent = fresh('absent');
    assert.equal((await refused(readStream(absent), 'stream-not-found')).streamName, absent);
    await refused(readStream(absent, { direction: BACKWARDS, fromRevision: END }), 'stream-not-found');
    await refused(readStream(absent, { fromRevision: 5n, maxCount: 1 }), 'stream-not-found');
  });

  test('a reader who leaves early does not disturb the next', async () => {
    for await (const first of on.client.readStream(stream)) {
      assert.equal(first.event.revision, 0n);
      break;
    }
    assert.equal((await readStream(stream)).length, 10);
  });
});

describe('what comes back of an event', () => {
  test('JSON: type, id, data, metadata, date, revision, position', async () => {
    const stream = fresh();
    const id = randomUUID();
    const data = { text: 'größer 😀 "quoted" \\ \n', number: 1.5, list: [1, null, true], deep: { a: { b: {} } } };
    const metadata = { $correlationId: 'c-1', who: 'æ' };
    const wrote = Date.now();
    const result = await on.client.appendToStream(stream, jsonEvent({ id, type: 'Order.Placed-v1', data, metadata }));
    const [{ event: read, link, commitPosition }] = await readStream(stream);
    assert.equal(read.id, id);
    assert.equal(read.type, 'Order.Placed-v1');
    assert.equal(read.streamId, stream);
    assert.equal(read.isJson, true);
    assert.deepEqual(read.data, data);
    assert.deepEqual(read.metadata, metadata);
    assert.equal(read.revision, 0n);
    assert.deepEqual(read.position, result.position);
    assert.equal(commitPosition, result.position.commit);
    assert.equal(link, undefined);
    // The client's reading half keeps whole seconds only.
    assert.ok(Math.abs(read.created.getTime() - wrote) < 3000, `created ${read.created}`);
  });

  test('binary: the same bytes, also none at all and with binary metadata', async () => {
    const stream = fresh();
    const bytes = Uint8Array.from({ length: 1024 }, (_, n) => (n * 7) & 0xff);
    await on.client.appendToStream(stream, [
      binaryEvent({ type: 'Bytes', data: bytes, metadata: Uint8Array.of(0xff, 0, 0xfe) }),
      binaryEvent({ type: 'None', data: new Uint8Array(0) }),
    ]);
    const [first, second] = await readStream(stream);
    assert.equal(first.event.isJson, false);
    assert.deepEqual(Buffer.from(first.event.data), Buffer.from(bytes));
    assert.deepEqual(Buffer.from(first.event.metadata), Buffer.of(0xff, 0, 0xfe));
    assert.equal(second.event.data.length, 0);
    assert.equal(second.event.metadata, undefined);
  });

  for (const name of ['Straße-ÄÖÜ', '流-イベント', 'emoji-😀', 'with space/and slash?&=%25', 'quote"-\\', '-leading', 'a'.repeat(1024)]) {
    test(`a stream named ${name.slice(0, 30)}`, async () => {
      const result = await on.client.appendToStream(name, event(1, 'Typ-ß'), { streamState: NO_STREAM });
      const [{ event: read }] = await readStream(name);
      assert.equal(read.streamId, name);
      assert.equal(read.type, 'Typ-ß');
      assert.deepEqual(read.position, result.position);
      const error = await refused(on.client.appendToStream(name, event(2), { streamState: 5n }), 'wrong-expected-version');
      assert.equal(error.streamName, name);
    });
  }
});

describe('$all', () => {
  const prefix = `all${randomUUID().slice(0, 6)}`;
  const results = [];
  before(async () => {
    for (let n = 0; n < 12; n++) {
      results.push(await on.client.appendToStream(`${prefix}-${n % 3}`, event(n, n % 2 ? 'Odd' : 'Even')));
    }
  });
  const mine = (all) => all.filter((r) => r.event?.streamId.startsWith(prefix));

  test('shows every event once, in the order of positions, without holes', async () => {
    const all = await readAll();
    assert.deepEqual(numbers(mine(all)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    all.forEach((r, i) => assert.equal(r.event.position.commit, all[0].event.position.commit + BigInt(i)));
    assert.deepEqual(mine(all).map((r) => r.event.position), results.map((r) => r.position));
  });

  test('backwards is the mirror of forwards', async () => {
    const forwards = await readAll({ direction: FORWARDS, fromPosition: START });
    const backwards = await readAll({ direction: BACKWARDS, fromPosition: END });
    assert.deepEqual(backwards.map((r) => r.event.id).reverse(), forwards.map((r) => r.event.id));
  });

  test('from a position: forwards with it, backwards before it', async () => {
    const from = results[5].position;
    assert.deepEqual(numbers(mine(await readAll({ fromPosition: from, maxCount: 3 }))), [5, 6, 7]);
    assert.deepEqual(numbers(mine(await readAll({ direction: BACKWARDS, fromPosition: from, maxCount: 3 }))), [4, 3, 2]);
  });

  test('maxCount', async () => {
    assert.equal((await readAll({ maxCount: 4 })).length, 4);
    assert.equal((await readAll({ maxCount: 4, direction: BACKWARDS, fromPosition: END })).length, 4);
  });

  test('a new server shows a system event before the first of a user', async () => {
    const [first] = await readAll({ maxCount: 1 });
    assert.match(first.event.streamId, /^\$/);
  });

  const all12 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
  const filters = [
    ['stream name by prefix', streamNameFilter({ prefixes: [`${prefix}-1`] }), [1, 4, 7, 10]],
    ['stream name by several prefixes', streamNameFilter({ prefixes: [`${prefix}-0`, `${prefix}-2`] }), [0, 2, 3, 5, 6, 8, 9, 11]],
    ['stream name by regular expression', streamNameFilter({ regex: `^${prefix}-[12]$` }), [1, 2, 4, 5, 7, 8, 10, 11]],
    ['unanchored regular expression', streamNameFilter({ regex: `${prefix.slice(2)}-0` }), [0, 3, 6, 9]],
    ['look-ahead', streamNameFilter({ regex: `^(?!.*-0$)${prefix}` }), [1, 2, 4, 5, 7, 8, 10, 11]],
    ['event type by prefix', eventTypeFilter({ prefixes: ['Odd'] }), [1, 3, 5, 7, 9, 11]],
    ['event type by regular expression', eventTypeFilter({ regex: '^(Odd|Even)$' }), all12],
    ['no system events', excludeSystemEvents(), all12],
    ['a prefix is not a regular expression', streamNameFilter({ prefixes: [`${prefix}.1`] }), []],
    ['case matters', eventTypeFilter({ prefixes: ['odd'] }), []],
  ];
  for (const [name, filter, expected] of filters) {
    test(`filter: ${name}`, async () => {
      const read = await readAll({ filter });
      assert.ok(read.every((r) => !r.event.streamId.startsWith('$')));
      assert.deepEqual(numbers(mine(read)), expected);
      assert.deepEqual(numbers(mine(await readAll({ filter, direction: BACKWARDS, fromPosition: END }))), [...expected].reverse());
    });
  }

  test('filter: maxCount counts what matches, and the position still bounds', async () => {
    const filter = streamNameFilter({ prefixes: [`${prefix}-1`] });
    assert.deepEqual(numbers(await readAll({ filter, maxCount: 2 })), [1, 4]);
    assert.deepEqual(numbers(await readAll({ filter, fromPosition: results[5].position })), [7, 10]);
  });

  test('filter: a pattern that is none is refused, and the connection goes on', async () => {
    await assert.rejects(readAll({ filter: streamNameFilter({ regex: '(unclosed' }) }));
    assert.equal((await readAll({ maxCount: 1 })).length, 1);
  });
});

describe('links', () => {
  const target = fresh('target');
  const list = fresh('list');
  const link = (text) => binaryEvent({ type: '$>', data: Buffer.from(text) });
  before(async () => {
    await on.client.appendToStream(target, events(3));
    await on.client.appendToStream(list, [link(`2@${target}`), link(`0@${target}`), link(`77@${target}`), link('0@nowhere'), event(5)]);
  });

  test('are followed when asked: the event, and the link that led to it', async () => {
    const read = await readStream(list, { resolveLinkTos: true });
    assert.equal(read.length, 5);
    assert.deepEqual(read.slice(0, 2).map((r) => [r.event.streamId, r.event.revision]), [[target, 2n], [target, 0n]]);
    assert.deepEqual(read.slice(0, 2).map((r) => [r.link.streamId, r.link.revision, r.link.type]), [[list, 0n, '$>'], [list, 1n, '$>']]);
    assert.equal(read[0].commitPosition, read[0].link.position.commit);
    assert.equal(read[4].event.data.n, 5);
    assert.equal(read[4].link, undefined);
  });

  test('to what is not there come alone', async () => {
    const read = await readStream(list, { resolveLinkTos: true });
    for (const r of read.slice(2, 4)) {
      assert.equal(r.event, undefined);
      assert.equal(r.link.streamId, list);
    }
  });

  test('are events of their own otherwise', async () => {
    const read = await readStream(list);
    assert.deepEqual(read.slice(0, 4).map((r) => [r.event.type, r.link]), Array.from({ length: 4 }, () => ['$>', undefined]));
    assert.equal(Buffer.from(read[0].event.data).toString(), `2@${target}`);
  });

  test('are followed in $all too', async () => {
    const all = await readAll({ resolveLinkTos: true, filter: streamNameFilter({ prefixes: [list] }) });
    assert.equal(all.length, 5);
    assert.equal(all[0].event.streamId, target);
    assert.equal(all[0].link.streamId, list);
  });
});
