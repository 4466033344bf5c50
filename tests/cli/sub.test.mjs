// Durable subscriptions from the command line: define, consume, park, replay, seek; what is asked before something goes.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { nilo, startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, onTerminal, run, start, until } from './helpers.mjs';

let server;
let url;
const here = temporaryDirectory('nilo-sub');
const cli = (args, options) => run(['sub', ...args], { url, cwd: here, ...options });
const tty = (args, options) => onTerminal(['sub', ...args], { url, cwd: here, ...options });
const show = async (stream, group) => lines(await cli(['show', stream, group]))[0];
const events = (count, type = 'T', first = 0) => Array.from({ length: count }, (_, i) => ({ type, data: { n: first + i } }));
const numbers = (answer) => lines(answer).map((event) => event.data.n);

async function works(args, options) {
  const answer = await cli(args, options);
  assert.equal(answer.code, 0, answer.stderr);
  return answer;
}

before(async () => {
  server = await startServer();
  url = server.url;
  await until(async () => (await cli(['ls'])).code === 0, 'subscriptions are served');
});
after(() => server?.stop());

// ---- definitions ----

test('create, show, update and delete, in both forms', async () => {
  const [made] = lines(await works(['create', 'define-1', 'g', '--from', '3', '--max-retries', '2', '--strategy', 'DispatchToSingle']));
  assert.deepEqual([made.stream, made.group, made.definition.from, made.definition.settings.max_retry_count], ['define-1', 'g', 3, 2]);
  assert.equal(made.definition.settings.strategy, 'DispatchToSingle');
  const again = await cli(['create', 'define-1', 'g']);
  assert.equal(again.code, 3);
  assert.match(again.stderr, /group 'g' of define-1\n.*nilo sub update/);
  // What is not named stays.
  const [updated] = lines(await works(['update', 'define-1', 'g', '--timeout-ms', '1234']));
  assert.equal(updated.definition.settings.message_timeout_ms, 1234);
  assert.equal(updated.definition.settings.max_retry_count, 2);
  assert.equal(updated.definition.settings.strategy, 'DispatchToSingle');
  assert.equal(updated.definition.from, 3);
  const shown = await tty(['show', 'define-1', 'g']);
  assert.equal(shown.code, 0);
  assert.match(shown.text, /^FIELD +VALUE\n/);
  assert.match(shown.text, /\nsettings\.max_retry_count +2\n/);
  assert.match(shown.text, /\nselector +\{"kind":"stream","stream":"define-1"\}/);
  assert.match((await tty(['update', 'define-1', 'g', '--resolve-links'])).text, /^g of define-1 is updated\n$/);
  assert.equal((await show('define-1', 'g')).definition.settings.resolve_links, true);
  assert.equal((await cli(['show', 'define-1', 'other'])).code, 4);
  assert.equal((await cli(['update', 'define-1', 'other'])).code, 4);
});

test('every kind of selection can be made', async () => {
  const kinds = {
    type: [['--type', 'A,B'], { kind: 'type', types: ['A', 'B'] }],
    prefix: [['--prefix', 'a-,b-'], { kind: 'prefix', prefixes: ['a-', 'b-'] }],
    match: [['--match', '{"type":"A","metadata":{"user":"ada"}}'], { kind: 'pattern' }],
    payload: [['--payload', '{"total":12345678901234567890.5}'], { kind: 'payload' }],
    selector: [['--selector', '{"kind":"filter","target":"stream","regex":"^a"}'], { kind: 'filter' }],
    all: [[], { kind: 'all' }],
  };
  for (const [group, [flags, wanted]] of Object.entries(kinds)) {
    const answer = await works(['create', '$all', `kind-${group}`, ...flags]);
    const { selector } = lines(answer)[0].definition;
    for (const [key, value] of Object.entries(wanted)) assert.deepEqual(selector[key], value, group);
    if (group === 'payload') assert.ok(answer.stdout.includes('12345678901234567890.5')); // numbers stay exact
  }
});

test('what makes no sense is refused before anything is sent', async () => {
  const refused = [
    [['create', '$all', 'g', '--type', 'A', '--prefix', 'b'], /one of them/],
    [['create', '$all', 'g', '--payload', '{"a":'], /--payload: column/],
    [['create', 's', 'g', '--from', 'x'], /--from: "x"/],
    [['create', 's', 'g', '--settings', '[]'], /object/],
    [['create', 's', 'g', '--topic', '--webhook', 'http://x'], /one place/],
    [['create', 's'], /usage: nilo sub create STREAM GROUP/],
    [['seek', 's', 'g', 'x'], /"x" is no number/],
    [['replay', 's', 'g', '--only', '1', '--stop-at', '2'], /give one of them/],
    [['read', 's', 'g', '--nack', 'eat'], /none of retry, park, skip and stop/],
    [['read', 's', 'g', '--reason', 'x'], /goes with --nack/],
    [['read', 's', 'g', '--window', '0'], /--window/],
    [['raed', 's', 'g'], /nearest is "sub read"/],
  ];
  for (const [args, message] of refused) {
    const { code, stderr, stdout } = await cli(args);
    assert.equal(code, 2, `${args}: ${stderr}`);
    assert.match(stderr, message);
    assert.equal(stdout, '');
  }
  const { code, stderr } = await cli(['create', 's', 'g', '--settings', '{"colour":1}']);
  assert.equal(code, 2);
  assert.match(stderr, /colour/);
});

test('ls and lag show how far each is behind', async () => {
  await append(url, 'lag-1', events(7));
  await works(['create', 'lag-1', 'a']);
  await works(['create', 'lag-1', 'b', '--from', 'end']);
  const listed = lines(await works(['ls', 'lag-1']));
  assert.deepEqual(listed.map(({ group, lag }) => [group, lag.events]), [['a', 7], ['b', 0]]);
  const [one] = lines(await works(['lag', 'lag-1', 'a']));
  assert.deepEqual([one.kind, one.stream, one.group, one.lag_events, typeof one.lag_seconds], ['durable', 'lag-1', 'a', 7, 'number']);
  const table = await tty(['ls', 'lag-1']);
  assert.match(table.text, /^STREAM +GROUP +STATE +LAG +OLDEST +CONSUMERS +IN FLIGHT +PARKED\n/);
  assert.match(table.text, /\nlag-1 +a +idle +7 /);
  assert.equal(lines(await works(['ls', 'nobody'])).length, 0);
  // Those who follow without a name are there, too.
  const tail = start(['stream', 'tail', 'lag-1'], { url });
  await until(async () => lines(await works(['lag', 'lag-1'])).some(({ kind }) => kind === 'catch-up'), 'the tail is listed');
  assert.match((await tty(['lag'])).text, /\ncatch-up +lag-1 +/);
  tail.child.kill('SIGINT');
  await tail.done;
});

// ---- consuming ----

test('read shows events, acknowledges them, and the next one goes on behind them (G11)', async () => {
  await append(url, 'read-1', events(6));
  await works(['create', 'read-1', 'g']);
  assert.deepEqual(numbers(await works(['read', 'read-1', 'g', '--limit', '2'])), [0, 1]);
  assert.deepEqual(numbers(await works(['read', 'read-1', 'g', '--limit', '3', '--window', '1'])), [2, 3, 4]);
  const { code, text } = await tty(['read', 'read-1', 'g', '--limit', '1']);
  assert.equal(code, 0);
  assert.match(text, /^POSITION +STREAM +REVISION +TYPE/);
  assert.match(text, /"n":5/);
  assert.equal((await cli(['read', 'read-1', 'other'])).code, 4);
});

test('read goes on live until it is interrupted, and loses nothing of what it has shown', async () => {
  await works(['create', 'live-1', 'g']);
  const reading = start(['sub', 'read', 'live-1', 'g'], { url });
  await append(url, 'live-1', events(3));
  await until(() => reading.stdout().split('\n').length > 3, 'three events');
  await until(async () => (await show('live-1', 'g')).lag.events === 0, 'they are acknowledged');
  reading.child.kill('SIGINT');
  const answer = await reading.done;
  assert.equal(answer.code, 0, answer.stderr);
  assert.deepEqual(numbers(answer), [0, 1, 2]);
  await append(url, 'live-1', events(1, 'T', 3));
  const began = Date.now();
  assert.deepEqual(numbers(await works(['read', 'live-1', 'g', '--limit', '1'])), [3]);
  assert.ok(Date.now() - began < 20_000, 'who joins right behind another is served at once');
});

test('what standard output did not take is not acknowledged', async () => {
  await append(url, 'full-1', events(2));
  await works(['create', 'full-1', 'g']);
  const full = spawnSync('bash', ['-c', '"$0" sub read full-1 g --limit 1 > /dev/full', nilo], { env: { ...process.env, NILO_URL: url }, encoding: 'utf8', timeout: 20_000 });
  assert.notEqual(full.status, 0);
  assert.deepEqual(numbers(await works(['read', 'full-1', 'g', '--limit', '2'])), [0, 1]);
});

test('every event comes to exactly one of several consumers', async () => {
  await append(url, 'many-1', events(200));
  await works(['create', 'many-1', 'g', '--strategy', 'RoundRobin']);
  const consumers = [0, 1, 2].map(() => start(['sub', 'read', 'many-1', 'g', '--window', '5'], { url }));
  await until(async () => (await show('many-1', 'g')).lag.events === 0, 'all are acknowledged');
  for (const { child } of consumers) child.kill('SIGINT');
  const all = (await Promise.all(consumers.map(({ done }) => done))).flatMap(numbers);
  assert.equal(new Set(all).size, 200);
  assert.equal(all.length, 200);
});

// ---- parked ----

test('refused events are parked with their reason, listed and replayed', async () => {
  await append(url, 'park-1', events(5));
  await works(['create', 'park-1', 'g']);
  await works(['read', 'park-1', 'g', '--limit', '3', '--nack', 'park', '--reason', 'no address']);
  await until(async () => (await show('park-1', 'g')).parked === 3, 'three are parked');
  const parked = lines(await works(['parked', 'park-1', 'g']));
  assert.deepEqual(parked.map(({ number, event }) => [number, event.data.n]), [[0, 0], [1, 1], [2, 2]]);
  assert.match(parked[0].reason, /no address/);
  assert.equal(lines(await works(['parked', 'park-1', 'g', '--from', '1', '--limit', '1']))[0].number, 1);
  assert.match((await tty(['parked', 'park-1', 'g'])).text, /^NUMBER +PARKED AT +STREAM +REVISION +TYPE +REASON\n0 +\d{4}-/);
  await works(['replay', 'park-1', 'g', '--only', '1']);
  assert.deepEqual(numbers(await works(['read', 'park-1', 'g', '--limit', '3'])).sort(), [1, 3, 4]);
  await until(async () => (await show('park-1', 'g')).parked === 2, 'one is parked no more');
  assert.deepEqual(lines(await works(['parked', 'park-1', 'g'])).map(({ number }) => number), [0, 2]);
  assert.match((await tty(['replay', 'park-1', 'g'])).text, /^g of park-1 delivers its parked events again\n$/);
  assert.deepEqual(numbers(await works(['read', 'park-1', 'g', '--limit', '2'])), [0, 2]);
  assert.equal((await cli(['replay', 'park-1', 'g', '--only', '1'])).code, 4);
});

test('--nack skip lets them go', async () => {
  await append(url, 'skip-1', events(2));
  await works(['create', 'skip-1', 'g']);
  await works(['read', 'skip-1', 'g', '--limit', '1', '--nack', 'skip']);
  assert.deepEqual(numbers(await works(['read', 'skip-1', 'g', '--limit', '1'])), [1]);
  assert.equal((await show('skip-1', 'g')).parked, 0);
});

// ---- pause, seek, delete ----

test('pause and resume', async () => {
  await works(['create', 'pause-1', 'g']);
  assert.equal(lines(await works(['pause', 'pause-1', 'g']))[0].paused, true);
  assert.match((await tty(['pause', 'pause-1', 'g'])).text, /^g of pause-1 is paused\n$/);
  assert.equal((await show('pause-1', 'g')).state, 'paused');
  assert.equal(lines(await works(['resume', 'pause-1', 'g']))[0].paused, false);
  assert.equal((await cli(['pause', 'pause-1', 'other'])).code, 4);
});

test('seek and delete say what goes, do nothing with --dry-run, and ask for the name', async () => {
  await append(url, 'ask-1', events(3));
  await works(['create', 'ask-1', 'g']);
  await works(['read', 'ask-1', 'g', '--limit', '3']);
  const [dry] = lines(await works(['seek', 'ask-1', 'g', 'start', '--dry-run']));
  assert.deepEqual([dry.stream, dry.group, dry.parked], ['ask-1', 'g', 0]);
  assert.equal((await show('ask-1', 'g')).lag.events, 0);
  const unasked = await cli(['seek', 'ask-1', 'g', 'start']);
  assert.equal(unasked.code, 2);
  assert.match(unasked.stderr, /--yes/);
  await works(['seek', 'ask-1', 'g', 'start', '--yes']);
  assert.deepEqual(numbers(await works(['read', 'ask-1', 'g', '--limit', '3'])), [0, 1, 2]);
  await works(['seek', 'ask-1', 'g', '2', '--yes']);
  assert.deepEqual(numbers(await works(['read', 'ask-1', 'g', '--limit', '1'])), [2]);
  assert.match((await tty(['delete', 'ask-1', 'g', '--dry-run'])).text, /its checkpoint and its parked events/);
  assert.equal((await tty(['delete', 'ask-1', 'g'], { input: 'ask-1\n' })).code, 2); // not the group's name
  await show('ask-1', 'g');
  const typed = await tty(['delete', 'ask-1', 'g'], { input: 'g\n' });
  assert.equal(typed.code, 0);
  assert.match(typed.text, /g of ask-1 is deleted\n$/);
  assert.equal((await cli(['show', 'ask-1', 'g'])).code, 4);
  assert.equal((await cli(['delete', 'ask-1', 'g', '--yes'])).code, 4);
});

// ---- restarts ----

test('definitions, checkpoints and parked events are there after a restart (G11)', async () => {
  const data = temporaryDirectory('nilo-sub-data');
  let second = await startServer({ data });
  const at = (args) => run(['sub', ...args], { url: second.url });
  await append(second.url, 'again', events(10));
  await until(async () => (await at(['create', 'again', 'g'])).code === 0, 'created');
  assert.deepEqual(numbers(await at(['read', 'again', 'g', '--limit', '4'])), [0, 1, 2, 3]);
  await at(['read', 'again', 'g', '--limit', '1', '--nack', 'park', '--reason', 'later']);
  await at(['pause', 'again', 'g']);
  await second.stop();
  second = await startServer({ data });
  let shown;
  await until(async () => {
    const answer = await at(['show', 'again', 'g']);
    if (!answer.code) [shown] = lines(answer);
    return !answer.code;
  }, 'served again');
  assert.equal(shown.paused, true);
  assert.equal(shown.parked, 1);
  await at(['resume', 'again', 'g']);
  assert.deepEqual(numbers(await at(['read', 'again', 'g', '--limit', '5'])), [5, 6, 7, 8, 9]);
  await second.stop();
});

test('a secret is read from a file and never shown', async () => {
  writeFileSync(join(here, 'secret'), 'not for everybody\n');
  const answer = await cli(['create', 'hook-1', 'g', '--webhook', 'http://127.0.0.1:1/', '--secret', '@secret']);
  if (answer.code === 2) assert.match(answer.stderr, /webhook|sender/); // a server without webhooks says so
  else assert.equal(answer.code, 0, answer.stderr);
  assert.doesNotMatch(answer.stdout + (await cli(['ls'])).stdout, /everybody/);
});
