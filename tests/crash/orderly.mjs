// An orderly stop keeps every byte, however often (G1, G12): write, take a digest of everything, SIGTERM, start, compare.
//
//   node tests/crash/orderly.mjs [--cycles 100]

import { createHash, randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { httpDoor } from './load.mjs';

const { values: options } = parseArgs({ options: { cycles: { type: 'string', default: '100' } } });
const RESTART_MAX_MS = 1000;
const data = temporaryDirectory('nilo-orderly');
let before = null;
let passed = 0;
let failed = 0;
let slowestMs = 0;

async function everything(door) {
  const lines = await door.readAll(0);
  return { count: lines.length, digest: createHash('sha256').update(lines.join('\n')).digest('hex') };
}

for (let cycle = 0; cycle < Number(options.cycles); cycle++) {
  const server = await startServer({ data, args: ['--segment-size', '1MiB'] });
  const door = httpDoor(server.port);
  const now = await everything(door);
  slowestMs = Math.max(slowestMs, cycle ? server.startedInMs : 0);
  const wrong = [];
  if (before && before.digest !== now.digest) wrong.push(`${before.count} events before the stop, ${now.count} after, or other bytes`);
  if (cycle && server.startedInMs > RESTART_MAX_MS) wrong.push(`the start took ${Math.round(server.startedInMs)} ms`);
  for (let n = 0; n < 10; n++) {
    const events = Array.from({ length: 1 + (n % 3) }, () => ({ id: randomUUID(), data: { cycle, n, text: 'x'.repeat((cycle * 97 + n * 1013) % 5000) } }));
    const { outcome, error } = await door.append(`orderly-${n % 4}`, 'any', events);
    if (outcome !== 'ok') wrong.push(`an append was ${outcome}: ${error}`);
  }
  before = await everything(door);
  if (before.count < now.count + 10) wrong.push('appended events are not there');
  await door.close();
  await server.stop().catch((error) => wrong.push(error.message));
  if (wrong.length) {
    failed++;
    console.log(`stop ${cycle}: ${wrong.join('; ')}`);
  } else {
    passed++;
  }
}
console.log(`${before.count} events, slowest start ${Math.round(slowestMs)} ms`);
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
