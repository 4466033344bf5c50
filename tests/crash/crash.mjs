// kill -9, again and again (G1, G2, G3, G5, G6, G10, T9): writers over gRPC and HTTP note every answer, the server dies at
// a random moment, starts again within a second, and what it then shows is judged by check.mjs.
//
//   node tests/crash/crash.mjs [--cycles 200] [--seed N] [--seconds 240] [--keep DIRECTORY]
//
// The seed fixes the schedule (who writes what, how long each life lasts); the moment of death is the machine's. On a
// violation the data directory and the history are kept and their place is told.

import { createHash, randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { VIOLATIONS_SHOWN_MAX, check } from './check.mjs';
import { grpcDoor, httpDoor } from './load.mjs';

const { values: options } = parseArgs({
  options: {
    cycles: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '240' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    keep: { type: 'string', default: join('build', 'logs', 'crash') },
  },
});
const cycles = Number(options.cycles);
const RESTART_MAX_MS = 1000;
const FULL_CHECK_EVERY = 25;
const WRITERS_PER_DOOR = 4;
const SHARED_STREAMS = 12;

let state = Number(options.seed) >>> 0;
function random(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
}

const data = temporaryDirectory('nilo-crash');
const history = [];
const log = []; // everything read back so far: { stream, revision, position, id }
const digests = []; // of the lines as they were read the first time
const heads = new Map();
const counts = { kills: 0, stops: 0, acknowledged: 0, conflicts: 0, rejected: 0, unknown: 0, retried: 0, delivered: 0, over: { grpc: 0, http: 0 } };
const problems = [];
let slowestRestartMs = 0;

const digest = (line) => createHash('sha256').update(line).digest('base64');

/** An append, noted from before it was sent until after it was answered. Same ids again: the same operation. */
async function append(door, op) {
  op.invoke ??= performance.now();
  const answer = await door.append(op.stream, op.expect, op.events);
  const complete = performance.now();
  const { error, ...said } = answer;
  if (op.outcome === 'ok') { // a retry of what was acknowledged must get the same answer (G6)
    if (said.outcome === 'ok' && (said.last !== op.last || said.position !== op.position)) {
      problems.push(`retry: ${op.stream} ${op.ids[0]} was at ${op.last}/${op.position}, now ${said.last}/${said.position}`);
    }
    if (said.outcome === 'rejected' || said.outcome === 'conflict') {
      problems.push(`retry: ${op.stream} ${op.ids[0]} was acknowledged, now ${JSON.stringify(said)}`);
    }
    return;
  }
  Object.assign(op, said, { complete: said.outcome === 'unknown' ? Infinity : complete });
  if (said.outcome === 'ok') counts.over[door.name]++;
  if (said.outcome === 'ok') heads.set(op.stream, Math.max(heads.get(op.stream) ?? -1, said.last));
  if (error && said.outcome === 'rejected') op.why = String(error).slice(0, 200);
}

function operation(stream, expect) {
  const count = random(4) ? 1 : 1 + random(20);
  const size = random(50) ? 10 + random(2000) : 100_000;
  const events = Array.from({ length: count }, () => ({ id: randomUUID(), data: { text: 'x'.repeat(size) } }));
  const op = { kind: 'append', stream, expect, ids: events.map((e) => e.id), outcome: 'unknown', complete: Infinity };
  Object.defineProperty(op, 'events', { value: events, writable: true }); // not part of the kept history
  history.push(op);
  return op;
}

/** One client: its own stream by exact revision, shared ones by every kind of expectation, until `life.over`. */
async function writer(door, number, life) {
  const own = `own-${door.name}-${number}`;
  let known = heads.get(own) ?? -1;
  while (!life.over) {
    let op;
    const choice = random(10);
    if (choice < 4) {
      op = operation(own, known < 0 ? 'none' : known);
    } else if (choice < 7) {
      op = operation(`shared-${random(SHARED_STREAMS)}`, 'any');
    } else if (choice < 8) {
      op = operation(`new-${randomUUID()}`, random(4) ? 'none' : 'exists');
    } else {
      const stream = `contested-${random(3)}`;
      const guess = heads.get(stream) ?? -1;
      op = operation(stream, guess < 0 ? 'none' : guess);
    }
    await append(door, op);
    if (op.stream === own && op.outcome === 'ok') known = op.last;
    if (op.outcome === 'unknown' || (op.stream === own && op.outcome === 'conflict')) return; // the server is gone
  }
}

async function reader(door, life) {
  while (!life.over) {
    const op = { kind: 'head', stream: random(2) ? `shared-${random(SHARED_STREAMS)}` : `contested-${random(3)}`, invoke: performance.now() };
    try {
      op.revision = await door.head(op.stream);
    } catch {
      return;
    }
    op.complete = performance.now();
    history.push(op);
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** Reads what is new, or everything, and holds it against what was read before. */
async function readBack(door, everything) {
  const from = everything ? 0 : log.length;
  const lines = await door.readAll(from);
  lines.forEach((line, n) => {
    const at = from + n;
    if (at < log.length) {
      if (digest(line) !== digests[at]) problems.push(`changed: position ${at} is not what it was: ${line.slice(0, 200)}`);
      return;
    }
    const { stream, revision, position, id } = JSON.parse(line); // which also says that lines are whole
    log.push({ stream, revision, position, id });
    digests.push(digest(line));
    heads.set(stream, Math.max(heads.get(stream) ?? -1, revision));
  });
  if (from + lines.length < log.length) problems.push(`lost: ${log.length} events were there, now ${from + lines.length}`);
}

function judge() {
  const violations = [...problems, ...check(history, log)];
  if (!violations.length) return;
  console.log(violations.slice(0, VIOLATIONS_SHOWN_MAX).map((v) => v.slice(0, 400)).join('\n'));
  if (violations.length > VIOLATIONS_SHOWN_MAX) console.log(`and ${violations.length - VIOLATIONS_SHOWN_MAX} more`);
  mkdirSync(options.keep, { recursive: true });
  writeFileSync(join(options.keep, `history-${options.seed}.json`), JSON.stringify({ history, log }));
  cpSync(data, join(options.keep, `data-${options.seed}`), { recursive: true });
  console.log(`seed ${options.seed}: the data and the history are in ${options.keep}`);
  console.log(`${counts.kills} passed, 1 failed, 0 skipped`);
  process.exit(1);
}

async function start(cycle) {
  try {
    return await startServer({ data, args: ['--segment-size', '1MiB'] });
  } catch (error) {
    problems.push(`start: after ${cycle} lives it does not come up: ${error.message}`);
    return judge();
  }
}

/** One life: start, look, retry what is in doubt, load, die. */
async function live(cycle) {
  const server = await start(cycle);
  if (cycle > 0) {
    slowestRestartMs = Math.max(slowestRestartMs, server.startedInMs);
    if (server.startedInMs > RESTART_MAX_MS) problems.push(`slow: restart ${cycle} took ${Math.round(server.startedInMs)} ms`);
  }
  const doors = [grpcDoor(server.port), httpDoor(server.port)];
  await readBack(doors[1], cycle % FULL_CHECK_EVERY === 0);
  if (cycle % FULL_CHECK_EVERY === 0) judge();

  const recent = history.slice(-400).filter((op) => op.kind === 'append' && op.events);
  for (const op of recent) {
    const doubtful = op.outcome === 'unknown' && random(2);
    if (doubtful || (op.outcome === 'ok' && random(20) === 0)) {
      counts.retried++;
      await append(doors[random(2)], op);
    }
  }
  for (const op of history) if (op.events && op.outcome !== 'unknown') op.events = undefined;

  const session = { kind: 'session', from: log.length - 1 - random(Math.min(50, log.length)), ids: [] };
  history.push(session);
  doors[0].follow(session.from, (position, id) => session.ids.push(id));

  const life = { over: false };
  const work = [...doors.flatMap((door) => Array.from({ length: WRITERS_PER_DOOR }, (_, n) => writer(door, n, life))), reader(doors[1], life)];
  await new Promise((done) => setTimeout(done, random(3) ? 20 + random(400) : random(40)));
  if (random(10)) {
    counts.kills++;
    await server.kill();
    life.over = true;
  } else {
    counts.stops++;
    await server.stop(); // in order, but under load
    life.over = true;
  }
  await Promise.all(work);
  await Promise.all(doors.map((door) => door.close()));
  counts.delivered += session.ids.length;
}

const began = performance.now();
let cycle = 0;
while (cycle < cycles && (performance.now() - began) / 1000 < Number(options.seconds)) {
  await live(cycle++);
}
const last = await start(cycle);
const door = httpDoor(last.port);
await readBack(door, true);
await door.close();
await last.stop();
judge();

for (const op of history) {
  if (op.kind !== 'append') continue;
  const names = { ok: 'acknowledged', conflict: 'conflicts', rejected: 'rejected', unknown: 'unknown' };
  counts[names[op.outcome]]++;
}
const rejected = history.find((op) => op.outcome === 'rejected');
if (rejected) console.log(`rejected, for example: ${rejected.why}`);
console.log(`seed ${options.seed}: ${JSON.stringify(counts)}, ${log.length} events, slowest restart ${Math.round(slowestRestartMs)} ms, ` +
  `${Math.round((performance.now() - began) / 1000)} s`);
const missing = cycle < cycles ? 1 : 0;
if (missing) console.log(`only ${cycle} of ${cycles} lives within ${options.seconds} s`);
const idle = !counts.over.grpc || !counts.over.http || !counts.delivered;
if (idle) console.log('one way in acknowledged nothing, or nothing was delivered: this proves nothing');
const failed = missing + (idle ? 1 : 0);
console.log(`${counts.kills + counts.stops} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
