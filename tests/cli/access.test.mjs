// A server with TLS and users, as somebody meets it who has only what it printed: connection strings, logins, users, tokens,
// contexts. No password is shown, also not in the words of a process.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { lines, run, start, until } from './helpers.mjs';

const here = temporaryDirectory('nilo-access');
let server;
let admin; // the connection string of the first administrator
let bare; // the same without credentials
let password;
let environment;
/** As nobody, unless a test says who. */
const cli = (args, env = {}) => run(args, { cwd: here, env: { ...environment, ...env } });
const as = (login, secret) => (args, env) => cli([...args, '--login', login], { NILO_URL: bare, NILO_PASSWORD: secret, ...env });
const asAdmin = (args, env) => cli(args, { NILO_URL: admin, ...env });

before(async () => {
  server = await startServer({ args: ['--listen', '0.0.0.0'] });
  await until(() => /"password":"/.test(server.stdout()), 'the password is printed');
  const first = JSON.parse(server.stdout().split('\n').find((line) => line.includes('"password"')));
  password = first.password;
  bare = server.said.connection;
  admin = bare.replace('://', `://admin:${password}@`);
  environment = { XDG_CONFIG_HOME: join(here, 'config'), NILO_URL: '', NILO_PASSWORD: '', NILO_TOKEN: '', NILO_LOGIN: '', NILO_CONTEXT: '', NILO_CA_FILE: '' };
});
after(() => server?.stop());

test('the string that the server printed works as it is pasted', async () => {
  assert.match(bare, /^kurrentdb:\/\/.*tls=true/);
  const { code, stderr } = await cli(['stream', 'append', 'pasted', 'A', '{}', '--url', admin]);
  assert.equal(code, 0, stderr);
  assert.deepEqual(lines(await asAdmin(['user', 'whoami'])), [{ login: 'admin', groups: ['$admins'] }]);
  const https = await cli(['user', 'whoami', '--url', `${server.url}`, '--ca-file', server.said.ca_file, '--login', 'admin'], { NILO_PASSWORD: password });
  assert.equal(https.code, 0, https.stderr);
});

test('5: nobody, a wrong password and a missing right are denied, each with its next step', async () => {
  const nobody = await cli(['stream', 'ls'], { NILO_URL: bare });
  assert.equal(nobody.code, 5, nobody.stderr);
  assert.match(nobody.stderr, /--login NAME with NILO_PASSWORD/);
  const wrong = await cli(['stream', 'ls', '--login', 'admin'], { NILO_URL: bare, NILO_PASSWORD: 'wrong-password' });
  assert.equal(wrong.code, 5);
  assert.match(wrong.stderr, /Check name and password of admin/);
  const unknown = await cli(['stream', 'ls', '--login', 'nobody'], { NILO_URL: bare, NILO_PASSWORD: 'wrong-password' });
  assert.equal(unknown.code, 5);
  assert.equal(unknown.stderr.split('\n')[0], wrong.stderr.split('\n')[0]);
  assert.doesNotMatch(wrong.stderr + unknown.stderr, /wrong-password/);
});

test('5: a server that is not trusted is not spoken to', async () => {
  const alone = await cli(['stream', 'ls', '--url', server.url]);
  assert.equal(alone.code, 5, alone.stderr);
  assert.match(alone.stderr, /certificate/);
  assert.match(alone.stderr, /--ca-file FILE or NILO_CA_FILE/);
  const elsewhere = await cli(['stream', 'ls', '--url', `https://127.0.0.9:${server.port}`, '--ca-file', server.said.ca_file]);
  assert.equal(elsewhere.code, 5, elsewhere.stderr);
  assert.match(elsewhere.stderr, /for this host name/);
  const none = await cli(['stream', 'ls', '--url', server.url, '--ca-file', 'absent.pem']);
  assert.equal(none.code, 5);
  assert.match(none.stderr, /absent\.pem/);
  assert.equal((await cli(['stream', 'ls', '--url', server.url], { NILO_CA_FILE: server.said.ca_file })).code, 5); // nobody, but trusted
  const plain = await cli(['stream', 'ls', '--url', server.url.replace('https:', 'http:')]);
  assert.notEqual(plain.code, 0);
  assert.match(plain.stderr, /https:\/\//);
});

test('of several hosts the one that answers is used', async () => {
  const several = admin.replace('@', '@127.0.0.1:1,');
  assert.deepEqual(lines(await cli(['user', 'whoami', '--url', several])).map(({ login }) => login), ['admin']);
});

test('what is no address is refused without showing a password', async () => {
  for (const url of ['ada:secret@host', 'https://ada:secret@ho st', 'https://ada:secret%zz@host', 'kurrentdb://ada:secret@host?tlsCAFil=x']) {
    const { code, stderr } = await cli(['stream', 'ls', '--url', url]);
    assert.equal(code, 2, url);
    if (url.includes('://')) assert.doesNotMatch(stderr, /secret/, url);
  }
});

test('the life of a user', async () => {
  const added = await asAdmin(['user', 'add', 'ada', '--name', 'Ada L', '--ops'], { NILO_NEW_PASSWORD: 'first-secret' });
  assert.equal(added.code, 0, added.stderr);
  assert.equal((await asAdmin(['user', 'add', 'ada'], { NILO_NEW_PASSWORD: 'first-secret' })).code, 3);
  const short = await asAdmin(['user', 'add', 'bob'], { NILO_NEW_PASSWORD: 'short' });
  assert.equal(short.code, 2);
  assert.match(short.stderr, /8/);
  const [ada] = lines(await asAdmin(['user', 'show', 'ada']));
  assert.deepEqual([ada.login, ada.fullName, ada.groups, ada.disabled], ['ada', 'Ada L', ['$ops'], false]);
  assert.deepEqual(lines(await asAdmin(['user', 'ls'])).map(({ login }) => login), ['ada', 'admin']);
  assert.equal((await asAdmin(['user', 'show', 'nobody'])).code, 4);

  const asAda = as('ada', 'first-secret');
  assert.deepEqual(lines(await asAda(['user', 'whoami'])), [{ login: 'ada', groups: ['$ops'] }]);
  const denied = await asAda(['user', 'ls']);
  assert.equal(denied.code, 5);
  assert.match(denied.stderr, /\$admins/);

  assert.equal((await asAdmin(['user', 'set', 'ada', '--groups', 'readers,writers'])).code, 0);
  const [changed] = lines(await asAdmin(['user', 'show', 'ada']));
  assert.deepEqual([changed.fullName, changed.groups], ['Ada L', ['readers', 'writers']]);
  assert.equal((await asAdmin(['user', 'set', 'ada'])).code, 2);

  assert.equal((await asAda(['user', 'passwd'], { NILO_NEW_PASSWORD: 'second-secret' })).code, 0);
  assert.equal((await asAda(['user', 'whoami'])).code, 5);
  assert.equal((await as('ada', 'second-secret')(['user', 'whoami'])).code, 0);
  assert.equal((await asAdmin(['user', 'passwd', 'ada'], { NILO_NEW_PASSWORD: 'third-secret' })).code, 0);
  assert.equal((await asAdmin(['user', 'disable', 'ada'])).code, 0);
  assert.equal((await as('ada', 'third-secret')(['user', 'whoami'])).code, 5);
  assert.equal((await asAdmin(['user', 'enable', 'ada'])).code, 0);
  assert.equal((await as('ada', 'third-secret')(['user', 'whoami'])).code, 0);

  const dry = await asAdmin(['user', 'rm', 'ada', '--dry-run']);
  assert.equal(dry.code, 0);
  assert.match(dry.stderr, /Ada L/);
  assert.equal((await asAdmin(['user', 'rm', 'ada'])).code, 2);
  assert.equal((await asAdmin(['user', 'rm', 'ada', '--yes'])).code, 0);
  assert.equal((await asAdmin(['user', 'rm', 'ada', '--yes'])).code, 4);
  const last = await asAdmin(['user', 'rm', 'admin', '--yes']);
  assert.equal(last.code, 3);
});

test('a token stands for who made it, until the password changes', async () => {
  await asAdmin(['user', 'add', 'tim'], { NILO_NEW_PASSWORD: 'first-secret' });
  const [{ token, expiresAt }] = lines(await as('tim', 'first-secret')(['user', 'token', '--seconds', '120']));
  const left = (new Date(expiresAt) - Date.now()) / 1000;
  assert.ok(left > 60 && left < 180, `${left}`);
  const env = { NILO_URL: bare, NILO_TOKEN: token };
  assert.deepEqual(lines(await cli(['user', 'whoami'], env)).map(({ login }) => login), ['tim']);
  const broken = await cli(['user', 'whoami'], { ...env, NILO_TOKEN: `${token}x` });
  assert.equal(broken.code, 5);
  assert.match(broken.stderr, /nilo user token/);
  await asAdmin(['user', 'passwd', 'tim'], { NILO_NEW_PASSWORD: 'second-secret' });
  assert.equal((await cli(['user', 'whoami'], env)).code, 5);
});

test('a password is typed unseen, and not twice', async () => {
  const typing = start(['user', 'whoami', '--url', bare, '--login', 'admin'], { cwd: here, env: environment, terminal: true });
  await until(() => typing.stdout().includes('Password of admin: '), 'it asks');
  typing.child.stdin.write(`x\x7f${password}\n`);
  const { code, stdout } = await typing.done;
  assert.equal(code, 0, stdout);
  assert.match(stdout, /login +admin/);
  assert.ok(!stdout.includes(password));
  const given = start(['user', 'whoami', '--url', bare, '--login', 'admin'], { cwd: here, env: environment, terminal: true });
  await until(() => given.stdout().includes('Password of admin: '), 'it asks');
  given.child.stdin.write('half\x03');
  assert.equal((await given.done).code, 2);
});

test('a password is not among the words of a process', async () => {
  const tail = start(['stream', 'tail', '$all', '--from', 'start', '--type-prefix', 'A', '--url', admin], { cwd: here, env: environment });
  await until(() => tail.stdout().includes('pasted'), 'it follows');
  const words = readFileSync(`/proc/${tail.child.pid}/cmdline`, 'utf8');
  tail.child.kill('SIGINT');
  await tail.done;
  assert.match(words, /admin:\*+@/);
  assert.ok(!words.includes(password));
});

test('a context is a server with a name, in a file for its owner only', async () => {
  assert.deepEqual(lines(await cli(['context', 'ls'])), []);
  assert.equal((await cli(['context', 'show'])).code, 4);
  const added = await cli(['context', 'add', 'prod', admin]);
  assert.equal(added.code, 0, added.stderr);
  const file = join(here, 'config/nilo/contexts.json');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal((await cli(['user', 'whoami'])).code, 0); // the first one is in use
  assert.equal((await cli(['context', 'add', 'prod', admin])).code, 3);
  assert.equal((await cli(['context', 'add', 'here', 'http://127.0.0.1:1', '--use'])).code, 0);
  assert.equal((await cli(['user', 'whoami'])).code, 6);
  assert.equal((await cli(['user', 'whoami', '--context', 'prod'])).code, 0);
  assert.equal((await cli(['user', 'whoami'], { NILO_CONTEXT: 'prod' })).code, 0);
  const nearest = await cli(['user', 'whoami', '--context', 'prot']);
  assert.equal(nearest.code, 2);
  assert.match(nearest.stderr, /nearest is "prod"/);
  for (const words of [['context', 'ls'], ['context', 'show', 'prod']]) {
    const { stdout } = await cli(words);
    assert.match(stdout, /"has_password":true/);
    assert.ok(!stdout.includes(password));
  }
  assert.equal((await cli(['context', 'use', 'prod'])).code, 0);
  assert.equal((await cli(['user', 'whoami'])).code, 0);
  // Kept beside the URL: who, and where the CA is, whatever the directory.
  mkdirSync(join(here, 'elsewhere'));
  await cli(['context', 'add', 'apart', server.url, '--login', 'admin', '--ca-file', server.said.ca_file, '--save-password'], { NILO_PASSWORD: password });
  const apart = await run(['user', 'whoami', '--context', 'apart'], { cwd: join(here, 'elsewhere'), env: environment });
  assert.equal(apart.code, 0, apart.stderr);
  assert.equal((await cli(['context', 'rm', 'prod'])).code, 0);
  assert.equal((await cli(['context', 'rm', 'prod'])).code, 4);
});

test('the effective configuration is shown, without secrets', async () => {
  const options = lines(await asAdmin(['config']));
  const of = (name) => options.find((option) => option.name === name);
  assert.deepEqual([of('listen').value, of('listen').source], ['0.0.0.0', 'flag']);
  assert.equal(of('memory').source, 'default');
  assert.ok(options.every(({ name, source, description }) => name && source && description));
  assert.ok(lines(await asAdmin(['config', '--changed'])).every(({ source }) => source !== 'default'));
  const unknown = await asAdmin(['config', 'lisen']);
  assert.equal(unknown.code, 4);
  assert.match(unknown.stderr, /nearest is "listen"/);
});

test('the doctor looks at the certificates that the server shows', async () => {
  const checks = lines(await asAdmin(['doctor']));
  const certificates = checks.filter(({ check, found }) => check === 'certificate' && found.startsWith('of the server'));
  assert.ok(certificates.length > 0, JSON.stringify(checks));
  assert.ok(certificates.every(({ verdict }) => verdict === 'ok'));
});

test('a certificate stands for the user that it names', { skip: spawnSync('openssl', ['version']).status === 0 ? false : 'no openssl here' }, async () => {
  const openssl = (line) => assert.equal(spawnSync('openssl', line.split(' '), { cwd: here, encoding: 'utf8' }).status, 0, line);
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
  openssl(`req -x509 ${key} -keyout users.key -out users.pem -days 2 -subj /CN=users -batch`);
  openssl(`req ${key} -keyout eve.key -out eve.csr -subj /CN=eve -batch`);
  openssl('x509 -req -in eve.csr -CA users.pem -CAkey users.key -CAcreateserial -days 2 -out eve.pem');
  const other = await startServer({ args: ['--listen', '0.0.0.0', '--tls-client-ca', join(here, 'users.pem')] });
  await until(() => /"password":"/.test(other.stdout()), 'the password is printed');
  const first = JSON.parse(other.stdout().split('\n').find((line) => line.includes('"password"')));
  const url = other.said.connection;
  const added = await cli(['user', 'add', 'eve', '--url', url, '--login', 'admin'], { NILO_PASSWORD: first.password, NILO_NEW_PASSWORD: 'first-secret' });
  assert.equal(added.code, 0, added.stderr);
  const shown = await cli(['user', 'whoami', '--url', url, '--cert-file', 'eve.pem', '--key-file', 'eve.key']);
  assert.equal(shown.code, 0, shown.stderr);
  assert.equal(lines(shown)[0].login, 'eve');
  const pasted = await cli(['user', 'whoami', '--url', `${url}&userCertFile=${join(here, 'eve.pem')}&userKeyFile=${join(here, 'eve.key')}`]);
  assert.equal(lines(pasted)[0].login, 'eve');
  assert.equal((await cli(['user', 'whoami', '--url', url, '--cert-file', 'eve.pem'])).code, 2); // no key
  await other.stop();
});
