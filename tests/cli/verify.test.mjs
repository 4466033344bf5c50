// `verify`: good, damaged, used and absent data directories (G14).

import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, onTerminal, run } from './helpers.mjs';

/** A data directory with some sealed segments, at rest. */
async function filled() {
  const data = temporaryDirectory('nilo-cli-verify');
  const server = await startServer({ data, args: ['--segment-size', '1MiB'] });
  const text = 'x'.repeat(1000);
  for (let batch = 0; batch < 12; batch++)
    await append(server.url, `s-${batch % 3}`, Array.from({ length: 300 }, (_, n) => ({ type: 'T', data: { n, text } })));
  await server.stop();
  return data;
}

const files = (data, ending) => readdirSync(data, { recursive: true }).filter((name) => name.endsWith(ending)).sort().map((name) => join(data, name));

function flip(path, offset) {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, offset);
  byte[0] ^= 1;
  writeSync(file, byte, 0, 1, offset);
  closeSync(file);
}

test('good data: exit code 0, in both forms', async () => {
  const data = await filled();
  const [summary, ...rest] = lines(await run(['verify', data]));
  assert.equal(rest.length, 0);
  assert.equal(summary.findings, 0);
  assert.ok(summary.bytes > 3_000_000);
  const { code, text } = await onTerminal(['verify', data]);
  assert.equal(code, 0);
  assert.match(text, /: \d+\.\d MiB checked, nothing is damaged\n$/);
});

test('a flipped bit anywhere in a sealed segment: exit code 7, file and offset', async () => {
  const data = await filled();
  const [segment] = files(data, '.seg');
  flip(segment, Math.floor(statSync(segment).size / 2));
  const answer = await run(['verify', data]);
  assert.equal(answer.code, 7, answer.stderr);
  const findings = lines(answer).filter((line) => line.problem);
  assert.ok(findings.length >= 1);
  assert.ok(segment.endsWith(findings[0].file) || findings[0].file.endsWith(segment.split('/').at(-1)), findings[0].file);
  assert.equal(typeof findings[0].offset, 'number');
  const { code, text } = await onTerminal(['verify', data]);
  assert.equal(code, 7);
  assert.match(text, /FILE +OFFSET +PROBLEM\n/);
  assert.match(text, /Keep the directory as it is/);
});

test('data in use: exit code 6 and what to do; the server goes on', async () => {
  const data = temporaryDirectory('nilo-cli-used');
  const server = await startServer({ data });
  const { code, stderr } = await run(['verify', data]);
  assert.equal(code, 6, stderr);
  assert.match(stderr, /Stop the server first/);
  await append(server.url, 'a', [{ type: 'A' }]);
  await server.stop();
});

test('no data: exit code 4; the directory comes from NILO_DATA too', async () => {
  const empty = temporaryDirectory('nilo-cli-empty');
  const absent = join(empty, 'absent');
  const { code, stderr } = await run(['verify', absent]);
  assert.equal(code, 4, stderr);
  assert.match(stderr, /absent/);
  assert.equal((await run(['verify'], { env: { NILO_DATA: absent } })).code, 4);
  assert.equal((await run(['verify'], { cwd: empty })).code, 4);
  assert.deepEqual(readdirSync(empty), [], 'verify makes nothing');
});
