// `stream tail`: history, then live, across restarts of the server, without a gap or a repeat (G10).

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, onTerminal, run, start, until } from './helpers.mjs';

const events = (from, count) => Array.from({ length: count }, (_, i) => ({ type: 'T', data: { n: from + i } }));
const numbers = (text) => lines({ stdout: text }).map((event) => event.data.n);
const upTo = (count) => Array.from({ length: count }, (_, n) => n);

test('tail of a stream goes on across an orderly stop and a kill', async () => {
  const data = temporaryDirectory('nilo-cli-tail');
  let server = await startServer({ data });
  const { port } = server;
  await append(server.url, 'followed-1', events(0, 30));
  const tail = start(['stream', 'tail', 'followed-1', '--from', 'start'], { url: server.url });
  const all = start(['stream', 'tail', '$all', '--from', 'start', '--stream-prefix', 'followed-'], { url: server.url });
  let count = 30;
  for (const end of ['stop', 'kill', 'stop']) {
    await append(server.url, 'followed-1', events(count, 20));
    count += 20;
    await until(() => numbers(tail.stdout()).length === count, `${count} events before the ${end}`);
    await append(server.url, 'followed-1', events(count, 20)); // while it may already go down
    count += 20;
    await server[end]();
    server = await startServer({ data, port });
    await append(server.url, 'followed-1', events(count, 20));
    count += 20;
  }
  await until(() => numbers(tail.stdout()).length >= count && numbers(all.stdout()).length >= count, 'everything');
  for (const following of [tail, all]) {
    following.child.kill('SIGINT');
    const { code, stdout, stderr } = await following.done;
    assert.equal(code, 0);
    assert.deepEqual(numbers(stdout), upTo(count));
    assert.match(stderr, /connection lost .*nothing will be missed/);
    assert.match(stderr, /to go on: nilo stream tail '.*' --from \d+/);
  }
  await server.stop();
});

test('what Ctrl-C says goes on exactly behind what was shown', async () => {
  const server = await startServer();
  await append(server.url, 'a', events(0, 15));
  const first = start(['stream', 'tail', 'a', '--last', '4'], { url: server.url });
  await until(() => numbers(first.stdout()).length === 4, 'four events');
  first.child.kill('SIGINT');
  const ended = await first.done;
  assert.deepEqual(numbers(ended.stdout), [11, 12, 13, 14]);
  const from = ended.stderr.match(/--from (\d+)/)[1];
  await append(server.url, 'a', events(15, 3));
  assert.deepEqual(numbers((await run(['stream', 'tail', 'a', '--from', from, '--limit', '3'], { url: server.url })).stdout), [15, 16, 17]);
  await server.stop();
});

test('tail begins with the last ten, and waits for a stream that is not there yet', async () => {
  const server = await startServer();
  await append(server.url, 'b', events(0, 25));
  assert.deepEqual(numbers((await run(['stream', 'tail', 'b', '--limit', '10'], { url: server.url })).stdout), upTo(25).slice(15));
  const waiting = start(['stream', 'tail', 'later', '--limit', '2'], { url: server.url });
  const fromEnd = start(['stream', 'tail', '$all', '--from', 'end', '--limit', '2'], { url: server.url });
  await new Promise((done) => setTimeout(done, 500));
  await append(server.url, 'later', events(0, 2));
  assert.deepEqual(numbers((await waiting.done).stdout), [0, 1]);
  assert.deepEqual(lines(await fromEnd.done).map((event) => event.stream), ['later', 'later']);
  await server.stop();
});

test('tail from the end of everything keeps its place when the server is gone before anything came', async () => {
  const data = temporaryDirectory('nilo-cli-tail-end');
  let server = await startServer({ data });
  const { port } = server;
  await append(server.url, 'c', events(0, 5));
  const tail = start(['stream', 'tail', 'c', '--from', 'end', '--limit', '2'], { url: server.url });
  await new Promise((done) => setTimeout(done, 700));
  await server.stop();
  server = await startServer({ data, port });
  await append(server.url, 'c', events(5, 2));
  assert.deepEqual(numbers((await tail.done).stdout), [5, 6]);
  await server.stop();
});

test('tail ends with a word when the stream is deleted for good, and shows a table on a terminal', async () => {
  const server = await startServer();
  await append(server.url, 'd', events(0, 2));
  const { text } = await onTerminal(['stream', 'tail', 'd', '--limit', '2'], { url: server.url });
  assert.match(text, /^REVISION +TYPE +TIME +DATA\n0 +T .*\n1 +T .*\n$/);
  const tail = start(['stream', 'tail', 'd'], { url: server.url });
  await until(() => numbers(tail.stdout()).length === 2, 'history');
  assert.equal((await run(['stream', 'delete', 'd', '--tombstone', '--yes'], { url: server.url })).code, 0);
  const { code, stderr } = await tail.done;
  assert.equal(code, 4, stderr);
  assert.match(stderr, /no event will ever follow/);
  await server.stop();
});
