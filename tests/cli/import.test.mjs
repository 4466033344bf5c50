// Import and export: whole, killed and taken up again. Nothing missing, nothing twice, in the order of the lines.

import assert from 'node:assert/strict';
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lastRevision, lines, readAll, run, start, until } from './helpers.mjs';

let server;
let url;
const here = temporaryDirectory('nilo-cli-import');
const cli = (args, options) => run(args, { url, cwd: here, ...options });

before(async () => {
  server = await startServer();
  url = server.url;
});
after(() => server?.stop());

const idOf = (n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
/** Lines of `count` events over `streams` streams whose names begin with `prefix`; event n has data {n}. */
const linesOf = (prefix, count, { streams = 7, ids = false, from = 0 } = {}) =>
  Array.from({ length: count }, (_, i) => from + i)
    .map((n) => JSON.stringify({ stream: `${prefix}-${n % streams}`, type: 'T', ...(ids ? { id: idOf(n) } : {}), data: { n, pad: 'x'.repeat(60) } }) + '\n')
    .join('');
const file = (name, text) => (writeFileSync(join(here, name), text), name);
const numbersOf = async (prefix) => (await readAll(url, null, `${prefix}-`)).map((event) => event.data.n);
const upTo = (count) => Array.from({ length: count }, (_, n) => n);

test('an import keeps the order of the lines, over streams too, and says what it did', async () => {
  const [said] = lines(await cli(['import', file('order.ndjson', linesOf('order', 5000, { streams: 1500 }))]));
  assert.deepEqual(said, { imported: 5000, known: 0, imported_before: 0, lines: 5000 });
  assert.deepEqual(await numbersOf('order'), upTo(5000));
});

test('an import of the same file again does nothing; of a grown one, the rest', async () => {
  file('grows.ndjson', linesOf('grows', 3000));
  assert.equal((await cli(['import', 'grows.ndjson'])).code, 0);
  const again = await cli(['import', 'grows.ndjson']);
  assert.equal(lines(again)[0].imported, 0);
  assert.match(again.stderr, /3000 lines were imported before/);
  appendFileSync(join(here, 'grows.ndjson'), linesOf('grows', 500, { from: 3000 }));
  assert.equal(lines(await cli(['import', 'grows.ndjson']))[0].imported, 500);
  assert.deepEqual(await numbersOf('grows'), upTo(3500));
});

test('an import killed again and again goes on: nothing missing, nothing twice', async () => {
  const count = 60_000;
  file('killed.ndjson', linesOf('killed', count));
  let kills = 0;
  const head = async () => Number((await fetch(`${url}/v1/all/events?direction=backward&limit=1`, { headers: { accept: 'application/x-ndjson' } })
    .then((answer) => answer.text())).match(/"position":(\d+)/)[1]);
  for (let round = 0; round < 6; round++) {
    const before = await head();
    const importing = start(['import', 'killed.ndjson', '--batch', '300'], { url, cwd: here });
    await Promise.race([importing.done, until(async () => (await head()) > before + 1500, 'progress')]);
    importing.child.kill('SIGKILL');
    kills += (await importing.done).signal === 'SIGKILL';
  }
  assert.ok(kills >= 3, `${kills} kills met an import under way`);
  const last = await cli(['import', 'killed.ndjson']);
  assert.equal(last.code, 0, last.stderr);
  assert.ok(lines(last)[0].imported_before > 0);
  assert.deepEqual(await numbersOf('killed'), upTo(count));
});

test('Ctrl-C ends an import between two batches and says how to go on', async () => {
  const count = 60_000;
  file('stopped.ndjson', linesOf('stopped', count, { streams: 3 }));
  const importing = start(['import', 'stopped.ndjson', '--batch', '100'], { url, cwd: here });
  await until(async () => (await lastRevision(url, 'stopped-0')) > 300, 'progress');
  importing.child.kill('SIGINT');
  const { code, stderr } = await importing.done;
  assert.equal(code, 1);
  assert.match(stderr, /stopped/);
  const done = Number(stderr.match(/(\d+) lines of stopped\.ndjson are imported: the same command goes on/)[1]);
  assert.ok(done > 0 && done < count);
  assert.equal((await numbersOf('stopped')).length, done);
  assert.equal(lines(await cli(['import', 'stopped.ndjson']))[0].imported, count - done);
  assert.deepEqual(await numbersOf('stopped'), upTo(count));
});

test('an import goes on by itself when the server is killed and started again', async () => {
  const data = temporaryDirectory('nilo-cli-restart');
  let other = await startServer({ data });
  const { port } = other;
  const count = 40_000;
  file('restart.ndjson', linesOf('restart', count));
  const importing = start(['import', 'restart.ndjson', '--batch', '200'], { url: other.url, cwd: here });
  for (let kills = 0; kills < 3; kills++) {
    const before = await lastRevision(other.url, 'restart-0');
    await until(async () => (await lastRevision(other.url, 'restart-0')) > before + 200, 'progress');
    await other.kill();
    other = await startServer({ data, port });
  }
  const { code, stderr } = await importing.done;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /trying again/);
  assert.deepEqual((await readAll(other.url)).map((event) => event.data.n), upTo(count));
  await other.stop();
});

test('two imports of one file at once: one of them says so, and everything is there once', async () => {
  const count = 15_000;
  file('twice.ndjson', linesOf('twice', count));
  const both = await Promise.all([cli(['import', 'twice.ndjson', '--batch', '100']), cli(['import', 'twice.ndjson', '--batch', '100'])]);
  for (const { code, stderr } of both) {
    assert.ok(code === 0 || code === 3, stderr);
    if (code === 3) assert.match(stderr, /another import of it is running/);
  }
  assert.equal((await cli(['import', 'twice.ndjson'])).code, 0);
  assert.deepEqual(await numbersOf('twice'), upTo(count));
});

test('a bad line is named; what stands before it is in; corrected, the import goes on', async () => {
  const good = linesOf('bad', 100);
  for (const [bad, why] of [['{"stream":"bad-0","type":"T"', /no JSON/], ['{"type":"T"}', /name of its stream/], ['{"stream":"bad-0"}', /needs a type/]]) {
    file('bad.ndjson', `${good}${bad}\n${linesOf('bad', 10, { from: 100 })}`);
    const { code, stderr } = await cli(['import', 'bad.ndjson']);
    assert.equal(code, 2);
    assert.match(stderr, /bad\.ndjson: line 101: /);
    assert.match(stderr, why);
    assert.deepEqual(await numbersOf('bad'), upTo(100));
  }
  file('bad.ndjson', `${good}\n${linesOf('bad', 10, { from: 100 })}`);
  assert.equal((await cli(['import', 'bad.ndjson'])).code, 0);
  assert.deepEqual(await numbersOf('bad'), upTo(110));
});

test('another file with the same name and first line is not taken for a known one', async () => {
  const first = linesOf('mixed', 1);
  file('mixed.ndjson', first + linesOf('mixed', 10, { from: 1 }));
  assert.equal((await cli(['import', 'mixed.ndjson'])).code, 0);
  file('mixed.ndjson', first + linesOf('mixed', 20, { from: 500 }));
  const refused = await cli(['import', 'mixed.ndjson']);
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /nilo import --name NAME mixed\.ndjson/);
  assert.equal((await numbersOf('mixed')).length, 11);
  assert.equal((await cli(['import', 'mixed.ndjson', '--name', 'other'])).code, 0);
  assert.equal((await numbersOf('mixed')).length, 32);
});

test('lines whose ids are there already are passed over, from whatever file they come', async () => {
  assert.equal((await cli(['import', file('ids-1.ndjson', linesOf('ids', 50, { ids: true }))])).code, 0);
  const [said] = lines(await cli(['import', file('ids-2.ndjson', linesOf('ids', 80, { ids: true }))]));
  assert.deepEqual(said, { imported: 30, known: 50, imported_before: 0, lines: 80 });
  assert.deepEqual(await numbersOf('ids'), upTo(80));
});

test('standard input is imported, and known again by its name', async () => {
  const input = linesOf('stdin', 100);
  assert.equal(lines(await cli(['import', '--name', 'my-input'], { input }))[0].imported, 100);
  assert.equal(lines(await cli(['import', '--name', 'my-input'], { input: input + linesOf('stdin', 5, { from: 100 }) }))[0].imported, 5);
  assert.equal(lines(await cli(['import', '-'], { input: linesOf('stdin-2', 10) }))[0].imported, 10);
  assert.equal(lines(await cli(['import'], { input: '' }))[0].imported, 0);
  assert.deepEqual(await numbersOf('stdin'), [...upTo(105), ...upTo(10)]);
});

test('what was exported is imported as it was: ids, types, data, metadata, order', async () => {
  const from = await startServer();
  await append(from.url, 'round-1', [{ type: 'A', data: { a: 1.5 }, metadata: { m: 1 } }, { type: 'B', data_base64: 'AQID' }]);
  await append(from.url, 'round-ü', [{ type: 'C', data: 'x\ny' }]);
  await append(from.url, 'round-1', [{ type: 'D' }]);
  const other = await startServer();
  assert.equal((await run(['export', '--output', 'round.ndjson'], { url: from.url, cwd: here })).code, 0);
  const imported = await run(['import', 'round.ndjson'], { url: other.url, cwd: here });
  assert.equal(imported.code, 0, imported.stderr);
  const bare = (events) => events.map(({ position, time, revision, ...rest }) => rest);
  assert.deepEqual(bare(await readAll(other.url)), bare(await readAll(from.url)));
  await Promise.all([from.stop(), other.stop()]);
});

// ---- export ----

test('export leaves system streams out unless they are asked for, and takes one stream', async () => {
  await append(url, 'round-1', [{ type: 'A' }, { type: 'B' }, { type: 'D' }]);
  assert.ok(lines(await cli(['export', '--limit', '1000'])).every((event) => !event.stream.startsWith('$')));
  assert.ok(lines(await cli(['export', '--system', '--limit', '1000'])).some((event) => event.stream.startsWith('$')));
  assert.deepEqual(lines(await cli(['export', '--stream', 'round-1'])).map((event) => event.type), ['A', 'B', 'D']);
  assert.deepEqual(lines(await cli(['export', '--stream', 'round-1', '--from', '1', '--limit', '1'])).map((event) => event.type), ['B']);
});

test('an export that was killed, or cut off in a line, goes on: the file is the same as of one that was not', async () => {
  assert.equal((await cli(['export', '--output', 'whole.ndjson'])).code, 0);
  const whole = readFileSync(join(here, 'whole.ndjson'));
  const path = join(here, 'part.ndjson');
  for (let round = 0; round < 4; round++) {
    const exporting = start(['export', '--output', 'part.ndjson'], { url, cwd: here });
    const before = existsSync(path) ? statSync(path).size : 0;
    await Promise.race([exporting.done, until(() => existsSync(path) && statSync(path).size > before + 500_000, 'progress')]);
    exporting.child.kill('SIGKILL');
    await exporting.done;
  }
  truncateSync(path, Math.min(statSync(path).size, whole.length) - 20); // in the middle of a line
  const last = await cli(['export', '--output', 'part.ndjson']);
  assert.equal(last.code, 0, last.stderr);
  assert.match(last.stderr, /going on from there/);
  assert.ok(readFileSync(path).equals(whole));
  await append(url, 'after-export', [{ type: 'A' }]);
  assert.equal((await cli(['export', '--output', 'part.ndjson'])).code, 0);
  const more = readFileSync(path);
  assert.ok(more.subarray(0, whole.length).equals(whole));
  assert.equal(JSON.parse(more.subarray(whole.length)).stream, 'after-export');
});

test('Ctrl-C ends an export and says where to go on', async () => {
  const slow = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    if (request.url.includes('direction=backward')) return response.end('{"stream":"a","position":99}\n');
    for (let position = 0; position < 5; position++) response.write(`{"stream":"a","position":${position}}\n`);
    return response; // and no end
  });
  await new Promise((done) => slow.listen(0, '127.0.0.1', done));
  const exporting = start(['export'], { url: `http://127.0.0.1:${slow.address().port}`, cwd: here });
  await new Promise((done) => setTimeout(done, 500));
  exporting.child.kill('SIGINT');
  const { code, stdout, stderr } = await exporting.done;
  slow.closeAllConnections();
  slow.close();
  assert.equal(code, 1);
  assert.equal(stdout.split('\n').length, 6);
  assert.match(stderr, /--from 5 goes on behind them/);
});

test('export does not write behind lines that are no export', async () => {
  const handle = openSync(join(here, 'letter.txt'), 'w');
  writeSync(handle, 'Dear Ada,\n');
  closeSync(handle);
  assert.equal((await cli(['export', '--output', 'letter.txt'])).code, 2);
  assert.equal(readFileSync(join(here, 'letter.txt'), 'utf8'), 'Dear Ada,\n');
});

test('progress is shown on a terminal only, with amount, rate and time left', async () => {
  const slow = http.createServer((request, response) => {
    if (request.method === 'GET') return response.writeHead(404).end('{}');
    return request.resume().on('end', () => setTimeout(() => response.writeHead(201).end('{}'), 120));
  });
  await new Promise((done) => slow.listen(0, '127.0.0.1', done));
  file('progress.ndjson', linesOf('progress', 12_000));
  const words = [['import', 'progress.ndjson', '--batch', '1000'], { url: `http://127.0.0.1:${slow.address().port}`, cwd: here }];
  const shown = (await run(words[0], { ...words[1], terminal: true })).stdout;
  assert.match(shown, /import \[#+-+\] +\d+ % +[\d ]+ events +[\d ]+ events\/s +\d+ s left/);
  assert.match(shown, /12 000 events imported\r\n$/);
  assert.doesNotMatch((await run([...words[0], '-q'], { ...words[1], terminal: true })).stdout, /left/);
  assert.equal((await run(...words)).stderr, '');
  slow.closeAllConnections();
  slow.close();
});
