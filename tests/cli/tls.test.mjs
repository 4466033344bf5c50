// TLS as people meet it: curl, openssl and the command line against a server with its own CA, or with files of the operator.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { nilo, startServer, temporaryDirectory } from '../lib/server.mjs';
import { lines, run, until } from './helpers.mjs';

const CONFIGURATION = 64;
const CURL_UNTRUSTED = 60;

/** Runs a program; gives { code, out } with both of its streams, however it ends. */
const program = (file, args, input = '') =>
  new Promise((done) => {
    const child = execFile(file, args, { timeout: 20_000, encoding: 'utf8' }, (error, stdout, stderr) =>
      done({ code: error ? (error.code ?? 1) : 0, out: stdout + stderr }));
    child.stdin.on('error', () => {}); // it may end without reading
    child.stdin.end(input);
  });
const curl = (...args) => program('curl', ['-sS', '--max-time', '10', ...args]);
const openssl = async (...args) => {
  const { code, out } = await program('openssl', args);
  assert.equal(code, 0, out);
  return out;
};
/** What s_client says of one connection; `said` is sent. */
const handshake = (port, args, said = '') => program('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args], said);

/** The lines that the server printed: where it listens, and what it says once. */
async function said(server) {
  return until(() => {
    const all = lines({ stdout: server.stdout() });
    return all.length > 1 && all;
  }, 'what is said once');
}
const caOf = (server) => join(server.data, 'certs', 'ca.pem');

/** A CA and a certificate of it, by openssl, in `directory`. */
async function issueCa(directory, name) {
  const at = (file) => join(directory, file);
  await openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', `/CN=${name}`,
    '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`));
}
async function issue(directory, ca, name, subject, extension) {
  const at = (file) => join(directory, file);
  writeFileSync(at(`${name}.ext`), extension);
  await openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', subject,
    '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`));
  await openssl('x509', '-req', '-in', at(`${name}.csr`), '-CA', at(`${ca}.pem`), '-CAkey', at(`${ca}.key`), '-CAcreateserial',
    '-days', '10', '-extfile', at(`${name}.ext`), '-out', at(`${name}.pem`));
}

test('a first start makes a CA, says so once, and serves HTTP/2 and HTTP/1.1', async () => {
  const data = temporaryDirectory();
  let server = await startServer({ data, args: ['--tls', 'on', '--tls-names', 'db.example'] });
  const [where, once] = await said(server);
  assert.match(where.url, /^https:\/\/db\.example:/);
  assert.equal(where.ca_file, caOf(server));
  assert.equal(where.connection, `kurrentdb://db.example:${server.port}?tls=true&tlsCAFile=${caOf(server)}`);
  assert.equal(once.new_ca_file, caOf(server));
  const shown = await openssl('x509', '-in', caOf(server), '-noout', '-fingerprint', '-sha256');
  assert.equal(shown.trim().split('=')[1], once.new_ca_fingerprint);
  for (const file of ['ca.key', 'node.key']) assert.equal(statSync(join(data, 'certs', file)).mode & 0o777, 0o600);

  const ping = (...args) => curl('--cacert', caOf(server), '-w', ' %{http_version} %{http_code}', ...args, `https://localhost:${server.port}/ping`);
  assert.match((await ping('--http2')).out, / 2 200$/);
  assert.match((await ping('--http1.1')).out, / 1\.1 200$/);
  assert.match((await ping('--no-alpn', '--http1.1')).out, / 1\.1 200$/);
  assert.match((await ping('--http2-prior-knowledge')).out, / 2 200$/);
  const named = await curl('--cacert', caOf(server), '--resolve', `db.example:${server.port}:127.0.0.1`, `https://db.example:${server.port}/ping`);
  assert.equal(named.code, 0, named.out);
  const byAddress = await curl('--cacert', caOf(server), `https://127.0.0.1:${server.port}/ping`);
  assert.equal(byAddress.code, 0, byAddress.out);

  assert.equal((await curl(`https://localhost:${server.port}/ping`)).code, CURL_UNTRUSTED, 'nobody knows this CA by itself');
  const other = await curl('--cacert', caOf(server), '--resolve', `other.example:${server.port}:127.0.0.1`, `https://other.example:${server.port}/ping`);
  assert.equal(other.code, CURL_UNTRUSTED, other.out);
  const clear = await curl('-w', ' %{http_code}', `http://127.0.0.1:${server.port}/ping`);
  assert.match(clear.out, /use https:\/\/.* 400$/s);

  // The next start uses the same CA, and says nothing of it again.
  await server.stop();
  server = await startServer({ data, args: ['--tls', 'on', '--tls-names', 'more.example'] });
  assert.equal(server.said.ca_fingerprint, once.new_ca_fingerprint);
  for (const name of ['more.example', 'db.example']) {
    const kept = await curl('--cacert', caOf(server), '--resolve', `${name}:${server.port}:127.0.0.1`, `https://${name}:${server.port}/ping`);
    assert.equal(kept.code, 0, kept.out);
  }
  assert.doesNotMatch(server.stdout(), /new_ca|password/);
  await server.stop();
});

test('only TLS 1.3 and 1.2 with AEAD, no second negotiation, and an end for whoever says nothing sensible', async () => {
  const server = await startServer({ args: ['--tls', 'on', '--insecure'] });
  const trust = ['-CAfile', caOf(server), '-verify_return_error'];
  assert.match((await handshake(server.port, [...trust, '-tls1_3'])).out, /TLSv1\.3, Cipher is TLS_AES_/);
  assert.match((await handshake(server.port, [...trust, '-tls1_2'])).out, /Verify return code: 0/);
  for (const args of [['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'], ['-tls1', '-cipher', 'ALL:@SECLEVEL=0'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA256'], ['-tls1_2', '-cipher', 'AES128-GCM-SHA256'], ['-alpn', 'h3']]) {
    const refused = await handshake(server.port, args);
    assert.notEqual(refused.code, 0, args.join(' '));
    assert.match(refused.out, /alert|Cipher is \(NONE\)/, args.join(' '));
  }
  const again = await handshake(server.port, [...trust, '-tls1_2'], 'R\n'); // s_client's word for "negotiate again"
  assert.match(again.out, /RENEGOTIATING/);
  assert.match(again.out, /no renegotiation|unexpected eof|error/i);

  const garbage = await new Promise((done) => {
    const socket = connect(server.port, '127.0.0.1', () => socket.write(Buffer.alloc(100_000, 0x16)));
    let got = 0;
    socket.on('data', (data) => (got += data.length));
    socket.on('error', () => {});
    socket.on('close', () => done(got));
  });
  assert.ok(garbage < 100, 'an alert at most');
  const metrics = await curl('--cacert', caOf(server), `https://localhost:${server.port}/metrics`);
  const metric = (name) => Number(metrics.out.match(new RegExp(`^${name} ([0-9]+)$`, 'm'))?.[1]);
  assert.equal(metric('nilo_tls_handshakes'), 0);
  assert.ok(metric('nilo_tls_handshakes_total') >= 10); // one of these is that of the metrics
  assert.ok(metric('nilo_tls_handshakes_failed_total') >= 6); // five refused, and the garbage
  await server.stop();
});

test('off loopback: TLS and users by themselves, and the printed password works', async () => {
  const server = await startServer({ args: ['--listen', '0.0.0.0'] });
  const [where, once] = await said(server);
  assert.match(where.url, /^https:/);
  assert.equal(once.user, 'admin');
  const url = `kurrentdb://admin:${once.password}@localhost:${server.port}?tls=true&tlsCAFile=${caOf(server)}`;
  const appended = await run(['stream', 'append', 'order-42', 'OrderPlaced', '{"total":5}', '--url', url]);
  assert.equal(appended.code, 0, appended.stderr);
  const outside = Object.values(networkInterfaces()).flat().find((i) => i.family === 'IPv4' && !i.internal);
  if (outside) {
    const answer = await curl('--cacert', caOf(server), '-u', `admin:${once.password}`,
      `https://${outside.address}:${server.port}/v1/streams/order-42/events`);
    assert.match(answer.out, /OrderPlaced/);
  }
  const stranger = await curl('--cacert', caOf(server), '-w', ' %{http_code}', `https://localhost:${server.port}/v1/streams/order-42/events`);
  assert.match(stranger.out, / 401$/);
  await server.stop();
});

test('off loopback by IPv6', { skip: !existsSync('/proc/net/if_inet6') && 'this machine has no IPv6' }, async () => {
  const server = await startServer({ args: ['--listen', '::'] });
  const answer = await curl('--cacert', caOf(server), `https://[::1]:${server.port}/ping`);
  assert.equal(answer.code, 0, answer.out);
  await server.stop();
});

test('what is not safe is refused with the next step, unless it was said', async () => {
  const refused = async (args, why) => {
    const problem = await startServer({ args }).then(
      async (server) => assert.fail(`it started: ${await server.stop()}`),
      (error) => error);
    assert.equal(problem.exit?.code, CONFIGURATION, problem.message);
    assert.match(problem.stderr, why);
  };
  await refused(['--listen', '0.0.0.0', '--tls', 'off'], /without TLS .*--insecure/s);
  await refused(['--tls-certificate', 'x.pem'], /--tls-certificate and --tls-key are said together/);
  await refused(['--tls-certificate', '/nonexistent/x.pem', '--tls-key', '/nonexistent/x.key'], /x\.pem is absent/);
  await refused(['--tls', 'on', '--tls-names', 'a,,b'], /--tls-names: "" is neither/);

  const server = await startServer({ args: ['--listen', '0.0.0.0', '--insecure'] });
  assert.equal(server.said.insecure, true);
  assert.match(server.said.url, /^http:/);
  const info = JSON.parse((await curl(`http://127.0.0.1:${server.port}/info`)).out);
  assert.equal(info.nilo.options.insecure.value, true);
  await until(() => /INSECURE: no TLS/.test(server.stderr()), 'the fact says so');
  process.kill(server.pid, 'SIGHUP'); // nothing to read again, and no reason to end
  assert.match((await curl(`http://127.0.0.1:${server.port}/ping`)).out, /Ping/);
  await server.stop();
});

const CLOSED_TERMINAL = `
import os, pty, sys
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
while b"is ready" not in said:
    said += os.read(master, 65536)
os.close(master)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
test('a server ends in order with its terminal', async () => {
  for (const args of [[], ['--tls', 'on']]) {
    const { code, out } = await program('python3', ['-c', CLOSED_TERMINAL, nilo, '--data', temporaryDirectory(), '--port', '0', ...args]);
    assert.equal(code, 0, out);
  }
});

test('files of the operator are used, and read again on SIGHUP and when they change', async () => {
  const directory = temporaryDirectory();
  const at = (file) => join(directory, file);
  await issueCa(directory, 'corporate');
  for (const name of ['one', 'two', 'three']) await issue(directory, 'corporate', name, '/CN=x', `subjectAltName=DNS:${name}.example`);
  const use = (name) => {
    copyFileSync(at(`${name}.pem`), at('live.pem'));
    copyFileSync(at(`${name}.key`), at('live.key'));
  };
  use('one');
  const server = await startServer({ args: ['--tls-certificate', at('live.pem'), '--tls-key', at('live.key')] });
  const isShown = async (name) => (await curl('--cacert', at('corporate.pem'), '--resolve', `${name}.example:${server.port}:127.0.0.1`,
    `https://${name}.example:${server.port}/ping`)).code === 0;
  assert.ok(await isShown('one'));
  await until(() => /tls_expires.* on 20\d\d-/.test(server.stderr()), 'ten days are few');
  assert.equal(existsSync(join(server.data, 'certs')), false, 'no CA of its own');
  use('two');
  process.kill(server.pid, 'SIGHUP');
  await until(() => isShown('two'), 'the second certificate', 1500);
  use('three');
  await until(() => isShown('three'), 'the third certificate, without a word', 10_000);
  writeFileSync(at('live.pem'), 'no certificate');
  process.kill(server.pid, 'SIGHUP');
  await until(() => /tls_reload_failed.*live\.pem/.test(server.stderr()), 'the fact names the file');
  assert.ok(await isShown('three'));
  await server.stop();
});

test('a client certificate is its user', async () => {
  const directory = temporaryDirectory();
  const at = (file) => join(directory, file);
  await issueCa(directory, 'people');
  await issueCa(directory, 'forged');
  await issue(directory, 'people', 'admin', '/CN=admin', 'extendedKeyUsage=clientAuth');
  await issue(directory, 'people', 'nobody', '/CN=nobody', 'extendedKeyUsage=clientAuth');
  await issue(directory, 'forged', 'fake', '/CN=admin', 'extendedKeyUsage=clientAuth');
  const server = await startServer({ args: ['--tls', 'on', '--tls-client-ca', at('people.pem')] });
  await said(server);
  const stats = (...args) => curl('--cacert', caOf(server), '-w', ' %{http_code}', ...args, `https://localhost:${server.port}/stats`);
  const as = (name) => stats('--cert', at(`${name}.pem`), '--key', at(`${name}.key`));
  assert.match((await stats()).out, / 401$/);
  assert.match((await as('admin')).out, / 200$/);
  assert.match((await as('nobody')).out, / 401$/);
  assert.notEqual((await as('fake')).code, 0);
  // A node's certificate is no user, and the CA of nodes certifies none.
  const node = await stats('--cert', join(server.data, 'certs', 'node.pem'), '--key', join(server.data, 'certs', 'node.key'));
  assert.notEqual(node.code, 0);
  await server.stop();
});

test('a cluster that is made later uses the same CA, the certificate keeps its names, and who joins is certified by it', async () => {
  const server = await startServer({ args: ['--tls', 'on', '--tls-names', 'db.example'] });
  const [, once] = await said(server);
  const before = readFileSync(caOf(server), 'utf8');
  const url = `kurrentdb://admin:${once.password}@localhost:${server.port}?tls=true&tlsCAFile=${caOf(server)}`;
  const peerPort = 20_000 + (process.pid % 20_000);
  const made = await run(['cluster', 'init', '--address', `127.0.0.1:${peerPort}`, '--url', url]);
  assert.equal(made.code, 0, made.stderr);
  assert.equal(readFileSync(caOf(server), 'utf8'), before);
  process.kill(server.pid, 'SIGHUP');
  await until(() => /tls_reloaded/.test(server.stderr()), 'the certificate is read again');
  const named = await curl('--cacert', caOf(server), '--resolve', `db.example:${server.port}:127.0.0.1`, `https://db.example:${server.port}/ping`);
  assert.equal(named.code, 0, named.out);

  const [{ token }] = lines(await run(['cluster', 'token', '--json', '--url', url]));
  const second = await startServer({
    args: ['--tls', 'on', '--join', `127.0.0.1:${peerPort}`, '--token', token, '--peer-port', String(peerPort + 1)],
  });
  assert.equal(second.said.ca_fingerprint, server.said.ca_fingerprint);
  const joined = await curl('--cacert', caOf(server), '-u', `admin:${once.password}`, `https://localhost:${second.port}/v1/whoami`);
  assert.match(joined.out, /"admin"/);
  await second.stop();
  await server.stop();
});
