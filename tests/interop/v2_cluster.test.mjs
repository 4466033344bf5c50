// Version 2 on three nodes: the leader alone takes records, a node that does not lead says who does in the terms that
// the official client follows, and leadership can be handed over by an operator's call (G5, G21).

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Cluster } from '../lib/cluster.mjs';
import { collect, connect, event, fresh, numbers, patiently } from './helpers.mjs';

const require = createRequire(createRequire(import.meta.url).resolve('@kurrent/kurrentdb-client'));
const grpc = require('@grpc/grpc-js');

let cluster;
before(async () => {
  cluster = await new Cluster().three();
});
after(() => cluster?.stop());

const follower = () => cluster.running().find((node) => node.name !== cluster.leaderName);

for (const method of ['multiStreamAppend', 'appendRecords']) {
  test(`${method} at a follower is sent to the leader, and then goes there`, async () => {
    const client = connect(follower().port);
    const stream = fresh(method);
    const append = (n) =>
      method === 'appendRecords'
        ? client.appendRecords([{ streamName: stream, record: event(n) }])
        : client.multiStreamAppend([{ streamName: stream, events: [event(n)], expectedState: 'any' }]);
    await assert.rejects(append(0), (error) => {
      assert.equal(error.type, 'not-leader');
      assert.equal(Number(error.leader.port), cluster.leader().port);
      return true;
    });
    await patiently(() => append(1));
    await patiently(async () => assert.deepEqual(numbers(await collect(client.readStream(stream))), [1]));
    await client.dispose();
  });
}

test('a node that resigns leads no more, and the next one takes records', async () => {
  const before = cluster.leader();
  const client = new grpc.Client(`localhost:${before.port}`, grpc.credentials.createInsecure());
  const path = '/event_store.client.operations.Operations/ResignNode';
  const same = (bytes) => bytes;
  await new Promise((done, fail) =>
    client.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error, answer) => (error ? fail(error) : done(answer))),
  );
  client.close();
  await cluster.settled();
  assert.notEqual(cluster.leaderName, before.name);
  const official = connect(follower().port);
  const stream = fresh('after');
  await patiently(() => official.appendRecords([{ streamName: stream, record: event(5) }]));
  await patiently(async () => assert.deepEqual(numbers(await collect(official.readStream(stream))), [5]));
  await official.dispose();
});
