// Real clusters on loopback: every node a process of its own, with ports that were free a moment ago.

import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { nilo, startServer, temporaryDirectory } from './server.mjs';

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function status(url) {
  const answer = await fetch(`${url}/v1/cluster`);
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer.json();
}

export async function post(url, path, body = {}) {
  const answer = await fetch(`${url}/v1/cluster/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

/** Nodes of one cluster: `names` of them, node i at index i - 1. */
export class Cluster {
  constructor({ insecure = false } = {}) {
    this.insecure = insecure;
    this.here = temporaryDirectory('nilo-cluster');
    this.nodes = [];
  }

  async ports() {
    return { port: await freePort(), peerPort: await freePort() };
  }

  async startNode(node, args = []) {
    node.server = await startServer({
      data: node.data,
      port: node.port,
      args: ['--node-name', node.name, '--peer-port', String(node.peerPort), ...args],
    });
    node.url = node.server.url;
    return node;
  }

  async first() {
    const node = { name: 'n1', data: join(this.here, 'n1'), ...(await this.ports()) };
    this.nodes.push(node);
    await this.startNode(node);
    const { status: code, body } = await post(node.url, 'init', { insecure: this.insecure });
    if (code !== 200) throw new Error(JSON.stringify(body));
    return node;
  }

  async token(uses = 1) {
    const { status: code, body } = await post(this.leader().url, 'tokens', { uses });
    if (code !== 200) throw new Error(JSON.stringify(body));
    return body.token;
  }

  /** Lets one more node in; it is a stand-by then. */
  async join(token) {
    const name = `n${this.nodes.length + 1}`;
    const node = { name, data: join(this.here, name), ...(await this.ports()) };
    await this.startNode(node, ['--join', this.seeds(), '--token', token ?? (await this.token())]);
    this.nodes.push(node);
    return node;
  }

  seeds() {
    return this.running()
      .map((node) => `127.0.0.1:${node.peerPort}`)
      .join(',');
  }

  running() {
    return this.nodes.filter((node) => node.server);
  }

  leader() {
    return this.nodes.find((node) => node.name === this.leaderName && node.server) ?? this.running()[0];
  }

  /** Waits until every running node says the same of who leads, and the condition holds; gives the leader's status. */
  async settled(condition = () => true, withinMs = 15_000) {
    let last;
    for (const began = Date.now(); Date.now() - began < withinMs; await sleep(50)) {
      try {
        last = await Promise.all(this.running().map((node) => status(node.url)));
      } catch {
        continue;
      }
      const [first] = last;
      const leader = last.find((s) => s.node === first.leader);
      if (!leader || !last.every((s) => s.leader === first.leader && s.term === first.term && s.quorum.has_quorum) || !condition(leader)) continue;
      this.leaderName = leader.name;
      return leader;
    }
    throw new Error(`not settled within ${withinMs} ms: ${JSON.stringify(last, null, 1)}`);
  }

  async three() {
    await this.first();
    const token = await this.token(2);
    await this.join(token);
    await this.join(token);
    const grown = spawnSync(nilo, ['cluster', 'grow', '--url', this.nodes[0].url, '--timeout', '30'], { encoding: 'utf8', timeout: 60_000 });
    if (grown.status !== 0) throw new Error(`${grown.stdout}${grown.stderr}`);
    await this.settled((s) => s.quorum.voters === 3 && s.quorum.reachable === 3);
    return this;
  }

  async kill(node) {
    const { server } = node;
    node.server = null;
    await server.kill();
  }

  /** As whoever it was: no flag says that it is a member. */
  async restart(node, args = []) {
    node.server = await startServer({ data: node.data, port: node.port, args: ['--node-name', node.name, ...args] });
    return node;
  }

  async stopNode(node) {
    const { server } = node;
    node.server = null;
    await server.stop();
  }

  async stop() {
    await Promise.all(this.running().map((node) => this.stopNode(node)));
  }
}
