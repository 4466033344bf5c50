// Secrets that are planted everywhere a secret comes in, while every logger shows all it has: none of them comes out again, in
// what the server writes, tells, counts and answers. In what it stores none is either, but the hash that argon2id made of it.

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';

import { startServer } from '../lib/server.mjs';
import { run, until } from './helpers.mjs';

const canary = (name) => `canary-${name}-${randomBytes(9).toString('hex')}`;
const base64 = (text) => Buffer.from(text).toString('base64');

function call(server, path, { authorization, method = 'GET', body, headers = {}, forMs } = {}) {
  return new Promise((resolve, reject) => {
    const request = https.request(
      `${server.url}${path}`,
      {
        method,
        ca: readFileSync(server.said.ca_file),
        headers: { ...(authorization ? { authorization } : {}), ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      },
      (response) => {
        let text = JSON.stringify(response.headers);
        if (forMs) setTimeout(() => request.destroy(), forMs);
        response.setEncoding('utf8').on('data', (more) => (text += more));
        response.on('error', () => {}).on('close', () => resolve({ status: response.statusCode, text }));
      },
    );
    request.on('error', reject);
    request.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  });
}

function* files(directory) {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else yield path;
  }
}

test('no secret comes out of the server at any level', async () => {
  const planted = {};
  const plant = (name) => (planted[name] = canary(name));
  const server = await startServer({ args: ['--tls', 'on', '--log-level', 'trace'], keptMax: Infinity });
  await until(() => /"password":"/.test(server.stdout()), 'the password is printed');
  const { password } = JSON.parse(server.stdout().split('\n').find((line) => line.includes('"password"')));
  const admin = `Basic ${base64(`admin:${password}`)}`;
  const answers = [];
  const facts = call(server, '/v1/facts?from=oldest', { authorization: admin, headers: { accept: 'application/x-ndjson' }, forMs: 4000 });
  const ask = async (path, options) => {
    const answer = await call(server, path, options);
    answers.push(`${path.split('?')[0]} ${answer.status} ${answer.text}`);
    return answer.status;
  };

  assert.equal(await ask('/v1/users', { authorization: admin, method: 'POST', body: { login: 'ann', password: plant('first'), groups: [] } }), 201);
  const ann = `Basic ${base64(`ann:${planted.first}`)}`;
  assert.equal(await ask('/v1/whoami', { authorization: ann }), 200);
  assert.equal(await ask('/v1/whoami', { authorization: `Basic ${base64(`ann:${plant('wrong')}`)}` }), 401);
  assert.equal(await ask('/v1/whoami', { authorization: `Basic ${base64(`${plant('as_login')}:x`)}` }), 401);
  assert.equal(await ask('/v1/whoami', { authorization: `Basic ${plant('malformed')}` }), 401);
  assert.equal(await ask('/v1/whoami', { authorization: `Bearer ${plant('bearer')}` }), 401);
  assert.equal(await ask('/v1/whoami', { authorization: `Digest ${plant('scheme')}` }), 401);
  assert.equal(await ask('/v1/users', { authorization: admin, method: 'POST', body: { login: 'bob', password: 'short', [plant('member')]: plant('value') } }), 400);
  assert.equal(await ask('/v1/users', { authorization: admin, method: 'POST', body: `{"password":"${plant('broken')}"` }), 400);
  assert.equal(await ask('/v1/users/ann/password', { authorization: ann, method: 'POST', body: { password: plant('next'), current: plant('not_current') } }), 403);
  assert.equal(await ask('/v1/users/ann/password', { authorization: ann, method: 'POST', body: { password: planted.next, current: planted.first } }), 200);
  assert.equal(await ask('/v1/users/ann/password', { authorization: admin, method: 'POST', body: { password: plant('reset') } }), 200);
  assert.equal(await ask('/v1/users', { authorization: ann, method: 'POST', body: { login: 'eve', password: plant('not_allowed') } }), 401);
  const made = await call(server, '/v1/token', { authorization: `Basic ${base64(`ann:${planted.reset}`)}`, method: 'POST', body: {} });
  const { token } = JSON.parse(made.text.slice(made.text.indexOf('{"token"')));
  planted.token = token;
  assert.equal(await ask('/v1/whoami', { authorization: `Bearer ${token}` }), 200);
  assert.equal(await ask('/v1/whoami', { authorization: `Bearer ${token.slice(0, -4)}AAAA` }), 401);
  planted.cut_token = token.slice(0, 40);
  planted.password = password;
  const flags = ['--url', server.url, '--ca-file', server.said.ca_file, '--login', 'ann'];
  const denied = await run(['user', 'ls', ...flags], { env: { NILO_PASSWORD: planted.reset } });
  assert.equal(denied.code, 5);
  const wrong = await run(['user', 'ls', ...flags], { env: { NILO_PASSWORD: plant('of_command') } });
  assert.equal(wrong.code, 5);
  for (const path of ['/metrics', '/stats', '/info', '/v1/info', '/info/options', '/v1/users', '/v1/users/ann', '/users', '/v1/subsystems'])
    assert.equal(await ask(path, { authorization: admin }), 200, path);
  assert.equal(await ask('/v1/streams/$user-ann/events', { authorization: `Basic ${base64(`ann:${planted.reset}`)}` }), 403);
  const told = (await facts).text;
  await server.stop();

  // What was printed once is the one place for the first password.
  const printed = server.stdout().replaceAll(password, '');
  const heard = { printed, logged: server.stderr(), told, answers: answers.join('\n'), command: [denied, wrong].map((r) => r.stdout + r.stderr).join('\n') };
  assert.ok(heard.logged.includes('TRACE'), 'the log shows all');
  assert.match(told, /login_denied/);
  const forms = (secret) => [secret, base64(secret), base64(`ann:${secret}`), base64(`admin:${secret}`)];
  for (const [name, secret] of Object.entries(planted))
    for (const form of forms(secret))
      for (const [where, text] of Object.entries(heard)) assert.ok(!text.includes(form), `${name} is ${where}`);
  const stored = [...files(server.data)].map((path) => [path, readFileSync(path)]);
  for (const [name, secret] of Object.entries(planted))
    for (const [path, bytes] of stored) for (const form of forms(secret)) assert.ok(!bytes.includes(form), `${name} is in ${path}`);
  const key = stored.map(([, bytes]) => /"key":\s*"([A-Za-z0-9+/=]{44})"/.exec(bytes.toString('latin1'))?.[1]).find(Boolean);
  assert.ok(key, 'the key of tokens is in the log of events');
  const body = Buffer.from(token, 'base64url');
  const mac = createHmac('sha256', Buffer.from(key, 'base64')).update(body.subarray(0, -32)).digest();
  assert.ok(mac.equals(body.subarray(-32)), 'it is that key');
  for (const [where, text] of Object.entries(heard)) assert.ok(!text.includes(key), `the key is ${where}`);
  assert.ok(stored.some(([, bytes]) => bytes.includes('$argon2id$v=19$m=19456,t=2,p=1$')));
  for (const [where, text] of Object.entries(heard)) assert.ok(!text.includes('$argon2id$'), `a hash is ${where}`);
});
