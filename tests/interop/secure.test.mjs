// The official client over TLS with users: what a team does that leaves loopback.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { KurrentDBClient, jsonEvent, ANY, NO_STREAM, AccessDeniedError, START } from '@kurrent/kurrentdb-client';
import { startServer, fresh, follow, settle, collect, numbers } from './helpers.mjs';

const event = (n) => jsonEvent({ type: 'Happened', data: { n } });
let server, ca, admin;

/** The client's reads do not decode what is escaped in a connection string, so its passwords need none. */
function connect(user, password, options = '') {
  const who = user ? `${encodeURIComponent(user)}:${encodeURIComponent(password)}@` : '';
  return KurrentDBClient.connectionString(`kurrentdb://${who}localhost:${server.port}?tls=true&tlsCAFile=${ca}&defaultDeadline=5000${options}`);
}

async function http(method, path, body) {
  const { request } = await import('node:https');
  const { readFileSync } = await import('node:fs');
  return new Promise((done, fail) => {
    const r = request(
      { host: 'localhost', port: server.port, ca: readFileSync(ca), method, path, auth: 'admin:changeit', headers: { 'content-type': 'application/json' } },
      (answer) => {
        let text = '';
        answer.on('data', (more) => (text += more));
        answer.on('end', () => (answer.statusCode < 300 ? done(text) : fail(new Error(`${method} ${path}: ${answer.statusCode} ${text}`))));
      },
    );
    r.on('error', fail);
    r.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

before(async () => {
  server = await startServer({ args: ['--tls', 'on', '--compat-default-password'] });
  ca = new URL(server.said.connection).searchParams.get('tlsCAFile') ?? server.said.ca_file;
  for (let i = 0; ; i++) {
    try {
      await http('POST', '/v1/users', { login: 'ann', fullName: 'Ann', groups: [], password: 'password-of-ann' });
      break;
    } catch (error) {
      assert.ok(i < 100, `the first administrator cannot log in: ${error}`);
      await settle(100);
    }
  }
  admin = connect('admin', 'changeit');
});
after(async () => {
  await admin?.dispose();
  await server?.stop();
});

test('appends, reads and subscriptions, by every write path', async () => {
  const ann = connect('ann', 'password-of-ann');
  const stream = fresh('secure');
  await ann.appendToStream(stream, [event(0), event(1)], { streamState: NO_STREAM });
  await ann.appendToStream(stream, [event(2)], { streamState: 1n, credentials: { username: 'ann', password: 'password-of-ann' } });
  assert.deepEqual(numbers(await collect(ann.readStream(stream))), [0, 1, 2]);
  const seen = follow(ann.subscribeToStream(stream, { fromRevision: START }));
  await seen.count(3);
  await ann.appendToStream(stream, event(3));
  await seen.count(4);
  await seen.end();
  await ann.setStreamMetadata(stream, { maxCount: 2 });
  assert.deepEqual(numbers(await collect(ann.readStream(stream))), [2, 3]);
  await ann.deleteStream(stream);
  await ann.dispose();
});

test('several streams in one append, and records with checks', async () => {
  const ann = connect('ann', 'password-of-ann');
  const [one, two] = [fresh('multi'), fresh('multi')];
  await ann.multiStreamAppend([
    { streamName: one, expectedState: NO_STREAM, events: [event(0)] },
    { streamName: two, expectedState: ANY, events: [event(0), event(1)] },
  ]);
  assert.deepEqual(numbers(await collect(ann.readStream(two))), [0, 1]);
  // A stream that ann may not write: nothing of it is written, to neither.
  const closed = fresh('closed');
  await admin.appendToStream(closed, event(0));
  await admin.setStreamMetadata(closed, { acl: { readRoles: ['$admins'], writeRoles: ['$admins'] } });
  await settle(100); // until then it may still be as it was
  await assert.rejects(
    ann.multiStreamAppend([
      { streamName: one, expectedState: ANY, events: [event(1)] },
      { streamName: closed, expectedState: ANY, events: [event(1)] },
    ]),
  );
  assert.deepEqual(numbers(await collect(ann.readStream(one))), [0]);
  await ann.dispose();
});

test('a missing right is an AccessDeniedError, by each path', async () => {
  const ann = connect('ann', 'password-of-ann');
  const stream = `$secret-${randomUUID().slice(0, 8)}`;
  await admin.appendToStream(stream, event(0));
  await assert.rejects(ann.appendToStream(stream, event(1)), AccessDeniedError);
  await assert.rejects(ann.appendToStream(stream, event(1), { credentials: { username: 'ann', password: 'password-of-ann' } }), AccessDeniedError);
  await assert.rejects(collect(ann.readStream(stream)), AccessDeniedError);
  await assert.rejects(collect(ann.readAll({ maxCount: 10 })), AccessDeniedError);
  await assert.rejects(ann.deleteStream(stream), AccessDeniedError);
  await assert.rejects(ann.tombstoneStream(stream), AccessDeniedError);
  await assert.rejects(ann.createPersistentSubscriptionToStream(stream, 'group', { startFrom: START }), AccessDeniedError);
  const seen = follow(ann.subscribeToStream(stream));
  await seen.until('refused', (s) => s.error !== null);
  assert.ok(seen.error instanceof AccessDeniedError, `${seen.error}`);
  assert.deepEqual(numbers(await collect(admin.readStream(stream))), [0]);
  await ann.dispose();
});

test('a wrong password, an unknown user and no name are refused alike, and nothing is written', async () => {
  const stream = fresh('refused');
  for (const [user, password] of [['ann', 'a-wrong-password'], ['nobody', 'password-of-ann'], [null, null]]) {
    const client = connect(user, password);
    await assert.rejects(client.appendToStream(stream, event(0)), AccessDeniedError, `${user}`);
    await assert.rejects(collect(client.readStream(stream)), AccessDeniedError, `${user}`);
    await client.dispose();
  }
  await assert.rejects(collect(admin.readStream(stream)), /NotFound/);
});

test('a deadline that has passed, and an event that is too large', async () => {
  const ann = connect('ann', 'password-of-ann');
  await assert.rejects(ann.appendToStream(fresh('late'), event(0), { deadline: 1, credentials: { username: 'ann', password: 'password-of-ann' } }), /deadline|DEADLINE/);
  const large = jsonEvent({ type: 'Large', data: { text: 'x'.repeat(16 * 1024 * 1024) } });
  await assert.rejects(ann.appendToStream(fresh('large'), large));
  await ann.dispose();
});

test('another server is not spoken to: its certificate is not of this CA', async () => {
  const other = await startServer({ args: ['--tls', 'on'] });
  const client = KurrentDBClient.connectionString(`kurrentdb://ann:x@localhost:${other.port}?tls=true&tlsCAFile=${ca}&defaultDeadline=2000&maxDiscoverAttempts=1`);
  await assert.rejects(client.appendToStream(fresh(), event(0)));
  await client.dispose();
  await other.stop();
});

test('a group of consumers: made by an administrator, consumed by who may read the stream', async () => {
  const ann = connect('ann', 'password-of-ann');
  const stream = fresh('grouped');
  await admin.appendToStream(stream, [event(0), event(1)]);
  await admin.createPersistentSubscriptionToStream(stream, 'team', { startFrom: START });
  const subscription = ann.subscribeToPersistentSubscriptionToStream(stream, 'team');
  const got = [];
  for await (const resolved of subscription) {
    await subscription.ack(resolved);
    got.push(resolved.event.data.n);
    if (got.length === 2) break;
  }
  assert.deepEqual(got, [0, 1]);
  await ann.dispose();
});
