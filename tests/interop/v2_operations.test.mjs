// Numbers and operations over a plain gRPC client, since the official one for Node.js has no call for them: the
// server's numbers come as they are in /stats, and it stops in an orderly way when it is asked to (G1).

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { collect, connect, event, fresh, startServer, temporaryDirectory } from './helpers.mjs';

// The library is not ours but the official client's: found from where that one is.
const require = createRequire(createRequire(import.meta.url).resolve('@kurrent/kurrentdb-client'));
const grpc = require('@grpc/grpc-js');

const same = (bytes) => bytes;
const plain = (port) => new grpc.Client(`localhost:${port}`, grpc.credentials.createInsecure());
const ask = (client, path, request = Buffer.alloc(0)) =>
  new Promise((done, fail) =>
    client.makeUnaryRequest(path, same, same, request, (error, answer) => (error ? fail(error) : done(answer))),
  );

/** map<string, string> of a StatsResp. */
function entries(message) {
  const found = new Map();
  let at = 0;
  const size = () => {
    let n = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++];
      n |= (byte & 0x7f) << shift;
      if (byte < 0x80) return n;
    }
  };
  const text = () => {
    at++;
    const end = size() + at;
    const value = message.subarray(at, end).toString();
    at = end;
    return value;
  };
  while (at < message.length) {
    at++;
    size();
    const key = text();
    found.set(key, text());
  }
  return found;
}

test('Monitoring/Stats tells what /stats shows, again and again', async () => {
  const server = await startServer();
  const client = plain(server.port);
  const call = client.makeServerStreamRequest(
    '/event_store.client.monitoring.Monitoring/Stats',
    same,
    same,
    Buffer.from([0x20, 0xf4, 0x03]), // every 500 ms
  );
  const seen = [];
  await new Promise((done, fail) => {
    call.on('error', fail).on('data', (message) => {
      seen.push(entries(message));
      if (seen.length === 3) done();
    });
  });
  call.on('error', () => {}).cancel();
  const shown = await (await fetch(`http://localhost:${server.port}/stats`)).json();
  for (const stats of seen) {
    assert.ok(Number(stats.get('proc-mem')) > 1_000_000);
    assert.equal(stats.get('sys-totalMem'), String(shown.sys.totalMem));
    assert.ok(stats.has('sys-loadavg-15m'));
    assert.equal(stats.get('proc-startTime'), shown.proc.startTime);
  }
  client.close();
  await server.stop();
});

test('Operations/Shutdown stops the server, and what was acknowledged is there afterwards', async () => {
  const data = temporaryDirectory();
  let server = await startServer({ data });
  const stream = fresh('kept');
  let official = connect(server.port);
  await official.appendRecords([{ streamName: stream, record: event(7) }]);
  await official.dispose();
  const client = plain(server.port);
  assert.equal((await ask(client, '/event_store.client.operations.Operations/Shutdown')).length, 0);
  client.close();
  const { code, signal } = await server.exited;
  assert.equal(signal, null);
  assert.equal(code, 0);
  server = await startServer({ data });
  official = connect(server.port);
  const read = await collect(official.readStream(stream));
  assert.deepEqual(read.map((r) => r.event.data.n), [7]);
  await official.dispose();
  await server.stop();
});

test('a lone node cannot resign, and says why', async () => {
  const server = await startServer();
  const client = plain(server.port);
  await assert.rejects(ask(client, '/event_store.client.operations.Operations/ResignNode'), (error) => {
    assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
    assert.match(error.details, /no other voter/);
    return true;
  });
  await assert.rejects(ask(client, '/event_store.client.operations.Operations/SetNodePriority'), (error) => {
    assert.equal(error.code, grpc.status.UNIMPLEMENTED);
    return true;
  });
  client.close();
  await server.stop();
});

test('the same over HTTP, under both paths: a lone node keeps leading, and stops in order', async () => {
  for (const [resign, shutdown] of [
    ['/v1/node/resign', '/v1/node/shutdown'],
    ['/admin/node/resign', '/admin/shutdown'],
  ]) {
    const server = await startServer();
    const refused = await fetch(`${server.url}${resign}`, { method: 'POST' });
    assert.equal(refused.status, 409);
    assert.equal((await refused.json()).type, 'urn:nilo:still-leading');
    assert.equal((await fetch(`${server.url}${shutdown}`, { method: 'POST' })).status, 200);
    const { code, signal } = await server.exited;
    assert.equal(signal, null);
    assert.equal(code, 0);
  }
});
