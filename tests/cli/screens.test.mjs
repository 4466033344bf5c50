// What people see on a terminal of a fixed size: the live screen, trees, reports and progress. The terminal of screen.py is a
// strict one: what would wrap, scroll away or is no sequence that it knows fails the test.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { freePort } from '../lib/cluster.mjs';
import { nilo, startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, root, run, start, until } from './helpers.mjs';

const UTF8 = { LC_ALL: 'C.UTF-8', NO_COLOR: '1' };
const ASCII = { LC_ALL: 'C', NO_COLOR: '1' };

/** Runs a command on a terminal; gives { shots, code, is_restored }. Anything that the terminal did not like fails. */
async function onScreen(args, steps, { url, columns = 80, rows = 24, env = UTF8 } = {}) {
  const wish = JSON.stringify({ command: [nilo, ...args], columns, rows, steps });
  const { code, stdout, stderr } = await run([join(root, 'tests/cli/screen.py'), wish], { command: 'python3', url, env });
  assert.equal(code, 0, stderr);
  const answer = JSON.parse(stdout);
  const text = JSON.stringify(answer, null, 1);
  assert.deepEqual(answer.problems, [], text);
  assert.ok(answer.is_restored, text);
  assert.equal(answer.shots.end.is_alternate, false);
  assert.equal(answer.shots.end.has_cursor, true);
  assert.equal(answer.shots.end.style, '');
  return answer;
}
const textOf = (shot) => shot.rows.join('\n').trimEnd();
const isAscii = (text) => /^[\x20-\x7e\n]*$/.test(text);

/** Appends until it is told to stop, so that there is something to see. */
function load(url) {
  let goesOn = true;
  const done = (async () => {
    for (let n = 0; goesOn; n++) {
      await append(url, `order-${n % 5}`, [{ type: 'OrderPlaced', data: { n } }]).catch(() => {});
      await new Promise((ready) => setTimeout(ready, 5));
    }
  })();
  return async () => {
    goesOn = false;
    await done;
  };
}

// Mostly waiting, so several at a time.
describe('screens', { concurrency: 4 }, () => {
// ---- top ----

test('top shows a server live, pauses, sorts, changes its size, and leaves the terminal as it was', async () => {
  const server = await startServer();
  assert.equal((await run(['sub', 'create', '$all', 'billing', '--type', 'OrderPlaced'], { url: server.url })).code, 0);
  const stop = load(server.url);
  const { shots, code } = await onScreen(['top', '--interval', '0.2'], [
    { until: 'appends +[1-9][0-9.]*/s' },
    { until: 'GROUP +STREAM +LAG' },
    { wait: 1 },
    { shot: 'live' },
    { type: 'p' },
    { until: 'PAUSED' },
    { shot: 'paused' },
    { wait: 0.6 },
    { shot: 'still paused' },
    { type: 's' },
    { until: 'sorted by age' },
    { type: ' ' },
    { wait: 0.5 },
    { resize: [50, 12] },
    { wait: 0.5 },
    { shot: 'small' },
    { resize: [120, 40] },
    { wait: 0.5 },
    { shot: 'large' },
    { type: 'q' },
  ], { url: server.url });
  await stop();
  assert.equal(code, 0);
  const live = textOf(shots.live);
  assert.ok(shots.live.is_alternate && !shots.live.has_cursor && !shots.live.has_styles);
  assert.match(shots.live.rows[0], /^ nilo top  http:\/\/127\.0\.0\.1:\d+  Leader, term \d+, up [\d.]+ s +\d\d:\d\d:\d\d$/);
  assert.match(live, /^appends +[\d. ]+\/s  +[▁▂▃▄▅▆▇█ ]+  max [\d. ]+\/s$/m);
  assert.match(live, /^disk sync +(-|[\d.]+ ms) /m);
  assert.match(live, /worst lag \d/);
  assert.match(live, /memory [\d.]+ MiB   log /);
  assert.match(live, /^billing +\$all +\d+ +[\d.]+ s +0 +0 +0$/m);
  assert.match(shots.live.rows[23], /^q quit {2}p pause {2}s sorted by lag {2}every 0\.2 s$/);
  assert.deepEqual(shots.paused.rows, shots['still paused'].rows);
  assert.equal(shots.small.rows.length, 12);
  assert.match(shots.small.rows[11], /^q quit {2}p pause {2}s sorted by age/);
  assert.match(shots.large.rows[39], /^q quit/);
  assert.match(textOf(shots.large), /^billing /m);
  await server.stop();
});

test('top gives the terminal back however it ends, and Ctrl-Z and back', async () => {
  const server = await startServer();
  for (const [how, code] of [['SIGINT', 0], ['SIGTERM', 0], ['SIGHUP', 0], ['SIGQUIT', 0], ['SIGSEGV', 'signal 11'], ['SIGABRT', 'signal 6']]) {
    const answer = await onScreen(['top'], [{ until: 'q quit' }, { signal: how }], { url: server.url });
    assert.equal(answer.code, code, how);
  }
  const typed = await onScreen(['top'], [{ until: 'q quit' }, { type: '\u0003' }], { url: server.url });
  assert.equal(typed.code, 0);
  const { shots } = await onScreen(['top'], [
    { until: 'q quit' },
    { type: '\u001a' },
    { wait: 0.3 },
    { shot: 'stopped' },
    { signal: 'SIGCONT' },
    { until: 'q quit' },
    { shot: 'back' },
    { type: 'q' },
  ], { url: server.url });
  assert.ok(!shots.stopped.is_alternate && shots.stopped.has_cursor);
  assert.ok(shots.back.is_alternate && !shots.back.has_cursor);
  await server.stop();
});

test('top goes on without its server, says so, and shows it again when it is back', async () => {
  const data = temporaryDirectory('nilo-top');
  let server = await startServer({ data });
  const { port, url } = server;
  const seen = start([join(root, 'tests/cli/screen.py'), JSON.stringify({
    command: [nilo, 'top', '--interval', '0.2'],
    steps: [{ until: 'appends' }, { until: 'not reached' }, { shot: 'gone' }, { until: 'Leader, term' }, { shot: 'back' }, { type: 'q' }],
  })], { command: 'python3', url, env: UTF8 });
  const asked = async () => Number((await (await fetch(`${url}/metrics`)).text()).match(/^nilo_http_requests_total (\d+)$/m)[1]);
  const before = await asked();
  let looks = 1;
  await until(async () => (await asked()) > before + looks++ + 3, 'top has asked some times');
  await server.kill();
  await new Promise((done) => setTimeout(done, 1000));
  server = await startServer({ data, port });
  const answer = JSON.parse((await seen.done).stdout);
  assert.deepEqual([answer.code, answer.problems, answer.is_restored], [0, [], true]);
  assert.match(textOf(answer.shots.gone), /these are its last numbers: .*(refused|Failed to connect|connect)/);
  await server.stop();
});

test('top without colours, without UTF-8, in a pipe, once, and where there is no server', async () => {
  const server = await startServer();
  const plain = await onScreen(['top', '--interval', '0.2'], [{ wait: 1 }, { shot: 'plain' }, { type: 'q' }], { url: server.url, env: ASCII });
  assert.ok(isAscii(textOf(plain.shots.plain)), textOf(plain.shots.plain));
  const coloured = await onScreen(['top', '--interval', '0.2'], [{ until: 'q quit' }, { shot: 'coloured' }, { type: 'q' }], { url: server.url, env: { ...UTF8, NO_COLOR: '' } });
  assert.ok(coloured.shots.coloured.has_styles);
  const once = await onScreen(['top', '--once', '--interval', '0.3'], [], { url: server.url });
  assert.equal(once.code, 0);
  assert.equal(once.shots.end.wraps, 0);
  assert.match(textOf(once.shots.end), /^ nilo top .*\nappends /);
  const piped = lines(await run(['top', '--limit', '2', '--interval', '0.2'], { url: server.url }));
  assert.equal(piped.length, 2);
  assert.equal(piped[0].nodes[0].state, 'Leader');
  assert.ok(piped[1].nodes[0].http_requests_per_second > 0);
  assert.equal(piped[1].nodes[0].disk_full, 0);
  for (const [name, value] of Object.entries(piped[1].nodes[0])) assert.notEqual(value, null, `${name} has no producer`);
  const dumb = await onScreen(['top'], [], { url: server.url, env: { ...UTF8, TERM: 'dumb' } });
  assert.equal(dumb.code, 2);
  assert.match(textOf(dumb.shots.end), /a live screen needs a terminal: --once/);
  await server.stop();
  const nobody = await run(['top', '--once'], { url: server.url });
  assert.equal(nobody.code, 6);
  assert.match(nobody.stderr, /Start a server with `nilo`/);
});

/** Three nodes; it needs six ports, of which another test may have one. */
async function startDemo() {
  for (let tries = 1; ; tries++) {
    const demo = start(['cluster', 'demo', '--data', join(temporaryDirectory(), 'demo'), '--port', String(await freePort())]);
    await until(() => demo.stdout().includes('\n') || demo.child.exitCode !== null, 'it says where they are');
    if (demo.stdout().includes('\n')) return { demo, ...JSON.parse(demo.stdout().split('\n')[0]) };
    assert.ok(tries < 5, demo.stderr());
  }
}

test('top of a cluster shows every node, and the loss of one', async () => {
  const { demo, nodes } = await startDemo();
  await append(nodes[0].url, 'a', [{ type: 'A', data: {} }]);
  const { shots, code } = await onScreen(['top', '--interval', '0.3'], [
    { until: '3 nodes, leader node \\d, term \\d' },
    { until: '3 +Follower|3 +Leader' },
    { wait: 1 },
    { shot: 'all' },
    { type: 'n' },
    { wait: 0.2 },
    { shot: 'next' },
    { type: 'q' },
  ], { url: nodes[1].url });
  assert.equal(code, 0);
  const all = textOf(shots.all);
  assert.match(all, /^ {2}NODE +STATE +APPENDS\/S +EVENTS\/S +READ\/S +CONNS +SYNC +MEMORY$/m);
  assert.equal([...all.matchAll(/^[> ] \d +(Leader|Follower) /gm)].length, 3, all);
  assert.match(all, /^> \d +Leader /m);
  assert.match(textOf(shots.next), /^> \d +Follower /m);
  const [sample] = lines(await run(['top', '--once'], { url: nodes[1].url }));
  assert.deepEqual(sample.nodes.map(({ state }) => state).sort(), ['Follower', 'Follower', 'Leader']);
  demo.child.kill('SIGINT');
  await demo.done;
});

// ---- trace and find ----

const CORRELATION = '6f1c2a4e-9d0b-4c55-8a53-0e9a3a6b7c01';
const idOf = (n) => `0f8fad5b-d9cb-469f-a165-7086772895${String(n).padStart(2, '0')}`;

/** An order, from the cart to the mail, with some noise in between. */
async function order(url) {
  const step = (n, stream, type, data, metadata) => append(url, stream, [{ id: idOf(n), type, data, metadata }]);
  const by = (n) => ({ $correlationId: CORRELATION, ...(n === undefined ? {} : { $causationId: idOf(n) }) });
  await step(0, 'cart-7', 'CartCheckedOut', { total: 12 }, by());
  await step(1, 'order-42', 'OrderPlaced', { total: 12, customer: { id: 7 } }, by(0));
  await step(2, 'payment-9', 'PaymentRequested', { amount: 12 }, by(1));
  await step(3, 'stock-3', 'StockReserved', { sku: 'x' }, by(1));
  await step(20, 'noise-1', 'Noise', {}, { correlation_id: 'other', causation_id: 'gone-1' });
  await step(4, 'payment-9', 'PaymentReceived', { amount: 12.5 }, by(2));
  await step(5, 'order-42', 'OrderPaid', { by: 'card' }, by(4));
  await step(6, 'mail-1', 'MailSent', { to: 'ada' }, { causation_id: idOf(5) });
}

test('trace shows the tree of an event however it is named', async () => {
  const server = await startServer();
  await order(server.url);
  const pages = [];
  for (const which of ['order-42@0', idOf(6), idOf(6).toUpperCase(), CORRELATION, '1']) {
    const { shots, code } = await onScreen(['event', 'trace', which], [], { url: server.url });
    assert.equal(code, 0);
    assert.equal(shots.end.wraps, 0);
    pages.push(textOf(shots.end));
  }
  const expected = `7 events of 5 streams within TIME
correlation ${CORRELATION}

      AFTER  POSITION  EVENT                       STREAM@REVISION
      TIME         1  CartCheckedOut              cart-7@0
      TIME         2  └─ OrderPlaced *            order-42@0
      TIME         3     ├─ PaymentRequested      payment-9@0
      TIME         6     │  └─ PaymentReceived    payment-9@1
      TIME         7     │     └─ OrderPaid       order-42@1
      TIME         8     │        └─ MailSent     mail-1@0
      TIME         4     └─ StockReserved         stock-3@0`;
  const timeless = (page) => page.replaceAll(/ *\+[\d.]+ m?s  /g, '      TIME').replace(/within [\d.]+ m?s/, 'within TIME');
  const wanted = expected.replaceAll(/ *TIME  /g, '      TIME');
  assert.equal(timeless(pages[0]), wanted);
  const unmarked = (page) => timeless(page).replaceAll(' *', '').replaceAll(/ +/g, ' ');
  for (const page of pages) assert.equal(unmarked(page), wanted.replaceAll(' *', '').replaceAll(/ +/g, ' '));
  const ascii = await onScreen(['event', 'trace', 'order-42@0'], [], { url: server.url, env: ASCII, columns: 60 });
  assert.ok(isAscii(textOf(ascii.shots.end)));
  assert.match(textOf(ascii.shots.end), /\|- PaymentR/);
  await server.stop();
});

test('trace in a pipe, of what has no cause here, and what was not looked at', async () => {
  const server = await startServer();
  await order(server.url);
  const answer = lines(await run(['event', 'trace', 'order-42@1'], { url: server.url }));
  const { summary } = answer.pop();
  assert.deepEqual(summary, { events: 7, correlation: CORRELATION, looked_at: summary.looked_at, partial: false });
  assert.deepEqual(answer.map(({ depth, cause, event }) => [depth, cause, event.type]), [
    [0, null, 'CartCheckedOut'], [1, 1, 'OrderPlaced'], [2, 2, 'PaymentRequested'], [3, 3, 'PaymentReceived'],
    [4, 6, 'OrderPaid'], [5, 7, 'MailSent'], [2, 2, 'StockReserved'],
  ]);
  const noise = await run(['event', 'trace', 'other'], { url: server.url });
  assert.equal(noise.code, 0);
  assert.match(noise.stderr, /the cause of noise-1@0 was not found: gone-1/);
  const partial = await run(['event', 'trace', 'order-42@1', '--scan', '2'], { url: server.url });
  assert.equal(partial.code, 0);
  assert.match(partial.stderr, /partial: \d+ events were looked at; --scan N looks at more/);
  assert.equal(lines(partial).at(-1).summary.partial, true);
  const full = await run(['event', 'trace', 'order-42@1', '--limit', '2'], { url: server.url });
  assert.match(full.stderr, /there are more than these 2 events/);
  const nobody = await run(['event', 'trace', 'nobody'], { url: server.url });
  assert.equal(nobody.code, 4);
  assert.match(nobody.stderr, /no event has the id, correlation or cause nobody among the 9 newest events/);
  assert.equal((await run(['event', 'trace', 'order-42@9'], { url: server.url })).code, 4);
  await server.stop();
});

test('find looks for types, streams and fields, newest first, and says how to go on', async () => {
  const server = await startServer();
  await order(server.url);
  const find = (...args) => run(['event', 'find', ...args], { url: server.url });
  const types = async (...args) => lines(await find(...args)).map(({ type }) => type);
  assert.deepEqual(await types('--type', 'OrderPaid'), ['OrderPaid']);
  assert.deepEqual(await types('--type', 'Order'), []); // the whole type
  assert.deepEqual(await types('total=12'), ['OrderPlaced', 'CartCheckedOut']);
  assert.deepEqual(await types('--data', 'total=12.0', 'customer.id=7'), ['OrderPlaced']);
  assert.deepEqual(await types('--stream-prefix', 'payment-', '--type', 'PaymentReceived'), ['PaymentReceived']);
  assert.deepEqual(await types('--metadata', `$causationId=${idOf(1)}`), ['StockReserved', 'PaymentRequested']);
  assert.deepEqual(await types('--since', '1h', '--type', 'MailSent'), ['MailSent']);
  const first = await find('total=12', '--limit', '1');
  const from = first.stderr.match(/--from (\d+) goes on/)[1];
  assert.deepEqual(await types('total=12', '--from', from), ['CartCheckedOut']);
  const bounded = await find('total=12', '--scan', '3');
  assert.equal(bounded.code, 4);
  assert.match(bounded.stderr, /3 events were looked at, newest first; --from 5 goes on/);
  assert.equal((await find('total')).code, 2);
  assert.equal((await find('--since', 'soon')).code, 2);
  assert.equal((await find('nothing=1')).code, 4);
  await server.stop();
});

// ---- bench ----

test('bench shows progress, reports, and deletes only what it wrote', async () => {
  const server = await startServer();
  await append(server.url, 'mine', [{ type: 'A', data: {} }]);
  const { shots, code } = await onScreen(['bench', 'append', '--seconds', '3', '--writers', '3'], [
    { wait: 2 },
    { shot: 'progress' },
    { until: 'y/N' },
    { shot: 'report' },
    { type: 'y\n' },
  ], { url: server.url });
  assert.equal(code, 0);
  assert.match(textOf(shots.progress), /^append \[#+-+\] +\d+ % +[\d ]+ events +[\d ]+ events\/s +\d+ s left$/m);
  const report = textOf(shots.report);
  assert.match(report, /^writes into 3 streams nilo-bench-[0-9a-f]{8}-\*, and nowhere else\nappend, closed loop: 3 writers, each waits for its answer\n1 event of 256 B a call, 3 streams, 3\.\d s\n/);
  assert.match(report, /^appends +[\d ]+ +[\d ]+\/s$/m);
  assert.match(report, /^TIME +p50 +p90 +p99 +p99\.9 +max +mean$/m);
  assert.match(textOf(shots.end), /3 streams nilo-bench-[0-9a-f]{8}-\* were deleted$/);
  const left = lines(await run(['stream', 'ls'], { url: server.url })).map(({ name, stream }) => name ?? stream);
  assert.deepEqual(left, ['mine']);
  await server.stop();
});

test('bench in an open loop and of reads and followers, for programs', async () => {
  const server = await startServer();
  const bench = async (...args) => {
    const answer = await run(['bench', ...args, '--seconds', '1', '--keep'], { url: server.url });
    assert.equal(answer.code, 0, answer.stderr);
    assert.match(answer.stderr, /stay; --delete would have deleted them/);
    return lines(answer)[0];
  };
  const open = await bench('append', '--rate', '100', '--writers', '2', '--batch', '5');
  assert.deepEqual([open.loop, open.batch, open.failed], ['open', 5, 0]);
  assert.ok(open.events + 5 * open.unsent >= 95 && open.events <= 105, JSON.stringify(open));
  assert.ok(open.append_us.p50 > 0 && open.append_us.p50 <= open.append_us.p99 && open.append_us.p99 <= open.append_us.max);
  const stored = lines(await run(['stream', 'ls', open.stream_prefix], { url: server.url }));
  assert.equal(stored.length, 2);
  const read = await bench('read', '--readers', '2', '--events', '200', '--batch', '10', '--streams', '4');
  assert.deepEqual([read.streams, read.failed, read.events], [4, 0, read.calls * 10]);
  const follow = await bench('follow', '--writers', '2', '--followers', '3', '--rate', '50');
  assert.deepEqual([follow.missing, follow.failed], [0, 0]);
  assert.equal(follow.delivered, follow.events * 3);
  await server.stop();
  const nobody = await run(['bench', 'append', '--seconds', '1'], { url: server.url });
  assert.equal(nobody.code, 6);
  assert.equal((await run(['bench', 'append', '--writers', '0'], { url: server.url })).code, 2);
});

test('bench stopped by Ctrl-C reports what there was', async () => {
  const server = await startServer();
  const { shots, code } = await onScreen(['bench', 'append', '--seconds', '60', '--writers', '2', '--delete'], [
    { until: 'append \\[' },
    { signal: 'SIGINT' },
  ], { url: server.url });
  assert.equal(code, 0);
  assert.match(textOf(shots.end), /^appends +[\d ]+/m);
  assert.match(textOf(shots.end), /were deleted$/);
  await server.stop();
});

// ---- doctor ----

test('what doctor says fits the terminal, in colours and without', async () => {
  const server = await startServer();
  const { shots } = await onScreen(['doctor'], [], { url: server.url, rows: 60 });
  const page = textOf(shots.end);
  assert.equal(shots.end.wraps, 0, page);
  assert.ok(!shots.end.has_styles);
  assert.match(page, /^memory +ok /m);
  assert.match(page, /\d+ ok, /);
  const ascii = await onScreen(['doctor'], [], { url: server.url, rows: 60, env: ASCII });
  assert.ok(isAscii(textOf(ascii.shots.end)), textOf(ascii.shots.end));
  await server.stop();
});

// ---- progress of long work ----

test('progress never wraps, on a narrow terminal either', async () => {
  const server = await startServer();
  for (const columns of [80, 40, 24]) {
    const { shots } = await onScreen(['bench', 'append', '--seconds', '2', '--writers', '1', '--keep'], [{ until: 'append  *[[0-9]' }, { wait: 0.4 }, { shot: 'during' }], { url: server.url, columns });
    if (columns >= 80) assert.equal(shots.end.wraps, 0, textOf(shots.end));
    assert.equal(shots.during.rows.filter((row) => /^append /.test(row)).length, 1, textOf(shots.during));
  }
  await server.stop();
});
});
