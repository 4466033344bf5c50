// A cluster whose clients speak TLS and say who they are: what operators do with it, users that every node knows, rights that end
// on all of them, and leaders that go away.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { freePort } from '../lib/cluster.mjs';
import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { lines, run, until } from './helpers.mjs';

const REVOKED_WITHIN_MS = 1000; // docs/security.md
const here = temporaryDirectory('nilo-cluster-secure');
const environment = { XDG_CONFIG_HOME: join(here, 'config'), NILO_URL: '', NILO_PASSWORD: '', NILO_TOKEN: '', NILO_LOGIN: '', NILO_CONTEXT: '', NILO_CA_FILE: '' };
const nodes = [];
let password; // of the first administrator

const running = () => nodes.filter((node) => node.server);
/** A command, sent to this node as this user; `login` empty: as nobody. */
const cli = (node, args, login = 'admin', secret = password, env = {}) =>
  run([...args, '--url', node.server.url, '--ca-file', node.server.said.ca_file, ...(login ? ['--login', login] : [])], {
    cwd: here,
    env: { ...environment, NILO_PASSWORD: login ? secret : '', ...env },
  });

/** A request over TLS. Gives { status, headers, text, ended } as soon as the head is there; `ended` when nothing more comes. */
function ask(node, path, { login = 'admin', secret = password, method = 'GET', headers = {}, body, token } = {}) {
  const authorization = token ? `Bearer ${token}` : login && `Basic ${Buffer.from(`${login}:${secret}`).toString('base64')}`;
  return new Promise((resolve, reject) => {
    const request = https.request(
      `${node.server.url}${path}`,
      { method, ca: readFileSync(node.server.said.ca_file), agent: false, headers: { ...(authorization ? { authorization } : {}), ...headers } },
      (response) => {
        const answer = { status: response.statusCode, headers: response.headers, text: '' };
        response.setEncoding('utf8').on('data', (text) => (answer.text += text));
        answer.ended = new Promise((done) => {
          response.on('end', done).on('error', done).on('close', done);
        });
        answer.abandon = () => request.destroy();
        resolve(answer);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function json(node, path, options) {
  const answer = await ask(node, path, options);
  await answer.ended;
  return answer.status < 300 ? JSON.parse(answer.text) : { refused: answer.status };
}

async function startNode(node, args = []) {
  node.server = await startServer({
    data: join(here, node.name),
    port: node.port,
    args: ['--tls', 'on', '--node-name', node.name, '--peer-port', String(node.peerPort), ...args],
  });
}

/** Waits until every running node knows the same leader; gives that one. */
const leader = () =>
  until(async () => {
    const all = await Promise.all(running().map((node) => json(node, '/v1/cluster').catch(() => ({}))));
    const at = all.findIndex((s) => s.node && s.node === s.leader);
    return at >= 0 && all.every((s) => s.leader === all[at].leader && s.quorum?.has_quorum) && running()[at];
  }, 'all agree on who leads');
const followers = async () => {
  const leads = await leader();
  return running().filter((node) => node !== leads);
};

before(async () => {
  for (const name of ['n1', 'n2', 'n3']) nodes.push({ name, port: await freePort(), peerPort: await freePort() });
  const [first, ...others] = nodes;
  await startNode(first);
  await until(() => /"password":"/.test(first.server.stdout()), 'the password is printed');
  ({ password } = JSON.parse(first.server.stdout().split('\n').find((line) => line.includes('"password"'))));

  const init = ['cluster', 'init', '--address', `127.0.0.1:${first.peerPort}`];
  assert.equal((await cli(first, init, '')).code, 5);
  const made = await cli(first, init);
  assert.equal(made.code, 0, made.stderr);
  assert.equal((await cli(first, ['cluster', 'token'], '')).code, 5);
  const [{ token }] = lines(await cli(first, ['cluster', 'token', '--uses', '2']));
  for (const node of others) await startNode(node, ['--join', `127.0.0.1:${first.peerPort}`, '--token', token]);
  const grown = await cli(first, ['cluster', 'grow', '--timeout', '30']);
  assert.equal(grown.code, 0, grown.stderr);
  await until(async () => {
    const { quorum } = await json(first, '/v1/cluster');
    return quorum?.voters === 3 && quorum.reachable === 3;
  }, 'three voters');
});
after(() => Promise.all(running().map((node) => node.server.stop())));

test('all nodes are reached over TLS, know the first administrator, and tell strangers nothing', async () => {
  const ca = readFileSync(nodes[0].server.said.ca_file, 'utf8');
  for (const node of nodes) {
    assert.match(node.server.url, /^https:/);
    assert.equal(readFileSync(node.server.said.ca_file, 'utf8'), ca, 'one CA');
    const status = lines(await cli(node, ['cluster', 'status']))[0];
    assert.equal(status.members.length, 3);
    assert.ok(status.members.every(({ url }) => url.startsWith('https://')), JSON.stringify(status.members));
    const nobody = await cli(node, ['cluster', 'status'], '');
    assert.equal(nobody.code, 5, nobody.stderr);
    assert.equal((await cli(node, ['cluster', 'status'], 'admin', 'wrong-password')).code, 5);
    if (node !== nodes[0]) assert.doesNotMatch(node.server.stdout(), /"password":"/, 'one password, at the first node');
  }
});

test('a user made at a follower is one everywhere, with the same rights', async () => {
  const [follower] = await followers();
  const added = await cli(follower, ['user', 'add', 'ann', '--ops'], 'admin', password, { NILO_NEW_PASSWORD: 'first-secret' });
  assert.equal(added.code, 0, added.stderr);
  for (const node of nodes) {
    await until(async () => (await cli(node, ['user', 'whoami'], 'ann', 'first-secret')).code === 0, `${node.name} knows ann`);
    assert.equal((await cli(node, ['stream', 'append', 'open', 'A', '{}'], 'ann', 'first-secret')).code, 0);
    assert.equal((await cli(node, ['stream', 'append', '$settings', 'A', '{}'], 'ann', 'first-secret')).code, 5);
    assert.equal((await cli(node, ['stream', 'read', '$user-admin'], 'ann', 'first-secret')).code, 5);
    assert.equal((await cli(node, ['cluster', 'token'], 'ann', 'first-secret')).code, 5, 'of $ops, not of $admins');
    assert.equal((await cli(node, ['cluster', 'status'], 'ann', 'first-secret')).code, 0);
  }
});

test('what only the leader does is sent there with the credentials, over TLS', async () => {
  const [follower] = await followers();
  const leads = await leader();
  const answer = await ask(follower, '/v1/subscriptions?limit=3');
  await answer.ended;
  assert.equal(answer.status, 307);
  assert.match(answer.headers.location, new RegExp(`^https://.*:${leads.server.port}/v1/subscriptions`));
  const made = await cli(follower, ['sub', 'create', 'open', 'g']);
  assert.equal(made.code, 0, made.stderr);
  const nobody = await ask(follower, '/v1/subscriptions', { login: '' });
  await nobody.ended;
  assert.equal(nobody.status, 401, 'who is not known is not sent on');
});

test('a token is one for all nodes', async () => {
  const { token } = await json(nodes[1], '/v1/token', { method: 'POST', login: 'ann', secret: 'first-secret' });
  for (const node of nodes) assert.equal((await json(node, '/v1/whoami', { token })).login, 'ann', node.name);
});

/** An answer that goes on at every node, begun. */
const follow = (login, secret) =>
  Promise.all(
    running().map(async (node) => {
      const answer = await ask(node, '/v1/streams/open/events', { login, secret, headers: { accept: 'text/event-stream' } });
      assert.equal(answer.status, 200, node.name);
      await until(() => answer.text.includes('data:'), `${node.name} sends`);
      return answer;
    }),
  );
const within = (promise, ms) => Promise.race([promise.then(() => true), new Promise((done) => setTimeout(() => done(false), ms))]);

test('rights that are taken away at a follower end at once on every node', async () => {
  const [follower] = await followers();
  const open = await follow('ann', 'first-secret');
  const staying = await follow('admin', password);
  const { token } = await json(nodes[2], '/v1/token', { method: 'POST', login: 'ann', secret: 'first-secret' });
  assert.equal((await json(follower, '/v1/users/ann/disable', { method: 'POST' })).login, 'ann');
  const began = performance.now();
  for (const answer of open) assert.ok(await within(answer.ended, Math.max(1, REVOKED_WITHIN_MS - (performance.now() - began))), 'it has ended');
  for (const node of nodes) {
    assert.equal((await json(node, '/v1/whoami', { login: 'ann', secret: 'first-secret' })).refused, 401);
    assert.equal((await json(node, '/v1/whoami', { token })).refused, 401);
  }
  for (const answer of staying) assert.equal(await within(answer.ended, 1), false, 'others go on');
  for (const answer of staying) answer.abandon();
  assert.equal((await json(follower, '/v1/users/ann/enable', { method: 'POST' })).login, 'ann');
});

test('a right to a stream that is taken away ends what is open on every node', async () => {
  const [, follower] = await followers();
  await until(async () => (await json(follower, '/v1/whoami', { login: 'ann', secret: 'first-secret' })).login === 'ann', 'ann is let in again');
  for (const node of nodes) await until(async () => (await json(node, '/v1/whoami', { login: 'ann', secret: 'first-secret' })).login === 'ann', node.name);
  const open = await follow('ann', 'first-secret');
  const put = await ask(follower, '/v1/streams/open/metadata', {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ $acl: { $r: '$admins' } }),
  });
  await put.ended;
  assert.ok(put.status < 300, `${put.status} ${put.text}`);
  const began = performance.now();
  for (const answer of open) assert.ok(await within(answer.ended, Math.max(1, REVOKED_WITHIN_MS - (performance.now() - began))), 'it has ended');
  for (const node of nodes) assert.equal((await json(node, '/v1/streams/open/events', { login: 'ann', secret: 'first-secret' })).refused, 403);
});

test('a leader that dies takes no users with it, and the next one prints no password', async () => {
  const { token } = await json(nodes[0], '/v1/token', { method: 'POST', login: 'ann', secret: 'first-secret' });
  const lost = await leader();
  await lost.server.kill();
  lost.server = null;
  const leads = await leader();
  for (const node of running()) {
    assert.equal((await json(node, '/v1/whoami', { token })).login, 'ann');
    assert.equal((await cli(node, ['user', 'whoami'])).code, 0);
    const added = await cli(node, ['user', 'add', `of-${node.name}`], 'admin', password, { NILO_NEW_PASSWORD: 'other-secret' });
    assert.equal(added.code, 0, added.stderr);
  }
  if (leads !== nodes[0]) assert.doesNotMatch(leads.server.stdout(), /"password":"/);
  // Changed by the one who is left, known to the one who comes back.
  assert.equal((await cli(leads, ['user', 'passwd', 'ann'], 'admin', password, { NILO_NEW_PASSWORD: 'second-secret' })).code, 0);
  await startNode(lost);
  await until(async () => (await json(lost, '/v1/whoami', { login: 'ann', secret: 'second-secret' })).login === 'ann', 'the new password');
  assert.equal((await json(lost, '/v1/whoami', { login: 'ann', secret: 'first-secret' })).refused, 401);
  assert.equal((await json(lost, '/v1/whoami', { token })).refused, 401);
  assert.doesNotMatch(lost.server.stdout(), /"password":"/);
});
