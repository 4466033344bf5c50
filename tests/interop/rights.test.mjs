// Who may do what, over TLS, with users: every route and every method that the server lists, by every kind of user, for every
// kind of stream. What is expected is computed here, from the rule that the server lists and from the rights as docs/security.md
// tells them; a route or method that this file does not know fails.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startServer, settle } from './helpers.mjs';

// What the official client is built on, so it is there.
const require = createRequire(import.meta.url);
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protos = resolve(dirname(fileURLToPath(import.meta.url)), '../../proto');

const TEAM_STREAM = 'team-1';
const streams = {
  open: 'open-1', // nothing is said: every user
  team: TEAM_STREAM, // every right to the group `team`
  sealed: 'sealed-1', // every right to $admins
  system: '$settled-1', // a system stream about which nothing is said: $admins
  shared: '$shared-1', // a system stream that `team` may read
  guarded: '$user-plain', // for $admins whatever is said
  openMeta: '$$open-1',
  teamMeta: '$$team-1',
};
const users = {
  stranger: { groups: null },
  wrong: { groups: null },
  plain: { groups: [] },
  member: { groups: ['team'] },
  ops: { groups: ['$ops'] },
  admin: { groups: ['$admins'] },
};
const password = (name) => (name === 'wrong' ? 'no password of anybody' : `the password of ${name}`);

/** The rights as the documentation tells them: may a user of these groups do that to this stream? */
function may(groups, right, stream) {
  if (!groups) return false;
  // What is the server's own is written by nobody else.
  if (/^(\$\$)?\$(user|nilo)-/.test(stream) && !right.startsWith('read')) return false;
  if (groups.includes('$admins')) return true;
  if (stream.startsWith('$user-') || stream.startsWith('$nilo-')) return false;
  if (stream.startsWith('$$')) {
    return may(groups, right.startsWith('read') ? 'read the metadata' : 'write the metadata', stream.slice(2));
  }
  if (stream === streams.team) return groups.includes('team');
  if (stream === streams.shared) return right === 'read' && groups.includes('team');
  if (stream === streams.sealed) return false;
  return !stream.startsWith('$');
}

function isAllowed(groups, rule, right, stream) {
  switch (rule) {
    case 'anyone':
      return true;
    case 'user':
      return groups !== null;
    case 'ops':
      return groups !== null && groups.some((g) => g === '$ops' || g === '$admins');
    case 'admins':
      return groups !== null && groups.includes('$admins');
    case 'stream':
      return groups !== null && (right === undefined || may(groups, right, stream));
    default:
      return assert.fail(`a rule that this test does not know: ${rule}`);
  }
}

let server, ca, agent;

/** Gives status and body, or the status alone of an answer that goes on. */
function ask(user, method, path, { body, headers = {} } = {}) {
  return new Promise((done, fail) => {
    const request = https.request(
      {
        host: 'localhost',
        port: server.port,
        ca,
        agent,
        method,
        path,
        headers: {
          ...(user === 'stranger' ? {} : { authorization: `Basic ${Buffer.from(`${user}:${password(user)}`).toString('base64')}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
          ...headers,
        },
      },
      (answer) => {
        const type = answer.headers['content-type'] ?? '';
        if (type.includes('event-stream') || (type.includes('ndjson') && answer.statusCode === 200)) {
          done({ status: answer.statusCode, body: '' });
          answer.destroy();
          return;
        }
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (more) => (text += more));
        answer.on('end', () => done({ status: answer.statusCode, body: text, headers: answer.headers }));
      },
    );
    request.on('error', fail);
    request.setTimeout(15_000, () => request.destroy(new Error(`no answer: ${method} ${path}`)));
    request.end(body);
  });
}

async function must(user, method, path, options) {
  const answer = await ask(user, method, path, options);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.body}`);
  return answer;
}

const at = (stream) => encodeURIComponent(stream);
const acl = (name) => ({ $r: name, $w: name, $d: name, $mr: name, $mw: name });

before(async () => {
  server = await startServer({ args: ['--tls', 'on', '--compat-default-password'] });
  ca = readFileSync(new URL(server.said.connection).searchParams.get('tlsCAFile') ?? server.said.ca_file);
  agent = new https.Agent({ keepAlive: true, maxSockets: 8 });
  // The administrator that the server made makes the one of this test.
  const first = { headers: { authorization: `Basic ${Buffer.from('admin:changeit').toString('base64')}` } };
  for (let i = 0; ; i++) {
    const answer = await ask('stranger', 'GET', '/v1/whoami', first);
    if (answer.status === 200) break;
    assert.ok(i < 100, `the first administrator cannot log in: ${answer.status} ${answer.body}`);
    await settle(100);
  }
  for (const [login, { groups }] of Object.entries(users)) {
    if (!groups || login === 'admin' || login === 'ops') continue;
    await must('stranger', 'POST', '/v1/users', { ...first, body: JSON.stringify({ login, fullName: login, groups, password: password(login) }) });
  }
  for (const login of ['ops', 'admin']) {
    await must('stranger', 'POST', `/v1/users/${login}/password`, { ...first, body: JSON.stringify({ password: password(login) }) });
  }
  for (const stream of [streams.open, streams.team, streams.sealed, streams.system, streams.shared]) {
    await must('admin', 'POST', `/v1/streams/${at(stream)}/events`, { body: JSON.stringify({ type: 'Happened', data: { secret: `of ${stream}` } }) });
  }
  await must('admin', 'PUT', `/v1/streams/${at(streams.team)}/metadata`, { body: JSON.stringify({ $acl: acl('team') }) });
  await must('admin', 'PUT', `/v1/streams/${at(streams.sealed)}/metadata`, { body: JSON.stringify({ $acl: acl('$admins') }) });
  await must('admin', 'PUT', `/v1/streams/${at(streams.shared)}/metadata`, { body: JSON.stringify({ $acl: { $r: ['team'] } }) });
});
after(async () => {
  agent?.destroy();
  await server?.stop();
});

/** What fills a path's other parameters. */
const fillings = { group: 'g', revision: '0', position: '0', store: 'default', id: '77', node: '9', verb: 'promote', subsystem: 'store', login: 'plain' };
/** Not sent by those who may: they would change what the others are asked about, or end the server. */
const tooStrong = (route) => route.method !== 'GET' && /\/v1\/(stores\/[^/]+\/)?(cluster|users|subscriptions|log|token|node)|^\/users|^\/admin/.test(route.path);
/** Of these the rule is only the beginning; the tests below have the rest. */
const ownRules = (route) => /\/users|whoami|\/token|\/append$|\/streams$/.test(route.path);

test('every route, by every kind of user, for every kind of stream', async (t) => {
  const { routes } = JSON.parse((await ask('stranger', 'GET', '/')).body);
  let asked = 0;
  assert.ok(routes.length > 50, `only ${routes.length} routes`);
  for (const route of routes) {
    const named = route.path.includes('{stream}') && route.access === 'stream';
    for (const [user, { groups }] of Object.entries(users)) {
      for (const stream of named ? Object.values(streams) : ['open-1']) {
        const expected = isAllowed(groups, route.access, route.right, route.of === '$all' ? '$all' : stream);
        if (expected && (tooStrong(route) || (ownRules(route) && groups))) continue;
        const path = route.path.replace(/\{(\w+)\}/g, (_, name) => (name === 'stream' ? at(stream) : (fillings[name] ?? assert.fail(`${route.path}: what is {${name}}?`))));
        // Nothing is changed by those who may: the body is none, and the stream is not where it is expected.
        const answer = await ask(user, route.method, path, { body: route.method === 'GET' ? undefined : '{', headers: { 'nilo-expect': '999' } });
        const where = `${user} ${route.method} ${path}`;
        asked++;
        if (expected) {
          assert.ok(answer.status !== 401 && answer.status !== 403, `${where} was refused: ${answer.status} ${answer.body}`);
        } else {
          // Whoever tries passwords is slowed, and told so.
          assert.ok(answer.status === (groups ? 403 : 401) || (user === 'wrong' && answer.status === 429), `${where} was not refused as it should be: ${answer.status} ${answer.body}`);
          assert.ok(!answer.body.includes('secret'), `${where} tells a secret`);
          if (answer.status === 401) assert.match(answer.headers['www-authenticate'] ?? '', /^X-Basic/, where);
        }
      }
    }
  }
  t.diagnostic(`${routes.length} routes, ${asked} requests`);
});

test('lists, links, atomic appends and reads of everything leak nothing', async () => {
  for (const [user, { groups }] of Object.entries(users)) {
    if (!groups) continue;
    const listed = JSON.parse((await must(user, 'GET', '/v1/streams?system=true')).body).streams.map((s) => s.name);
    for (const stream of Object.values(streams)) {
      if (!stream.startsWith('$$')) assert.equal(listed.includes(stream), may(groups, 'read', stream), `${user} sees ${stream} in the list`);
    }
    // Of two streams one may not be written: nothing is.
    const both = (first, second) => ({ body: JSON.stringify({ streams: [first, second].map((stream) => ({ stream, expect: 999, events: [{ type: 'T', data: {} }] })) }) });
    for (const stream of [streams.team, streams.sealed, streams.system]) {
      const answer = await ask(user, 'POST', '/v1/append', both(streams.open, stream));
      assert.equal(answer.status === 403, !may(groups, 'write', stream), `${user} appends to ${stream}: ${answer.status} ${answer.body}`);
    }
  }
  // Whoever may write a stream cannot see through a link of his own.
  const target = Buffer.from(`0@${streams.sealed}`).toString('base64');
  await must('plain', 'POST', '/v1/streams/links-1/events', { body: JSON.stringify({ type: '$>', data_base64: target }) });
  for (const query of ['resolve-links=true', 'resolve-links=true&direction=backward']) {
    const page = await must('plain', 'GET', `/v1/streams/links-1/events?${query}`);
    assert.ok(!page.body.includes(`of ${streams.sealed}`), `a link shows what it must not: ${page.body}`);
    const whole = await must('admin', 'GET', `/v1/streams/links-1/events?${query}`);
    assert.ok(whole.body.includes(`of ${streams.sealed}`), `an administrator does not see through the link: ${whole.body}`);
  }
  // Who may read everything does not see the server's secrets.
  const readersOfAll = async (name, status) => {
    await must('admin', 'POST', `/v1/streams/${at('$$$all')}/events`, { body: JSON.stringify({ type: '$metadata', data: { $acl: { $r: name } } }) });
    for (let i = 0; (await ask('member', 'GET', '/v1/all/events')).status !== status; i++) {
      assert.ok(i < 20, 'who may read everything does not change');
      await settle(50);
    }
  };
  await readersOfAll('team', 200);
  const everything = await must('member', 'GET', '/v1/all/events?limit=1000');
  assert.ok(everything.body.includes('of open-1'), 'nothing is read');
  assert.ok(!everything.body.includes('argon2id') && !everything.body.includes('$nilo-access'), 'everything shows the server\'s secrets');
  assert.equal((await ask('plain', 'GET', '/v1/all/events')).status, 403);
  await readersOfAll('$admins', 403);
});

// ---- gRPC ----

const identifier = (stream) => ({ streamName: Buffer.from(stream) });
const readOptions = (stream) => ({
  options: {
    ...(stream === '$all' ? { all: { start: {} } } : { stream: { streamIdentifier: identifier(stream), start: {} } }),
    readDirection: 'Forwards',
    count: 1,
    uuidOption: { string: {} },
    noFilter: {},
    controlOption: { compatibility: 1 },
  },
});
const appendOptions = (stream) => ({ options: { streamIdentifier: identifier(stream), revision: 999 } });
const group = (stream) => ({ options: { ...(stream === '$all' ? { all: {} } : { streamIdentifier: identifier(stream) }), groupName: 'no-such-group' } });
const withStreams = [...Object.values(streams), '$all'];

/**
 * Every method: what is sent, in the name of which right to which stream. `isHarmless: false`: not sent by those who may.
 */
const methods = {
  'event_store.client.streams.Streams/Read': { right: 'read', streams: withStreams, message: readOptions },
  'event_store.client.streams.Streams/Append': { right: 'write', streams: Object.values(streams), message: appendOptions },
  'event_store.client.streams.Streams/BatchAppend': {
    right: 'write',
    streams: Object.values(streams),
    message: (stream) => ({
      correlationId: { string: randomUUID() },
      options: { streamIdentifier: identifier(stream), streamPosition: 999, deadline: { seconds: 5 } },
      proposedMessages: [{ id: { string: randomUUID() }, metadata: { type: 'T', 'content-type': 'application/json' }, data: Buffer.from('{}') }],
      isFinal: true,
    }),
    isDenied: (answer) => answer.error?.code === 7,
  },
  'event_store.client.streams.Streams/Delete': { right: 'delete', streams: Object.values(streams), message: appendOptions },
  'event_store.client.streams.Streams/Tombstone': { right: 'delete', streams: Object.values(streams), message: appendOptions },
  'kurrentdb.protocol.v2.streams.StreamsService/AppendSession': {
    right: 'write',
    streams: Object.values(streams),
    message: (stream) => ({ stream, expectedRevision: 999, records: [{ recordId: randomUUID(), schema: { format: 1, name: 'T' }, data: Buffer.from('{}') }] }),
  },
  'kurrentdb.protocol.v2.streams.StreamsService/AppendRecords': {
    right: 'write',
    streams: Object.values(streams),
    message: (stream) => ({
      records: [{ recordId: randomUUID(), stream, schema: { format: 1, name: 'T' }, data: Buffer.from('{}') }],
      checks: [{ streamState: { stream, expectedState: 999 } }],
    }),
  },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/Create': { message: group, isHarmless: false },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/Update': { message: group },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/Delete': { message: group },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/Read': {
    right: 'read',
    streams: withStreams,
    message: (stream) => ({ options: { ...group(stream).options, bufferSize: 1, uuidOption: { string: {} } } }),
  },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/GetInfo': { message: group },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/List': { message: () => ({ options: { listAllSubscriptions: {} } }) },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/ReplayParked': { message: group },
  'event_store.client.persistent_subscriptions.PersistentSubscriptions/RestartSubsystem': { message: () => ({}), isHarmless: false },
  'event_store.client.server_features.ServerFeatures/GetSupportedMethods': { message: () => ({}) },
  'event_store.client.gossip.Gossip/Read': { message: () => ({}) },
  'event_store.client.monitoring.Monitoring/Stats': { message: () => ({ refreshTimePeriodInMs: 60_000 }) },
  'event_store.client.operations.Operations/Shutdown': { message: () => ({}), isHarmless: false },
  'event_store.client.operations.Operations/ResignNode': { message: () => ({}), isHarmless: false },
  'event_store.client.operations.Operations/RestartPersistentSubscriptions': { message: () => ({}), isHarmless: false },
  'event_store.client.users.Users/Create': { message: () => ({ options: { loginName: 'made', password: 'some password', fullName: 'M' } }), isHarmless: false },
  'event_store.client.users.Users/Update': { message: () => ({ options: { loginName: 'nobody-such' } }), isHarmless: false },
  'event_store.client.users.Users/Delete': { message: () => ({ options: { loginName: 'nobody-such' } }) },
  'event_store.client.users.Users/Enable': { message: () => ({ options: { loginName: 'nobody-such' } }) },
  'event_store.client.users.Users/Disable': { message: () => ({ options: { loginName: 'nobody-such' } }) },
  'event_store.client.users.Users/Details': { message: () => ({ options: { loginName: 'plain' } }), isOwn: true },
  'event_store.client.users.Users/ChangePassword': { message: () => ({ options: { loginName: 'plain', currentPassword: password('plain'), newPassword: password('plain') } }), isOwn: true },
  'event_store.client.users.Users/ResetPassword': { message: () => ({ options: { loginName: 'nobody-such', newPassword: 'another password' } }) },
};

/** The server's definitions have bytes where there is text, but for names of enumerations and the properties of an event. */
function inBytes(value, key) {
  if (typeof value === 'string') return key === 'readDirection' ? value : Buffer.from(value);
  if (Buffer.isBuffer(value) || typeof value !== 'object' || key === 'metadata') return value;
  if (Array.isArray(value)) return value.map((item) => inBytes(item));
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, inBytes(field, name)]));
}

/** The first answer, or how the call ended. */
function call(service, name, definition, user, message) {
  return new Promise((done) => {
    const metadata = new grpc.Metadata();
    if (user !== 'stranger') metadata.set('authorization', `Basic ${Buffer.from(`${user}:${password(user)}`).toString('base64')}`);
    const options = { deadline: Date.now() + 10_000 };
    const { path, requestSerialize, responseDeserialize, requestStream } = definition;
    const stream = service.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, options);
    let answer;
    stream.on('data', (value) => {
      answer ??= value;
      stream.cancel();
    });
    stream.on('error', () => {});
    stream.on('status', (status) => done({ answer, code: answer ? 0 : status.code, details: status.details, exception: status.metadata.get('exception')[0] }));
    stream.write(message);
    if (!requestStream || !/BatchAppend$/.test(path)) stream.end();
  });
}

test('every method, by every kind of user, for every kind of stream', async (t) => {
  const { grpc: listed } = JSON.parse((await ask('stranger', 'GET', '/')).body);
  const definitions = loader.loadSync(
    listed.length ? ['streams', 'records', 'persistent_subscriptions', 'server_features', 'gossip', 'monitoring', 'operations', ...(listed.some((m) => /Users/.test(m.service)) ? ['users'] : [])].map((name) => `${name}.proto`) : [],
    { includeDirs: [protos], longs: String, enums: String, defaults: false, oneofs: true },
  );
  const service = new grpc.Client(`localhost:${server.port}`, grpc.credentials.createSsl(ca));
  let asked = 0;
  for (const { service: serviceName, name, access } of listed) {
    const key = `${serviceName}/${name}`;
    const known = methods[key] ?? assert.fail(`what is ${key}? say so in this test`);
    const definition = definitions[serviceName]?.[name] ?? assert.fail(`no definition of ${key}`);
    assert.equal(access === 'stream', known.right !== undefined, `${key} has the rule ${access}`);
    for (const [user, { groups }] of Object.entries(users)) {
      for (const stream of known.streams ?? ['open-1']) {
        const expected = isAllowed(groups, access, known.right, stream);
        if (expected && (known.isHarmless === false || (known.isOwn && user !== 'plain' && user !== 'admin'))) continue;
        const got = await call(service, name, definition, user, inBytes(known.message(stream)));
        const isDenied = got.code === 7 || got.code === 16 || (user === 'wrong' && got.code === 8) || (got.answer && known.isDenied?.(got.answer));
        const where = `${user} ${key} ${known.streams ? stream : ''}`;
        asked++;
        assert.equal(Boolean(isDenied), !expected, `${where}: ${JSON.stringify(got)}`);
        if (isDenied && got.code && got.code !== 8) assert.equal(got.code, groups ? 7 : 16, where);
        if (got.code === 7) assert.equal(got.exception ?? 'access-denied', 'access-denied', where);
      }
    }
  }
  service.close();
  t.diagnostic(`${listed.length} methods, ${asked} calls`);
});

test('what was refused and proved is counted', async () => {
  const { body } = await must('ops', 'GET', '/metrics');
  const value = (name) => Number(body.match(new RegExp(`^${name.replace(/[{}"]/g, '\\$&')} (\\d+)$`, 'm'))?.[1] ?? assert.fail(`no ${name}`));
  assert.ok(value('nilo_logins_total{result="proved"}') >= 4);
  assert.ok(value('nilo_logins_total{result="denied"}') > 0);
  assert.ok(value('nilo_logins_total{result="slowed"}') > 0, 'wrong passwords were not slowed');
  assert.ok(value('nilo_password_hashes_total') >= 5);
  assert.ok(value('nilo_rights_refused_total') > 500);
});

// ---- taken away ----

function followed(user, path) {
  let ended;
  const state = { seen: '', ended: new Promise((done) => (ended = done)) };
  const request = https.request(
    {
      host: 'localhost',
      port: server.port,
      ca,
      path,
      headers: { accept: 'text/event-stream', authorization: `Basic ${Buffer.from(`${user}:${password(user)}`).toString('base64')}` },
    },
    (answer) => {
      state.status = answer.statusCode;
      answer.on('data', (more) => (state.seen += more));
      for (const name of ['end', 'error', 'close']) answer.on(name, () => ended(performance.now()));
    },
  );
  request.on('error', () => ended(performance.now()));
  request.end();
  state.until = async (text) => {
    for (let i = 0; !state.seen.includes(text); i++) {
      assert.ok(i < 200, `never seen: ${text} in ${state.status} ${state.seen}`);
      await settle(25);
    }
  };
  return state;
}

test('a right that is taken away, and a user who is disabled, end what is open within a second', async () => {
  const stream = 'revoked-1';
  const append = () => must('admin', 'POST', `/v1/streams/${stream}/events`, { body: JSON.stringify({ type: 'Happened', data: {} }) });
  await append();
  const reader = followed('member', `/v1/streams/${stream}/events`);
  await reader.until('Happened');
  let began = performance.now();
  await must('admin', 'PUT', `/v1/streams/${stream}/metadata`, { body: JSON.stringify({ $acl: { $r: '$admins' } }) });
  assert.ok((await reader.ended) - began < 1000, 'the right was taken away more than a second ago');
  assert.equal((await ask('member', 'GET', `/v1/streams/${stream}/events`)).status, 403);

  const other = followed('plain', `/v1/streams/${streams.open}/events`);
  await other.until('Happened');
  began = performance.now();
  await must('admin', 'POST', '/v1/users/plain/disable');
  assert.ok((await other.ended) - began < 1000, 'the user was disabled more than a second ago');
  assert.equal((await ask('plain', 'GET', `/v1/streams/${streams.open}/events`)).status, 401);
  await must('admin', 'POST', '/v1/users/plain/enable');
  assert.equal((await ask('plain', 'GET', `/v1/streams/${streams.open}/events`)).status, 200);
});
