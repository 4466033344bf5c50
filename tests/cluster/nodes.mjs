// Real nodes, and the operators' commands that make a cluster of them.

import { execFile, spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { nilo, temporaryDirectory } from '../lib/server.mjs';
import { request } from './http.mjs';

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until look() gives something that is true; gives that. */
export async function until(what, withinMs, look, everyMs = 25) {
  const end = performance.now() + withinMs;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(everyMs);
  }
}

const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Runs `nilo` with these words against a node; gives what it printed, parsed if it is JSON. */
export function command(node, ...words) {
  return new Promise((done, fail) => {
    execFile(nilo, [...words, '--url', node.url, '--json'], { timeout: 60_000 }, (error, stdout, stderr) => {
      if (error) return fail(Object.assign(new Error(`nilo ${words.join(' ')}: ${stderr.trim() || error.message}`), { stdout, stderr }));
      const text = stdout.trim();
      try {
        return done(JSON.parse(text));
      } catch {
        return done(text);
      }
    });
  });
}

export class Node {
  lives = 0;
  child = null;
  isStopped = false; // by SIGSTOP
  asked = null; // the last signal
  ends = []; // how it ended without being asked to

  constructor(place, directory, name) {
    Object.assign(this, { place, name, data: join(directory, name), log: join(directory, `${name}.log`) });
    this.port = place.clientPort;
    this.url = `http://127.0.0.1:${this.port}`;
    this.moveTo(place.port);
  }

  /** Other nodes reach it there, if it joins after this. */
  moveTo(port) {
    this.place = { ...this.place, port };
    this.peer = `${this.place.host}:${port}`;
  }

  get isRunning() {
    return this.child !== null;
  }

  /** Does not wait for it. A directory that belongs to a cluster needs no flags. */
  start(...flags) {
    const [program, ...words] = [...this.place.prefix, nilo, '--data', this.data, '--port', String(this.port), '--node-name', this.name,
      '--segment-size', '1MiB', ...flags];
    const child = spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    appendFileSync(this.log, `---- life ${++this.lives}: ${flags.join(' ')}\n`);
    child.stderr.on('data', (text) => appendFileSync(this.log, text));
    this.child = child;
    this.asked = null;
    children.add(child);
    this.exited = new Promise((done) => {
      child.on('exit', (code, signal) => {
        children.delete(child);
        this.child = null;
        this.isStopped = false;
        appendFileSync(this.log, `---- ended: ${code ?? signal}\n`);
        if (this.asked !== signal && !(this.asked === 'SIGTERM' && code === 0)) this.ends.push(code ?? signal);
        done({ code, signal });
      });
    });
    return this;
  }

  signal(name) {
    this.asked = name;
    this.child?.kill(name);
  }

  async kill() {
    this.signal('SIGKILL');
    await this.exited;
  }

  pause() {
    this.isStopped = true;
    this.signal('SIGSTOP');
  }

  resume() {
    this.isStopped = false;
    this.signal('SIGCONT');
  }

  /** In order. Fails unless it ends with 0. */
  async stop(withinMs = 15_000) {
    this.signal('SIGTERM');
    const ended = await Promise.race([this.exited, sleep(withinMs)]);
    if (!ended) throw new Error(`${this.name} did not end within ${withinMs} ms of SIGTERM`);
    if (ended.code !== 0) throw new Error(`${this.name} ended with ${ended.code ?? ended.signal} after SIGTERM`);
  }

  /** GET /v1/cluster, or undefined. */
  async status(timeoutMs = 1000) {
    try {
      const { status, text } = await request(this.port, 'GET', '/v1/cluster', { timeoutMs });
      return status === 200 ? JSON.parse(text) : undefined;
    } catch {
      return undefined;
    }
  }

  async isReady() {
    try {
      return (await request(this.port, 'GET', '/health/ready', { timeoutMs: 1000 })).status === 200;
    } catch {
      return false;
    }
  }

  wipe() {
    rmSync(this.data, { recursive: true, force: true });
  }
}

export class Cluster {
  nodes = []; // those that are members, or will be
  #names = 0;

  constructor(network, voters, directory = temporaryDirectory('nilo-cluster')) {
    this.network = network;
    this.voters = voters; // 3 or 5
    this.directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  async node(name = `n${++this.#names}`) {
    return new Node(await this.network.place(), this.directory, name);
  }

  /** One node, then a cluster of it, then others that join, then all are voters: what docs/cluster.md tells operators. */
  async form() {
    const first = await this.node();
    first.start();
    await until('the first node is ready', 10_000, () => first.isReady());
    await command(first, 'cluster', 'init', '--address', first.peer);
    this.nodes = [first];
    const token = (await command(first, 'cluster', 'token', '--uses', String(this.voters - 1))).token;
    for (let i = 1; i < this.voters; i++) this.nodes.push(await this.join(token));
    await command(first, 'cluster', 'grow', '--voters', String(this.voters));
    await this.whole();
    return this;
  }

  /** A new node that joins; it is a stand-by then. */
  async join(token, seed = this.nodes[0]) {
    const node = await this.node();
    this.joinAs(node, token, seed);
    await until(`${node.name} is ready`, 20_000, () => node.isReady());
    node.id = (await node.status()).node;
    return node;
  }

  joinAs(node, token, seed = this.nodes[0]) {
    node.start('--peer-listen', node.place.host, '--peer-port', String(node.place.port), '--join', seed.peer, '--token', token);
  }

  /** The node that leads and can write, as it says itself. */
  async leader(withinMs = 10_000, among = this.nodes) {
    return until('a leader', withinMs, async () => {
      for (const node of among) {
        if (!node.isRunning || node.isStopped) continue;
        const status = await node.status(500);
        const self = status?.members.find((m) => m.self);
        if (self?.state === 'Leader' && status.quorum.has_quorum) return node;
      }
      return undefined;
    });
  }

  /** Until every node runs, knows the same leader, and has everything; gives the end of the log. Convergence: 30 s (T24). */
  async whole(withinMs = 30_000) {
    for (const node of this.nodes) if (!node.isRunning) node.start();
    let said;
    try {
      return await until('the cluster is whole', withinMs, async () => {
        said = await Promise.all(this.nodes.map((node) => node.status()));
        if (said.some((s) => !s || !s.leader || s.catching_up || s.term !== said[0].term || s.leader !== said[0].leader)) return undefined;
        this.nodes.forEach((node, i) => node.id = said[i].node);
        const applied = said.map((s) => s.applied_index);
        return applied.every((index) => index === applied[0] && index === Math.max(...said.map((s) => s.last_index)));
      });
    } catch (error) {
      const lines = said.map((s, i) => `${this.nodes[i].name}: ${s ? `term ${s.term}, leader ${s.leader}, last ${s.last_index}, ` +
        `applied ${s.applied_index}, ${s.quorum.text}` : 'no answer'}`);
      throw new Error(`${error.message}\n${lines.join('\n')}`);
    }
  }
}
