// The official KurrentDB client, unchanged, finds the leader by gossip and goes on when it is killed: what it was told is there
// is there at the end, and a catch-up and a persistent subscription miss nothing (G1, G6, G10, G11).

import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { sleep, until } from './nodes.mjs';

const require = createRequire(new URL('../interop/package.json', import.meta.url));
const { KurrentDBClient, START, jsonEvent, persistentSubscriptionToStreamSettingsFromDefaults } = require('@kurrent/kurrentdb-client');

const APPEND_MS = 10_000;
const DEADLINE_MS = 3000; // of one attempt
const WINDOW = 50;
const CHECKPOINT_EVENTS = 100;

export async function throughTheClient({ cluster, load, demand, rounds, remark }) {
  const hosts = cluster.nodes.map((node) => `127.0.0.1:${node.port}`).join(',');
  const connect = () => KurrentDBClient.connectionString(
    `kurrentdb://${hosts}?tls=false&nodePreference=leader&maxDiscoverAttempts=20&discoveryInterval=200&gossipTimeout=1&defaultDeadline=${DEADLINE_MS}`);
  const client = connect();
  const stream = `client-${randomUUID()}`;
  const group = 'workers';
  const acknowledged = [];
  const state = { isOver: false, failed: 0, retries: 0, errors: new Map() };

  const note = (error) => {
    const name = String(error?.type ?? error?.message ?? error).slice(0, 40);
    state.errors.set(name, (state.errors.get(name) ?? 0) + 1);
  };
  /** Again with the same ids until it is acknowledged. */
  const append = async (n) => {
    const event = jsonEvent({ id: randomUUID(), type: 'Happened', data: { n } });
    const op = { kind: 'append', stream, expect: 'any', ids: [event.id], invoke: performance.now(), outcome: 'unknown', complete: Infinity };
    load.history.push(op);
    for (const end = performance.now() + APPEND_MS; performance.now() < end; state.retries++) {
      try {
        const { nextExpectedRevision, position } = await client.appendToStream(stream, [event]);
        const last = Number(nextExpectedRevision);
        Object.assign(op, { outcome: 'ok', first: last, last, position: Number(position.commit), complete: performance.now() });
        acknowledged.push(event.id);
        return;
      } catch (error) {
        note(error);
        await sleep(50);
      }
    }
    state.failed++;
  };
  const writer = async () => {
    for (let n = 0; !state.isOver; n++) {
      await append(n);
      await sleep(2);
    }
  };

  /** A session that is opened again, from behind what came last, whenever it breaks. */
  const delivered = [];
  const follow = async () => {
    let from = START;
    while (!state.isEnd) {
      try {
        const subscription = client.subscribeToStream(stream, { fromRevision: from });
        state.subscription = subscription;
        for await (const { event } of subscription) {
          if (!event) continue;
          delivered.push(event.id);
          from = event.revision;
        }
      } catch (error) {
        note(error);
      }
      await sleep(50);
    }
  };
  const worked = new Set();
  let repeats = 0;
  const work = async () => {
    while (!state.isEnd) {
      try {
        const subscription = client.subscribeToPersistentSubscriptionToStream(stream, group, { bufferSize: WINDOW });
        state.worker = subscription;
        for await (const resolved of subscription) {
          if (worked.has(resolved.event.id)) repeats++;
          worked.add(resolved.event.id);
          await subscription.ack(resolved);
        }
      } catch (error) {
        note(error);
      }
      await sleep(50);
    }
  };

  await append(-1);
  for (const end = performance.now() + APPEND_MS; ;) {
    try {
      await client.createPersistentSubscriptionToStream(stream, group, persistentSubscriptionToStreamSettingsFromDefaults(
        { startFrom: START, checkPointAfter: 200, checkPointUpperBound: CHECKPOINT_EVENTS }));
      break;
    } catch (error) {
      if (error.type === 'persistent-subscription-exists') break;
      if (performance.now() > end) throw error;
      note(error);
    }
  }
  const writers = [writer(), writer()];
  const following = follow();
  const working = work();
  const kills = 2 * rounds;
  for (let i = 0; i < kills; i++) {
    await sleep(800);
    const leader = await cluster.leader();
    await leader.kill();
    const before = acknowledged.length;
    await until('the client goes on', 20_000, () => acknowledged.length > before + 20);
    leader.start();
    await until('the node is back', 15_000, () => leader.isReady());
  }
  state.isOver = true;
  await Promise.all(writers);
  const read = [];
  for await (const { event } of client.readStream(stream)) read.push(event.id);
  const all = new Set(read);
  demand(acknowledged.every((id) => all.has(id)), `${acknowledged.filter((id) => !all.has(id)).length} acknowledged events are gone`);
  demand(state.failed === 0, `${state.failed} appends were not acknowledged within ${APPEND_MS} ms`);
  const caughtUp = async (what, look) => {
    try {
      await until(what, 15_000, look);
    } catch (error) {
      demand(false, error.message);
    }
  };
  await caughtUp('the subscription has everything', () => delivered.length >= read.length);
  await caughtUp('the group has everything', () => worked.size >= read.length);
  state.isEnd = true;
  await Promise.race([Promise.allSettled([state.subscription?.unsubscribe(), state.worker?.unsubscribe()]), sleep(1000)]);
  await Promise.race([client.dispose().catch(() => {}), sleep(1000)]);
  await Promise.race([Promise.all([following, working]), sleep(2000)]);
  demand(delivered.length === read.length && delivered.every((id, i) => id === read[i]),
    `the subscription delivered ${delivered.length} events, the stream has ${read.length}; first difference at ${delivered.findIndex((id, i) => id !== read[i])}`);
  demand(read.every((id) => worked.has(id)), `the group missed ${read.filter((id) => !worked.has(id)).length} events`);
  // One interval may be on its way to the log while the next one fills up.
  demand(repeats <= kills * (WINDOW + 2 * CHECKPOINT_EVENTS), `${repeats} repeats to the group in ${kills} failovers`);
  remark(`${acknowledged.length} by the client, ${state.retries} retries, ${repeats} repeats to the group, errors ${JSON.stringify([...state.errors])}`);
}
