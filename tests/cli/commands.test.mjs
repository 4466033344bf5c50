// Each command in both forms, each exit code, and the manners that docs/cli.md promises.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { nilo, startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, onTerminal, readAll, run } from './helpers.mjs';

let server;
let url;
const here = temporaryDirectory('nilo-cli');
const cli = (args, options) => run(args, { url, cwd: here, ...options });
const tty = (args, options) => onTerminal(args, { url, cwd: here, ...options });

before(async () => {
  server = await startServer();
  url = server.url;
  await append(url, 'order-1', [0, 1, 2, 3, 4].map((n) => ({ type: n % 2 ? 'OrderPaid' : 'OrderPlaced', data: { n } })));
});
after(() => server?.stop());

/** A server that is none: answers everything with one status. */
async function stub(status, body = {}, headers = {}) {
  const listener = http.createServer((request, response) => {
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers }).end(JSON.stringify(body));
  });
  await new Promise((done) => listener.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${listener.address().port}`, close: () => (listener.closeAllConnections(), listener.close()) };
}

// ---- append ----

test('append takes an argument, a file and standard input', async () => {
  writeFileSync(join(here, 'data.json'), '{"from":"file"}\n');
  assert.equal((await cli(['stream', 'append', 'in', 'A', '{"from":"argument"}', '--expect', 'none'])).code, 0);
  assert.equal((await cli(['stream', 'append', 'in', 'A', '@data.json'])).code, 0);
  const last = await cli(['stream', 'append', 'in', 'A', '--expect=1'], { input: '{"from":"stdin"}\n' });
  const [said] = lines(last);
  assert.equal(said.stream, 'in');
  assert.equal(said.revision, 2);
  assert.equal(said.duplicate, false);
  assert.equal(typeof said.position, 'number');
  assert.deepEqual((await readAll(url, 'in')).map((event) => event.data.from), ['argument', 'file', 'stdin']);
});

test('append says on a terminal where the event is', async () => {
  const { code, text } = await tty(['stream', 'append', 'on-terminal', 'A', '{}']);
  assert.equal(code, 0);
  assert.match(text, /^on-terminal is at revision 0, position \d+\n$/);
});

test('append takes metadata, an id, and data that is no JSON', async () => {
  const id = '0f8fad5b-d9cb-469f-a165-70867728950e';
  const words = ['stream', 'append', 'with-id', 'A', '{}', '--id', id, '--metadata', '{"user":"ada"}'];
  assert.equal(lines(await cli(words))[0].duplicate, false);
  assert.equal(lines(await cli(words))[0].duplicate, true);
  assert.equal((await cli(['stream', 'append', 'with-id', 'B', '--binary'], { input: Buffer.from([1, 2, 255]) })).code, 0);
  const [first, second, ...rest] = await readAll(url, 'with-id');
  assert.equal(first.id, id);
  assert.deepEqual(first.metadata, { user: 'ada' });
  assert.equal(second.data_base64, Buffer.from([1, 2, 255]).toString('base64'));
  assert.equal(rest.length, 0);
});

test('data keeps its spelling: large numbers and decimals stay as they were written', async () => {
  const data = '{"big":123456789012345678901234567890,"price":1.10}';
  assert.equal((await cli(['stream', 'append', 'spelled', 'A', data])).code, 0);
  assert.ok((await cli(['stream', 'read', 'spelled'])).stdout.includes(`"data":${data}`));
});

test('data that is no JSON is refused before it is sent, also when it closes brackets of its own', async () => {
  for (const data of ['{"a":', '{}},{"type":"Evil","data":{}', '{} {}', 'order']) {
    const { code, stderr } = await cli(['stream', 'append', 'refused', 'A', data]);
    assert.equal(code, 2, data);
    assert.match(stderr, /no JSON/);
  }
  assert.deepEqual(await readAll(url, 'refused'), []);
});

test('an answer that is lost is asked for again with the same ids: written once (G3, G6)', async () => {
  let lost = 0;
  const proxy = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part)).on('end', async () => {
      const answer = await fetch(url + request.url, {
        method: request.method,
        headers: { 'content-type': request.headers['content-type'], 'nilo-expect': request.headers['nilo-expect'] },
        body: Buffer.concat(parts),
      });
      if (lost < 2) {
        lost++;
        request.socket.destroy();
        return;
      }
      response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') }).end(await answer.text());
    });
  });
  await new Promise((done) => proxy.listen(0, '127.0.0.1', done));
  const answer = await cli(['stream', 'append', 'lost-answer', 'A', '{}', '--expect', 'none', '--url', `http://127.0.0.1:${proxy.address().port}`]);
  proxy.closeAllConnections();
  proxy.close();
  assert.equal(lost, 2);
  assert.equal(answer.code, 0, answer.stderr);
  assert.equal(lines(answer)[0].revision, 0);
  assert.equal((await readAll(url, 'lost-answer')).length, 1);
});

// ---- reading ----

test('read gives the lines of the server in a pipe and a table on a terminal', async () => {
  const piped = lines(await cli(['stream', 'read', 'order-1']));
  assert.deepEqual(piped.map((event) => event.data.n), [0, 1, 2, 3, 4]);
  const { code, text } = await tty(['stream', 'read', 'order-1']);
  assert.equal(code, 0);
  const rows = text.trimEnd().split('\n');
  assert.match(rows[0], /^REVISION +TYPE +TIME +DATA$/);
  assert.equal(rows.length, 6);
  assert.match(rows[2], /^1 +OrderPaid +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +\{"n":1\}$/);
  assert.deepEqual(lines({ stdout: (await tty(['stream', 'read', 'order-1', '--json'])).text }), piped);
});

test('colours are for terminals that want them', async () => {
  assert.ok((await tty(['stream', 'read', 'order-1'], { env: { NO_COLOR: '' } })).text.includes('\x1b[1m'));
  assert.ok(!(await tty(['stream', 'read', 'order-1'], { env: { NO_COLOR: '1' } })).text.includes('\x1b'));
  assert.ok(!(await cli(['stream', 'read', 'order-1'], { env: { NO_COLOR: '' } })).stdout.includes('\x1b'));
});

test('data cannot drive the terminal', async () => {
  await append(url, 'evil', [{ type: 'A\x1b[31m\x9b31m', data: {} }]);
  const { text } = await tty(['stream', 'read', 'evil']);
  assert.ok(!/[\x1b\x9b]/.test(text));
  assert.ok(text.includes('A.[31m.31m'));
});

test('read waits for a position, and says when it does not come', async () => {
  const [said] = lines(await cli(['stream', 'append', 'after', 'A', '{}']));
  const read = ['stream', 'read', 'after', '--timeout', '1', '--after'];
  assert.equal(lines(await cli([...read, String(said.position)])).length, 1);
  const early = await cli([...read, String(said.position + 1)]);
  assert.equal(early.code, 6);
  assert.match(early.stderr, new RegExp(`position ${said.position + 1} is not here yet`));
  const waiting = cli(['stream', 'read', 'after', '--after', String(said.position + 1)]);
  await append(url, 'after', [{ type: 'B', data: {} }]);
  assert.equal(lines(await waiting).length, 2);
  for (const name of ['stale', 'linearizable', 'leader'])
    assert.equal(lines(await cli(['stream', 'read', 'after', '--consistency', name])).length, 2);
  assert.equal((await cli(['stream', 'read', 'after', '--consistency', 'strong'])).code, 2);
  assert.equal((await cli(['stream', 'read', 'after', '--after', 'x'])).code, 2);
  assert.equal((await cli(['stream', 'read', 'after', '--timeout', '0'])).code, 2);
});

test('read begins and ends where it is told', async () => {
  const numbers = async (...flags) => lines(await cli(['stream', 'read', 'order-1', ...flags])).map((event) => event.revision);
  assert.deepEqual(await numbers('--from', '3'), [3, 4]);
  assert.deepEqual(await numbers('--limit=2'), [0, 1]);
  assert.deepEqual(await numbers('--backward', '--limit', '2'), [4, 3]);
  assert.deepEqual(await numbers('--backward', '--from', '1'), [1, 0]);
  assert.deepEqual(await numbers('--from', 'start', '--limit', '1'), [0]);
  assert.deepEqual(await numbers('--from', 'end'), []);
});

test('$all takes filters, streams do not', async () => {
  const all = async (...flags) => lines(await cli(['stream', 'read', '$all', ...flags]));
  assert.ok((await all('--stream-prefix', 'order-')).every((event) => event.stream === 'order-1'));
  assert.equal((await all('--stream-regex', '^order-[0-9]+$', '--type-prefix', 'Order')).length, 0);
  assert.deepEqual((await all('--type-regex', '^OrderP(aid)$')).map((event) => event.data.n), [1, 3]);
  assert.equal((await cli(['stream', 'read', 'order-1', '--type-prefix', 'Order'])).code, 2);
  const positions = (await all()).map((event) => event.position);
  assert.deepEqual(positions, positions.map((_, index) => index));
  assert.match((await tty(['stream', 'read', '$all', '--limit', '1'])).text, /^POSITION +STREAM +REVISION +TYPE +TIME +DATA\n/);
});

test('ls lists streams, categories and types in both forms', async () => {
  const names = async (...flags) => lines(await cli(['stream', 'ls', ...flags])).map((row) => row.name);
  assert.deepEqual(await names('order-'), ['order-1']);
  assert.ok((await names('--categories')).includes('order'));
  assert.ok((await names('--types')).includes('OrderPaid'));
  assert.equal((await names('--limit', '1')).length, 1);
  assert.ok(!(await names('--after', 'order-1')).includes('order-1'));
  assert.ok(!(await names()).some((name) => name.startsWith('$')));
  assert.ok((await names('--system')).some((name) => name.startsWith('$')));
  assert.match((await tty(['stream', 'ls', 'order-'])).text, /^NAME +EVENTS\norder-1 +5\n$/);
  assert.match((await tty(['stream', 'ls', 'nothing-'])).text, /no streams that begin with nothing-/);
  assert.equal((await cli(['stream', 'ls', '--types', '--categories'])).code, 2);
});

test('show tells the state of a stream in both forms', async () => {
  const [state] = lines(await cli(['stream', 'show', 'order-1']));
  assert.equal(state.last_revision, 4);
  assert.match((await tty(['stream', 'show', 'order-1'])).text, /last_revision +4\n/);
});

test('event show finds an event by stream and revision, and by position', async () => {
  const [byRevision] = lines(await cli(['event', 'show', 'order-1@2']));
  assert.equal(byRevision.data.n, 2);
  assert.deepEqual(lines(await cli(['event', 'show', String(byRevision.position)])), [byRevision]);
  assert.match((await tty(['event', 'show', 'order-1@2'])).text, /data +\{"n":2\}\n/);
  assert.equal((await cli(['event', 'show', 'order-1@9'])).code, 4);
  assert.equal((await cli(['event', 'show', '999999999'])).code, 4);
  assert.equal((await cli(['event', 'show', 'order-1'])).code, 2);
});

test('streams with names of any kind are reached', async () => {
  for (const stream of ['a/b c?d=1&e#f', 'größe-✓', '100%', '-dash']) {
    const answer = await cli(['stream', 'append', '--', stream, 'A', '{}']);
    assert.equal(answer.code, 0, answer.stderr);
    assert.equal(lines(await cli(['stream', 'read', '--', stream]))[0].stream, stream);
    assert.equal(lines(await cli(['event', 'show', '--', `${stream}@0`]))[0].stream, stream);
  }
});

// ---- what destroys ----

test('truncate and delete show what goes, and do nothing with --dry-run', async () => {
  await append(url, 'goes', [{ type: 'A' }, { type: 'A' }, { type: 'A' }]);
  const truncate = await cli(['stream', 'truncate', 'goes', '--before', '2', '--dry-run', '-q']);
  assert.equal(truncate.code, 0);
  assert.deepEqual(lines(truncate), [{ stream: 'goes', would_go: 2, first_revision: 0, last_revision: 1 }]);
  const remove = await tty(['stream', 'delete', 'goes', '--dry-run']);
  assert.equal(remove.code, 0);
  assert.equal(remove.text, 'goes: 3 events (revisions 0 to 2) will go\n');
  assert.deepEqual(lines(await cli(['stream', 'truncate', 'goes', '--before', '0', '--dry-run'])), [{ stream: 'goes', would_go: 0 }]);
  assert.equal((await readAll(url, 'goes')).length, 3);
});

test('truncate and delete ask for the name; without a terminal they need --yes', async () => {
  await append(url, 'asked', [{ type: 'A' }, { type: 'A' }]);
  const unasked = await cli(['stream', 'delete', 'asked']);
  assert.equal(unasked.code, 2);
  assert.match(unasked.stderr, /--yes/);
  const wrong = await tty(['stream', 'delete', 'asked'], { input: 'aksed\n' });
  assert.equal(wrong.code, 2);
  assert.equal((await readAll(url, 'asked')).length, 2);
  assert.equal((await tty(['stream', 'truncate', 'asked', '--before', '1'], { input: 'asked\n' })).code, 0);
  assert.equal((await readAll(url, 'asked')).length, 1);
  assert.equal((await tty(['stream', 'delete', 'asked'], { input: 'asked\n' })).code, 0);
  assert.equal((await readAll(url, 'asked')).length, 0);
});

test('a truncated stream keeps its numbers, a deleted one comes back, a tombstone stays', async () => {
  await append(url, 'life', [{ type: 'A' }, { type: 'A' }, { type: 'A' }]);
  assert.equal(lines(await cli(['stream', 'truncate', 'life', '--before', '1', '--yes']))[0].first_revision, 1);
  assert.deepEqual((await readAll(url, 'life')).map((event) => event.revision), [1, 2]);
  assert.equal((await cli(['stream', 'truncate', 'life', '--before', '9', '--yes'])).code, 2);
  assert.equal((await cli(['stream', 'delete', 'life', '--expect', '0', '--yes'])).code, 3);
  assert.equal(lines(await cli(['stream', 'delete', 'life', '--expect', '2', '--yes']))[0].state, 'soft-deleted');
  assert.equal((await cli(['stream', 'read', 'life'])).code, 4);
  assert.equal((await cli(['stream', 'append', 'life', 'A', '{}'])).code, 0);
  assert.equal(lines(await cli(['stream', 'delete', 'life', '--tombstone', '--yes']))[0].state, 'tombstoned');
  const refused = await cli(['stream', 'append', 'life', 'A', '{}']);
  assert.equal(refused.code, 4);
  assert.match(refused.stderr, /another name/);
});

// ---- facts and logs ----

test('fact watch shows the chain of a start in both forms', async () => {
  const facts = lines(await cli(['fact', 'watch', '--from-oldest', '--category', 'system', '--level', 'info', '--limit', '3']));
  assert.equal(facts.length, 3);
  assert.ok(facts.every((fact) => fact.category === 'system'));
  assert.equal(facts[0].type, 'system_startup_initiated');
  const { code, text } = await tty(['fact', 'watch', '--from-oldest', '--limit', '2']);
  assert.equal(code, 0);
  assert.match(text, /^TIME +CATEGORY +FACT +TEXT\n/);
  assert.equal(text.trimEnd().split('\n').length, 3);
  assert.equal((await cli(['fact', 'watch', '--category', 'nonsense'])).code, 2);
});

test('log level shows and changes levels', async () => {
  assert.equal(lines(await cli(['log', 'level']))[0].gateway, 'info');
  assert.equal((await cli(['log', 'level', 'gateway', 'debug'])).code, 0);
  assert.equal(lines(await cli(['log', 'level', 'gateway']))[0].level, 'debug');
  assert.match((await tty(['log', 'level'])).text, /gateway +debug\n/);
  assert.equal((await cli(['log', 'level', 'gateway', 'loud'])).code, 2);
  assert.equal((await cli(['log', 'level', 'nonsense'])).code, 4);
  assert.equal((await cli(['log', 'level', 'all', 'info'])).code, 0);
});

// ---- help and usage ----

test('help and version answer, and need no server', async () => {
  const nowhere = { url: 'http://127.0.0.1:1' };
  assert.match((await cli(['help'], nowhere)).stdout, /nilo stream append STREAM TYPE \[DATA\]/);
  assert.match((await cli(['help', 'stream', 'append'], nowhere)).stdout, /--expect REVISION/);
  assert.match((await cli(['stream', '--help'], nowhere)).stdout, /nilo stream truncate STREAM/);
  assert.match((await cli(['stream', 'append', '--help'], nowhere)).stdout, /--expect REVISION/);
  assert.match((await cli(['version'], nowhere)).stdout, /^nilo \d+\.\d+\.\d+\n$/);
  for (const words of [['help', 'import'], ['stream', 'tail', '-h'], ['help', 'verify']]) {
    const { code, stdout } = await cli(words, nowhere);
    assert.equal(code, 0, words.join(' '));
    assert.match(stdout, /^nilo /);
  }
});

test('unknown commands and flags: the nearest name, exit code 2', async () => {
  for (const [words, nearest] of [
    [['steam', 'ls'], 'nearest is "stream"'],
    [['stream', 'lss'], 'nearest is "stream ls"'],
    [['stream'], 'needs a verb'],
    [['stream', 'read', 'a', '--limti', '1'], 'nearest is --limit'],
    [['stream', 'read', 'a', '--limit'], '--limit needs a value'],
    [['stream', 'read', 'a', '--backward=1'], 'takes no value'],
    [['stream', 'read', 'a', 'b'], 'one argument too many'],
    [['stream', 'read'], 'usage: nilo stream read STREAM'],
    [['stream', 'read', 'a', '--limit', 'many'], 'no number'],
    [['stream', 'append', 'a', 'A', '{}', '--expect', 'noen'], 'none of any'],
    [['stream', 'append', 'a', 'A', '{}', '--id', 'x'], 'no UUID'],
    [['stream', 'read', 'a', '--url', 'localhost'], 'http://'],
    [['help', 'nonsense'], 'no command'],
  ]) {
    const { code, stderr } = await cli(words);
    assert.equal(code, 2, words.join(' '));
    assert.ok(stderr.includes(nearest), `${words.join(' ')}: ${stderr}`);
  }
});

// ---- the other exit codes ----

test('3, conflict: what, where, who, and the next step', async () => {
  const { code, stderr, stdout } = await cli(['stream', 'append', 'order-1', 'A', '{}', '--expect', '3']);
  assert.equal(code, 3);
  assert.equal(stdout, '');
  assert.match(stderr, /order-1 is at revision 4, you expected 3/);
  assert.match(stderr, /Newest: OrderPlaced .* at position \d+/);
  assert.match(stderr, /Read from 4/);
});

test('4, not found: stream, file', async () => {
  for (const words of [['stream', 'read', 'absent'], ['stream', 'show', 'absent'], ['stream', 'delete', 'absent', '--yes'],
    ['import', 'absent.ndjson'], ['stream', 'append', 'a', 'A', '@absent.json'], ['export', '--stream', 'absent']]) {
    const { code, stderr } = await cli(words);
    assert.equal(code, 4, `${words.join(' ')}: ${stderr}`);
    assert.match(stderr, /absent/);
  }
});

test('5, denied; 6, unavailable; 7, corrupt; 1, what nobody expects', async () => {
  for (const [status, type, code] of [[403, 'denied', 5], [503, 'not-ready', 6], [507, 'disk-full', 6],
    [500, 'corrupt', 7], [500, 'fault', 1], [418, 'teapot', 1]]) {
    const other = await stub(status, { type: `urn:nilo:${type}`, title: 'T', detail: 'the detail', next: 'The next step' });
    const answer = await cli(['stream', 'show', 'a'], { url: other.url });
    other.close();
    assert.equal(answer.code, code, `${status} ${type}`);
    assert.match(answer.stderr, /the detail\n +The next step/);
  }
  const other = await stub(401, { type: 'urn:nilo:denied', title: 'T', detail: 'the detail', next: 'send a header' });
  const answer = await cli(['stream', 'show', 'a'], { url: other.url });
  other.close();
  assert.equal(answer.code, 5);
  assert.match(answer.stderr, /the detail\n +Log in: --login NAME/); // how here, not by hand
});

test('6: a server that is not there is said at once, with the next step', async () => {
  const began = Date.now();
  const { code, stderr } = await cli(['stream', 'ls', '--url', 'http://127.0.0.1:1']);
  assert.equal(code, 6);
  assert.match(stderr, /127\.0\.0\.1:1/);
  assert.match(stderr, /Start a server with `nilo`/);
  assert.ok(Date.now() - began < 5000);
});

test('a read that ends before its end is no success', async () => {
  const other = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.end('{"stream":"a","revision":0,"type":"A"}\n{"problem":{"type":"urn:nilo:corrupt","status":500,"detail":"file x, offset 7"}}\n');
  });
  await new Promise((done) => other.listen(0, '127.0.0.1', done));
  const { code, stdout, stderr } = await cli(['stream', 'read', 'a'], { url: `http://127.0.0.1:${other.address().port}` });
  other.closeAllConnections();
  other.close();
  assert.equal(code, 7);
  assert.equal(stdout.split('\n').length, 2);
  assert.match(stderr, /offset 7/);
});

test('an answer that cannot be written is a failure', () => {
  const { status, stderr } = spawnSync('sh', ['-c', '"$0" stream read order-1 > /dev/full', nilo],
    { env: { ...process.env, NILO_URL: url }, encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /cannot be written/);
});

test('a pipe that is closed early ends a command quietly', async () => {
  await append(url, 'long', Array.from({ length: 5000 }, (_, n) => ({ type: 'A', data: { n, text: 'x'.repeat(100) } })));
  for (const words of ['stream read long', "stream read '$all'", 'export', 'stream tail long --from start', 'stream ls', 'fact watch --from-oldest']) {
    const { status, stdout, stderr } = spawnSync('bash', ['-c', `"$0" ${words} | head -n 1; echo "\${PIPESTATUS[0]}"`, nilo],
      { env: { ...process.env, NILO_URL: url }, encoding: 'utf8', timeout: 20_000 });
    assert.equal(status, 0, words);
    assert.match(stdout, /^\{.*\}\n0\n$/, words);
    assert.equal(stderr, '', words);
  }
});

test('--url comes before NILO_URL', async () => {
  assert.equal((await cli(['stream', 'ls', '--url', url], { url: 'http://127.0.0.1:1' })).code, 0);
  assert.equal((await cli(['stream', 'ls', '--url', 'http://127.0.0.1:1'])).code, 6);
});
