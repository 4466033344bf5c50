// The official client on three nodes: it finds the leader, is sent to it, and goes through the loss of it (G2, G6).

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { KurrentDBClient, jsonEvent, persistentSubscriptionToStreamSettingsFromDefaults } from '@kurrent/kurrentdb-client';
import { Cluster, status } from '../lib/cluster.mjs';
import { collect, connect, event, fresh, numbers, patiently, settle } from './helpers.mjs';

let cluster;
before(async () => {
  cluster = await new Cluster().three();
});
after(() => cluster?.stop());

const hosts = () => cluster.nodes.map((node) => `127.0.0.1:${node.port}`).join(',');
const discover = (options = '') => KurrentDBClient.connectionString(`kurrentdb://${hosts()}?tls=false${options}`);
const follower = () => cluster.running().find((node) => node.name !== cluster.leaderName);

for (const preference of ['leader', 'follower', 'random']) {
  test(`with ${preference} preferred it finds a node, writes, and reads what it wrote`, async () => {
    const client = discover(`&nodePreference=${preference}`);
    const stream = fresh(preference);
    const { position } = await client.appendToStream(stream, [event(0), event(1)]);
    assert.ok(position);
    await patiently(async () => assert.deepEqual(numbers(await collect(client.readStream(stream))), [0, 1]));
    await client.dispose();
  });
}

test('a write that requires the leader is sent to it', async () => {
  const client = connect(follower().port);
  const stream = fresh('sent-on');
  await assert.rejects(client.appendToStream(stream, event(0), { requiresLeader: true }), (error) => {
    assert.equal(error.type, 'not-leader');
    assert.equal(Number(error.leader.port), cluster.leader().port);
    return true;
  });
  // The client has gone there by itself.
  await patiently(() => client.appendToStream(stream, event(1), { requiresLeader: true }));
  await client.dispose();
});

test('a write that does not is passed on by whichever node', async () => {
  for (const node of cluster.running()) {
    const client = connect(node.port);
    const stream = fresh('passed-on');
    assert.equal((await client.appendToStream(stream, event(0), { streamState: 'no_stream' })).nextExpectedRevision, 0n);
    await client.dispose();
  }
});

test('persistent subscriptions are where the leader is', async () => {
  const client = connect(follower().port);
  const stream = fresh('group');
  await client.appendToStream(stream, [event(0), event(1), event(2)]);
  await patiently(() => client.createPersistentSubscriptionToStream(stream, 'g', persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: 'start' })));
  const got = [];
  const subscription = client.subscribeToPersistentSubscriptionToStream(stream, 'g');
  for await (const resolved of subscription) {
    got.push(resolved.event.data.n);
    await subscription.ack(resolved);
    if (got.length === 3) break;
  }
  assert.deepEqual(got.sort(), [0, 1, 2]);
  await client.dispose();
});

test('the loss of the leader, under writes: nothing acknowledged is lost, nothing is there twice', { timeout: 60_000 }, async () => {
  const client = discover();
  const stream = fresh('kept');
  const acknowledged = [];
  let killed = false;
  const killing = (async () => {
    await settle(500);
    await cluster.kill(cluster.leader());
    killed = true;
  })();
  for (let n = 0; !killed || n < 60; n++) {
    const one = jsonEvent({ id: randomUUID(), type: 'Happened', data: { n } });
    await patiently(() => client.appendToStream(stream, one, { streamState: n === 0 ? 'no_stream' : BigInt(n - 1) }));
    acknowledged.push(n);
  }
  await killing;
  await cluster.settled((s) => s.quorum.reachable === 2);
  await patiently(async () => assert.deepEqual(numbers(await collect(client.readStream(stream))), acknowledged));
  assert.equal((await status(cluster.leader().url)).quorum.voters, 3);
  await client.dispose();
});
