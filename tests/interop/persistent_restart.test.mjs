// Persistent subscriptions over a stop and over kill -9 (G11): nothing is lost, and what comes twice is bounded by what was
// in flight or finished above the lowest unfinished event: at most the buffer and a checkpoint's distance.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { START, streamNameFilter } from '@kurrent/kurrentdb-client';
import { connect, event, events, fresh, numbers, startServer, temporaryDirectory } from './helpers.mjs';
import { consume, eventually, idOf, join, joinAll, parked, range, settings, settingsOfAll } from './groups.mjs';

async function on(data, how, work) {
  const server = await startServer({ data });
  const client = connect(server.port);
  try {
    return await work(client, server);
  } finally {
    await client.dispose();
    await server[how]();
  }
}

for (const [name, how] of [['an orderly stop', 'stop'], ['kill -9', 'kill']]) {
  describe(`after ${name}`, () => {
    test('definitions are as they were; what was deleted stays deleted', async () => {
      const data = temporaryDirectory();
      const stream = fresh('ps');
      const before = await on(data, how, async (client) => {
        await client.createPersistentSubscriptionToStream(stream, 'a', settings({ maxRetryCount: 3, messageTimeout: 777 }));
        await client.createPersistentSubscriptionToStream(stream, 'b', settings());
        await client.createPersistentSubscriptionToStream(stream, 'c', settings());
        await client.createPersistentSubscriptionToAll('all', settingsOfAll({ startFrom: START }), { filter: streamNameFilter({ prefixes: ['kept-'] }) });
        await client.updatePersistentSubscriptionToStream(stream, 'b', settings({ liveBufferSize: 33 }));
        await client.deletePersistentSubscriptionToStream(stream, 'c');
        return await client.listAllPersistentSubscriptions();
      });
      assert.equal(before.length, 3);
      const plain = (list) => list.map((s) => [s.eventSource, s.groupName, s.settings]);
      await on(data, how, async (client) => {
        assert.deepEqual(plain(await client.listAllPersistentSubscriptions()), plain(before));
        const kept = fresh('kept');
        await client.appendToStream(kept, event(1));
        const seen = await joinAll(client, 'all');
        await seen.count(1);
        assert.equal(seen.events[0].event.streamId, kept);
        await seen.end();
      });
    });

    test('the group goes on: nothing lost, duplicates within the bound', async () => {
      const data = temporaryDirectory();
      const stream = fresh('ps');
      const [count, window, upper] = [400, 20, 10];
      const acked = new Map();
      let duplicates = 0;
      await on(data, how, (client) =>
        client.createPersistentSubscriptionToStream(stream, 'g', settings({ checkPointLowerBound: 1, checkPointUpperBound: upper, checkPointAfter: 50 })));
      for (const round of range(0, 4)) {
        await on(data, how, async (client) => {
          const seen = await join(client, stream, 'g', (r) => {
            if (acked.has(idOf(r))) duplicates++;
            acked.set(idOf(r), r.event.data.n);
            return 'ack';
          }, { bufferSize: window });
          await client.appendToStream(stream, range(0, count / 4).map((n) => event((round * count) / 4 + n)));
          // All but the last round end in the middle of it.
          await (round < 3 ? seen.count(50) : eventually('everything', () => acked.size, (n) => n === count));
        });
      }
      assert.deepEqual([...acked.values()].sort((a, b) => a - b), range(0, count));
      // Acks that were on their way, the window, and what was acknowledged since the last checkpoint, three times.
      assert.ok(duplicates <= 3 * (2 * window + upper + 100), `${duplicates} duplicates`);
      if (how === 'stop') assert.ok(duplicates <= 3 * 2 * window, `${duplicates} duplicates after orderly stops, which write checkpoints`);
    });

    test('parked events stay parked, with their reason, and can be replayed', async () => {
      const data = temporaryDirectory();
      const stream = fresh('ps');
      await on(data, how, async (client) => {
        await client.appendToStream(stream, events(6));
        await client.createPersistentSubscriptionToStream(stream, 'g', settings({ checkPointLowerBound: 1, checkPointUpperBound: 1 }));
        const seen = await join(client, stream, 'g', (r) => (r.event.data.n % 2 ? 'park' : 'ack'), { reason: 'odd' });
        await seen.count(6);
        const done = (i) => i.stats.parkedMessageCount === 3n && i.stats.lastCheckpointedEventRevision === 5n;
        await eventually('all done', () => client.getPersistentSubscriptionToStreamInfo(stream, 'g'), done);
      });
      await on(data, how, async (client) => {
        assert.equal((await client.getPersistentSubscriptionToStreamInfo(stream, 'g')).stats.parkedMessageCount, 3n);
        for (const p of await parked(client, stream, 'g')) assert.match(p.event.metadata.Reason, /odd/);
        const seen = await join(client, stream, 'g');
        await client.replayParkedMessagesToStream(stream, 'g');
        await seen.count(3);
        assert.deepEqual(numbers(seen.events).sort(), [1, 3, 5]);
      });
    });
  });
}

test('a replay that a crash interrupts loses nothing', async () => {
  const data = temporaryDirectory();
  const stream = fresh('ps');
  const acked = new Set();
  await on(data, 'kill', async (client) => {
    await client.appendToStream(stream, events(50));
    await client.createPersistentSubscriptionToStream(stream, 'g', settings({ checkPointLowerBound: 1, checkPointUpperBound: 1 }));
    const seen = await join(client, stream, 'g', () => 'park', { bufferSize: 50 });
    await eventually('parked', () => client.getPersistentSubscriptionToStreamInfo(stream, 'g'), (i) => i.stats.parkedMessageCount === 50n);
    await seen.end();
    const some = await join(client, stream, 'g', (r, n) => (n < 10 ? (acked.add(r.event.data.n), 'ack') : null), { bufferSize: 5 });
    await client.replayParkedMessagesToStream(stream, 'g');
    await some.count(12);
  });
  await on(data, 'kill', async (client) => {
    const seen = await join(client, stream, 'g', (r) => (acked.add(r.event.data.n), 'ack'));
    await client.replayParkedMessagesToStream(stream, 'g');
    await eventually('all of them', () => acked.size, (n) => n === 50);
    await seen.end();
  });
});

test('a consumer is told that the server stops, and goes on with the next one', async () => {
  const data = temporaryDirectory();
  const stream = fresh('ps');
  let seen;
  await on(data, 'stop', async (client, server) => {
    await client.createPersistentSubscriptionToStream(stream, 'g', settings());
    await client.appendToStream(stream, events(5));
    seen = await join(client, stream, 'g');
    await seen.count(5);
    await server.stop();
    await seen.until('an end', (s) => s.error || s.ended);
    if (seen.error) assert.match(seen.error.type, /unavailable|cancelled|persistent-subscription-dropped/);
  });
  await on(data, 'stop', async (client) => {
    const again = consume(client.subscribeToPersistentSubscriptionToStream(stream, 'g'));
    await again.confirmation();
    await client.appendToStream(stream, event(5));
    await again.until('the new one', (s) => s.events.some((r) => r.event.data.n === 5));
  });
});
