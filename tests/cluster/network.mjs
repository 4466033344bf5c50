// Where the nodes of a test live: each in a network namespace of its own on one bridge (root and `ip` are needed), or, where
// that is not to be had, all on loopback, without what cuts links.
//
// A link is cut one way by telling the sender's neighbour table a hardware address that nobody has: packets leave and
// never arrive, nobody is told, as with a broken switch. Clients are not cut off: a relay (relay.mjs) brings 127.0.0.1:port
// of the test's own namespace to 127.0.0.1:port inside, so the addresses that nodes tell clients are right for both.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const RELAY = fileURLToPath(new URL('relay.mjs', import.meta.url));
const NOWHERE = '02:ff:ff:ff:ff:ff';
const PLACES_MAX = 250;

const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] });
const quietly = (action) => {
  try {
    return action();
  } catch {
    return undefined;
  }
};

/** Why namespaces cannot be had; undefined: they can. */
export function lacks() {
  const name = `nilo-probe-${process.pid}`;
  try {
    ip('netns', 'add', name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('netns', 'del', name);
    return undefined;
  } catch (error) {
    return error.code === 'ENOENT' ? 'the program ip (iproute2) is missing' : String(error.stderr ?? error).trim().split('\n')[0];
  }
}

/** A run that was killed could not take its namespaces along. */
function sweep() {
  for (const [name, pid] of String(execFileSync('ip', ['netns', 'list'])).matchAll(/nilo-b(\d+)-\d+/g)) {
    if (existsSync(`/proc/${pid}`)) continue;
    quietly(() => ip('netns', 'del', name));
    quietly(() => ip('link', 'del', `nilo-b${pid}`));
  }
}

const listening = () =>
  new Promise((done, fail) => {
    const server = createServer({ pauseOnConnect: true });
    server.on('error', fail).listen(0, '127.0.0.1', () => done(server));
  });

/** Places on loopback: .host and .port for other nodes, .clientPort, .prefix of commands that run there. */
export class Loopback {
  kind = 'loopback';
  #count = 0;

  async place() {
    const servers = await Promise.all([listening(), listening()]);
    const [clientPort, port] = servers.map((server) => server.address().port);
    await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
    return { number: ++this.#count, host: '127.0.0.1', port, clientPort, prefix: [] };
  }

  heal() {}
  close() {}
}

export class Namespaces {
  kind = 'namespaces';
  #places = [];
  #relays = [];
  #bridge = `nilo-b${process.pid}`;
  #net = `198.18.${process.pid % 256}`;
  #cut = false;

  constructor() {
    process.on('exit', () => this.close());
    sweep();
    ip('link', 'add', this.#bridge, 'type', 'bridge');
    ip('link', 'set', this.#bridge, 'up');
  }

  #hardware = (number) => `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`;

  async place() {
    const number = this.#places.length + 1;
    if (number > PLACES_MAX) throw new Error('too many places');
    const name = `${this.#bridge}-${number}`;
    const outside = `nv${process.pid}-${number}`;
    const place = { number, name, host: `${this.#net}.${number}`, port: 2112, prefix: ['ip', 'netns', 'exec', name] };
    this.#places.push(place);
    ip('netns', 'add', name);
    ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
    ip('link', 'set', outside, 'master', this.#bridge, 'up');
    ip('-n', name, 'link', 'set', 'eth0', 'address', this.#hardware(number));
    ip('-n', name, 'addr', 'add', `${place.host}/24`, 'dev', 'eth0');
    ip('-n', name, 'link', 'set', 'eth0', 'up');
    ip('-n', name, 'link', 'set', 'lo', 'up');
    for (const other of this.#places) {
      if (other.number === number) continue;
      this.#neighbour(place, other, this.#hardware(other.number));
      this.#neighbour(other, place, this.#hardware(number));
    }
    const server = await listening();
    place.clientPort = server.address().port;
    const [program, ...words] = [...place.prefix, process.execPath, RELAY, String(place.clientPort)];
    // The relay accepts on a socket of this namespace and connects in its own.
    this.#relays.push(spawn(program, words, { stdio: ['ignore', 'inherit', 'inherit', server._handle.fd] }));
    server._handle.close();
    return place;
  }

  #neighbour(from, to, hardware) {
    ip('-n', from.name, 'neigh', 'replace', to.host, 'lladdr', hardware, 'dev', 'eth0', 'nud', 'permanent');
  }

  /** Nothing that `from` sends arrives at `to` any more. */
  cut(from, to) {
    this.#cut = true;
    this.#neighbour(from, to, NOWHERE);
  }

  /** Neither way between this place and all others. */
  isolate(place) {
    for (const other of this.#places) {
      if (other.number === place.number) continue;
      this.cut(place, other);
      this.cut(other, place);
    }
  }

  heal() {
    if (!this.#cut) return;
    this.#cut = false;
    for (const from of this.#places) {
      for (const to of this.#places) if (from !== to) this.#neighbour(from, to, this.#hardware(to.number));
    }
  }

  close() {
    for (const relay of this.#relays.splice(0)) relay.kill('SIGKILL');
    for (const { name } of this.#places.splice(0)) quietly(() => ip('netns', 'del', name));
    quietly(() => ip('link', 'del', this.#bridge));
  }
}
