// A real cluster under load while things happen to it (G1-G3, G5, G7-G12, G21). Each case does one kind of harm for a while,
// then everything is healed, the nodes have to become whole again within 30 s (T24), and all that clients were told is held
// against the logs of all nodes (judge.mjs).
//
//   node tests/cluster/chaos.mjs [--voters 3|5] [--rounds N] [--seconds S] [--seed N] [--only REGEX] [--loopback] [--keep DIRECTORY]
//
// --rounds multiplies what each case does (1: the quick form of test.sh); --seconds begins again with a new cluster until
// they are over. The seed fixes the schedule; the moments are the machine's. On a violation the data, the nodes' own words
// and the history are kept, and their place is told.

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cases } from './cases.mjs';
import { Load, generator } from './load.mjs';
import { compare, judge, readLog } from './judge.mjs';
import { Loopback, Namespaces, lacks } from './network.mjs';
import { Cluster } from './nodes.mjs';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1' },
    voters: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '0' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    only: { type: 'string', default: '' },
    loopback: { type: 'boolean', default: false },
    keep: { type: 'string', default: join('build', 'logs', 'cluster') },
  },
});
const VIOLATIONS_SHOWN_MAX = 20;
const began = performance.now();
const elapsed = () => Math.round((performance.now() - began) / 1000);
const missing = options.loopback ? '--loopback' : lacks();
const counts = { passed: 0, failed: 0, skipped: 0 };

/** One cluster from its first node to its last breath. */
class Pass {
  log = []; // as all nodes have it: { stream, revision, position, id }
  history = [];

  constructor(seed) {
    this.seed = seed;
    this.network = missing ? new Loopback() : new Namespaces();
    this.cluster = new Cluster(this.network, Number(options.voters));
  }

  /** What is new in the logs of all nodes, which must be the same. */
  async readBack() {
    const logs = new Map();
    for (const node of this.cluster.nodes) logs.set(node.name, await readLog(node.port, this.log.length));
    const [lines] = logs.values();
    for (const line of lines) {
      const { stream, revision, position, id } = JSON.parse(line);
      this.log.push({ stream, revision, position, id });
    }
    return compare(logs);
  }

  keep(violations) {
    console.log(violations.slice(0, VIOLATIONS_SHOWN_MAX).map((v) => `    ${v.slice(0, 600)}`).join('\n'));
    mkdirSync(options.keep, { recursive: true });
    writeFileSync(join(options.keep, `history-${this.seed}.json`), JSON.stringify({ history: this.history, log: this.log }));
    cpSync(this.cluster.directory, join(options.keep, `nodes-${this.seed}`), { recursive: true });
    console.log(`    seed ${this.seed}: the data, what the nodes said and the history are in ${options.keep}`);
  }

  healAll() {
    this.network.heal();
    for (const node of this.cluster.nodes) if (node.isStopped) node.resume();
  }

  async run({ name, needs, run: harm, load: sizes = {} }, number) {
    const { cluster, network } = this;
    if (needs === 'namespaces' && network.kind !== 'namespaces') {
      console.log(`SKIP: ${name}: needs network namespaces`);
      counts.skipped++;
      return true;
    }
    const start = performance.now();
    const load = new Load(cluster, { seed: this.seed + number, ...sizes });
    const violations = [];
    const remarks = [];
    let isReadBack = false;
    try {
      load.start(this.log.length);
      await harm({
        cluster, network, load,
        rounds: Number(options.rounds),
        random: generator(this.seed + number),
        demand: (condition, text) => condition || violations.push(`case: ${text}`),
        remark: (text) => remarks.push(text),
      });
      this.healAll();
      await load.quiet();
      const healed = performance.now();
      await cluster.whole();
      remarks.push(`whole after ${Math.round(performance.now() - healed)} ms`);
      violations.push(...await this.readBack());
      isReadBack = true;
      await load.stop(this.log.length);
    } catch (error) {
      violations.push(`case: ${error.stack}`);
      this.healAll();
    }
    for (const node of cluster.nodes) for (const end of node.ends.splice(0)) violations.push(`case: ${node.name} ended by itself: ${end}`);
    this.history.push(...load.history);
    if (isReadBack) violations.push(...judge(this.history, this.log));
    if (!load.counts.ok) violations.push('case: nothing was acknowledged: this proves nothing');
    const { ok, conflict, rejected, unknown, attempts, seen, heads, tokens } = load.counts;
    console.log(`${violations.length ? 'FAILED' : 'ok    '} ${name}: ${Math.round(performance.now() - start)} ms; ${ok} acknowledged, ` +
      `${conflict} conflicts, ${rejected} refused, ${unknown} unknown, ${attempts} attempts, ${seen} sights, ${heads} linearizable reads, ${tokens} with a token; ` +
      `longest gap ${Math.round(load.longestGapMs)} ms; ${remarks.join('; ')}`);
    counts[violations.length ? 'failed' : 'passed']++;
    if (violations.length) this.keep(violations);
    return !violations.length;
  }

  async all() {
    try {
      const start = performance.now();
      await this.cluster.form();
      console.log(`ok     ${options.voters} voters by the operators' commands, ${this.network.kind}, ${Math.round(performance.now() - start)} ms`);
      counts.passed++;
      const chosen = cases.filter(({ name }) => new RegExp(options.only).test(name));
      // After a failure, what follows would be judged by a broken history.
      for (const [number, one] of chosen.entries()) if (!(await this.run(one, number))) break;
    } catch (error) {
      counts.failed++;
      this.keep([`case: ${error.stack}`]);
    }
    for (const node of this.cluster.nodes) if (node.isRunning) await node.kill();
    this.network.close();
    rmSync(this.cluster.directory, { recursive: true, force: true });
    console.log(`seed ${this.seed}: ${this.log.length} events, ${this.history.length} calls judged, ${elapsed()} s`);
  }
}

if (missing) {
  console.log('*'.repeat(100));
  console.log(`SKIP: network namespaces (${missing}): nodes run on loopback, and NOTHING IS CUT OFF from anything`);
  console.log('*'.repeat(100));
  counts.skipped++;
}
for (let seed = Number(options.seed); ; seed += 1000) {
  await new Pass(seed).all();
  if (counts.failed || elapsed() >= Number(options.seconds)) break;
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed ? 1 : 0);
