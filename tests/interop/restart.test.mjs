// What a stop or a kill -9 leaves behind (G1, G2, G6, G10): everything that was answered, where it was.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { ANY, NO_STREAM, streamNameFilter } from '@kurrent/kurrentdb-client';
import { collect, connect, event, events, follow, fresh, numbers, refused, revisions, startServer, temporaryDirectory } from './helpers.mjs';

/** Runs `work(client, server)` on a server over `data`, then ends it the given way. */
async function on(data, how, work, args = []) {
  const server = await startServer({ data, args });
  const client = connect(server.port);
  try {
    return await work(client, server);
  } finally {
    await client.dispose();
    await server[how]();
  }
}
const plain = (all) => all.map(({ event: e }) => ({ ...e, created: e.created.getTime() }));

for (const [name, how] of [['an orderly stop', 'stop'], ['kill -9', 'kill']]) {
  describe(`after ${name}`, () => {
    test('everything is as it was: events, metadata, deletions, and the next numbers', async () => {
      const data = temporaryDirectory();
      const [kept, limited, deleted, gone] = [fresh('kept'), fresh('limited'), fresh('deleted'), fresh('gone')];
      const before = await on(data, how, async (client) => {
        for (let n = 0; n < 20; n++) await client.appendToStream(kept, event(n));
        for (const stream of [limited, deleted, gone]) await client.appendToStream(stream, events(4), { streamState: NO_STREAM });
        await client.setStreamMetadata(limited, { maxCount: 2, custom: 'ä' });
        await client.deleteStream(deleted);
        await client.tombstoneStream(gone);
        return plain(await collect(client.readAll()));
      });
      await on(data, how, async (client) => {
        assert.deepEqual(plain(await collect(client.readAll())).slice(0, before.length), before);
        assert.deepEqual(numbers(await collect(client.readStream(kept))), Array.from({ length: 20 }, (_, n) => n));
        assert.deepEqual(revisions(await collect(client.readStream(limited))), [2, 3]);
        assert.equal((await client.getStreamMetadata(limited)).metadata.custom, 'ä');
        await refused(collect(client.readStream(deleted)), 'stream-not-found');
        await refused(collect(client.readStream(gone)), 'stream-deleted');
        const { nextExpectedRevision, position } = await client.appendToStream(kept, event(20), { streamState: 19n });
        assert.equal(nextExpectedRevision, 20n);
        assert.ok(position.commit >= before.at(-1).position.commit + 1n);
        assert.equal((await client.appendToStream(deleted, event(4), { streamState: 3n })).nextExpectedRevision, 4n);
        await refused(client.appendToStream(kept, event(0), { streamState: NO_STREAM }), 'wrong-expected-version');
      });
    });

    test('a retry of what was answered before is known', async () => {
      const data = temporaryDirectory();
      const [any, exact] = [fresh('any'), fresh('exact')];
      const [one, two] = [events(3), events(3)];
      const answers = await on(data, how, async (client) => [
        await client.appendToStream(any, one, { streamState: ANY }),
        await client.appendToStream(exact, two, { streamState: NO_STREAM }),
      ]);
      await on(data, how, async (client) => {
        assert.deepEqual(await client.appendToStream(any, one, { streamState: ANY }), answers[0]);
        assert.deepEqual(await client.appendToStream(exact, two, { streamState: NO_STREAM }), answers[1]);
        assert.equal((await collect(client.readStream(any))).length, 3);
        assert.equal((await collect(client.readStream(exact))).length, 3);
      });
    });

    test('subscriptions go on from their last position', async () => {
      const data = temporaryDirectory();
      const prefix = fresh('resume');
      let last = { all: undefined, stream: undefined };
      const got = { all: [], stream: [] };
      for (let round = 0; round < 3; round++) {
        await on(data, how, async (client) => {
          const filter = streamNameFilter({ prefixes: [prefix] });
          const all = follow(client.subscribeToAll({ filter, ...(last.all && { fromPosition: last.all }) }));
          const one = follow(client.subscribeToStream(`${prefix}-1`, last.stream === undefined ? {} : { fromRevision: last.stream }));
          for (let n = 0; n < 30; n++) await client.appendToStream(`${prefix}-${n % 3}`, event(30 * round + n));
          // The last third is written, but not waited for by the subscribers: it must come in the next round.
          const upTo = round === 2 ? 90 - got.all.length : 20;
          await all.count(upTo);
          await one.count(Math.floor(upTo / 3));
          got.all.push(...all.events);
          got.stream.push(...one.events);
          last = { all: all.events.at(-1).event.position, stream: one.events.at(-1).event.revision };
          await all.end();
          await one.end();
        });
      }
      assert.deepEqual(numbers(got.all), Array.from({ length: 90 }, (_, n) => n));
      assert.deepEqual(revisions(got.stream), Array.from({ length: 30 }, (_, n) => n));
    });

    test('an open subscription is told, not left waiting', async () => {
      const server = await startServer();
      const client = connect(server.port);
      const seen = follow(client.subscribeToAll());
      await seen.live();
      await server[how]();
      await seen.until('an end', (s) => s.error || s.ended);
      if (seen.error) assert.match(seen.error.type, /unavailable|cancelled/);
      await client.dispose();
    });
  });
}

test('one data directory has one server', async () => {
  const data = temporaryDirectory();
  await on(data, 'stop', async () => {
    await assert.rejects(startServer({ data }), (error) => {
      assert.equal(error.exit.code, 66, error.message);
      return true;
    });
  });
});

test('--memory-only keeps nothing', async () => {
  const stream = fresh('memory');
  await on(null, 'stop', (client) => client.appendToStream(stream, event(1)), ['--memory-only']);
  await on(null, 'stop', (client) => refused(collect(client.readStream(stream)), 'stream-not-found'), ['--memory-only']);
});
