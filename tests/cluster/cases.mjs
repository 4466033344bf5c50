// What happens to the cluster, one case after another. A case leaves three voters that can all become whole again.

import { Node, command, sleep, until } from './nodes.mjs';
import { throughTheClient } from './client.mjs';

const STEP_DOWN_MS = 3000; // a leader that hears nobody: check-quorum takes an election timeout or two

const others = (cluster, node) => cluster.nodes.filter((n) => n !== node);
const acknowledged = (load) => load.counts.ok;

/** Waits until clients are acknowledged again; gives the milliseconds. */
async function goesOn(load, withinMs = 10_000) {
  const began = performance.now();
  const before = acknowledged(load);
  await until('appends are acknowledged again', withinMs, () => acknowledged(load) > before + 5, 5);
  return Math.round(performance.now() - began);
}

const leaderOf = (status) => ({ term: status.term, leader: status.leader });

export const cases = [
  {
    name: 'kill -9 of the leader, again and again',
    async run({ cluster, load, rounds, random, remark }) {
      const took = [];
      for (let i = 0; i < 4 * rounds; i++) {
        await sleep(200 + random(300));
        const leader = await cluster.leader();
        await leader.kill();
        took.push(await goesOn(load));
        leader.start();
        await sleep(random(800)); // it may have to lead again before it has everything
      }
      remark(`acknowledged again after ${took.join(', ')} ms`);
    },
  },
  {
    name: 'kill -9 of followers',
    async run({ cluster, load, rounds, random }) {
      for (let i = 0; i < 4 * rounds; i++) {
        const leader = await cluster.leader();
        const victim = others(cluster, leader)[i % 2];
        await sleep(random(200));
        await victim.kill();
        await goesOn(load);
        await sleep(random(300));
        victim.start();
        if (random(2)) await sleep(random(150)); // while it is starting, too
        else await until('it is back', 10_000, () => victim.isReady());
      }
    },
  },
  {
    name: 'kill -9 of all at once, started in any order',
    async run({ cluster, load, rounds, random, remark }) {
      const took = [];
      for (let i = 0; i < 2 * rounds; i++) {
        await sleep(300 + random(400));
        await Promise.all(cluster.nodes.map((node) => node.kill()));
        const order = [...cluster.nodes].sort(() => random(3) - 1);
        const began = performance.now();
        for (const node of order) {
          node.start();
          await sleep([0, 0, random(700)][random(3)]);
        }
        await goesOn(load, 15_000);
        took.push(Math.round(performance.now() - began));
      }
      remark(`acknowledged again after ${took.join(', ')} ms`);
    },
  },
  {
    name: 'a leader that is cut off steps down by itself',
    needs: 'namespaces',
    async run({ cluster, network, load, demand, rounds, remark }) {
      for (let i = 0; i < rounds; i++) {
        const leader = await cluster.leader();
        const { term } = await leader.status();
        network.isolate(leader.place);
        const began = performance.now();
        await until('the old leader steps down', STEP_DOWN_MS, async () => {
          const status = await leader.status();
          return status && status.members.find((m) => m.self).state !== 'Leader' && !status.quorum.has_quorum;
        });
        remark(`stepped down after ${Math.round(performance.now() - began)} ms`);
        const next = await cluster.leader(5000, others(cluster, leader));
        demand((await next.status()).term > term, 'the new leader has a higher term');
        await goesOn(load);
        // Whoever reads at the old leader sees what was committed, and nothing is acknowledged there.
        const op = load.operation('at-the-old-leader', 'any');
        await new (load.constructor)({ nodes: [leader] }, { deadlineMs: 1000 }).append(op, 0);
        demand(op.outcome !== 'ok', 'a leader that was cut off acknowledged an append');
        network.heal();
        await cluster.whole();
      }
    },
  },
  {
    name: 'links that are cut one way, and two ways',
    needs: 'namespaces',
    async run({ cluster, network, load, rounds, random }) {
      for (let i = 0; i < rounds; i++) {
        const cuts = [
          (leader, [a, b]) => [[leader, a], [leader, b]], // nobody hears the leader
          (leader, [a, b]) => [[a, leader], [b, leader]], // the leader hears nobody
          (leader, [a]) => [[a, leader], [leader, a]], // a bridge: one follower hears only the other
          (leader, [a, b]) => [[b, a], [leader, a]], // one follower hears nobody
          (leader, [a]) => [[a, leader]],
        ];
        for (const cut of rounds > 1 ? cuts : cuts.slice(0, 4)) {
          const leader = await cluster.leader();
          for (const [from, to] of cut(leader, others(cluster, leader))) network.cut(from.place, to.place);
          await sleep(900 + random(700));
          await goesOn(load); // a majority hears each other in each of them
          network.heal();
          await goesOn(load);
        }
      }
    },
  },
  {
    name: 'the leader stands still for a while (SIGSTOP)',
    async run({ cluster, load, rounds, random }) {
      for (let i = 0; i < 3 * rounds; i++) {
        const leader = await cluster.leader();
        leader.pause();
        await sleep([500, 1000, 3000][i % 3] - random(200));
        leader.resume(); // it believes to lead still, with what it was about to say
        await goesOn(load);
        await sleep(500);
      }
    },
  },
  {
    name: 'a node that comes back does not disturb',
    needs: 'namespaces',
    async run({ cluster, network, load, demand, rounds }) {
      for (let i = 0; i < rounds; i++) {
        const leader = await cluster.leader();
        const [lost] = others(cluster, leader);
        const before = leaderOf(await leader.status());
        network.isolate(lost.place);
        await sleep(3500); // some five election timeouts
        network.heal();
        await until('the node has everything again', 15_000, async () => {
          const [mine, its] = await Promise.all([leader.status(), lost.status()]);
          return its && its.leader === mine.leader && mine.last_index - its.last_index < 200;
        });
        await goesOn(load);
        const after = leaderOf(await leader.status());
        demand(before.term === after.term && before.leader === after.leader,
          `term and leader were ${JSON.stringify(before)}, are ${JSON.stringify(after)}`);
      }
    },
  },
  {
    name: 'all are stopped in order and started again, under load',
    async run({ cluster, load, demand, rounds, remark }) {
      for (let i = 0; i < rounds; i++) {
        for (const node of [...cluster.nodes]) {
          await sleep(400);
          await node.stop();
          node.start();
          await until(`${node.name} is ready`, 15_000, () => node.isReady());
          await until(`${node.name} follows`, 15_000, async () => {
            const status = await node.status();
            return status?.leader && status.quorum.reachable === cluster.voters && !status.members.some((m) => m.lag_entries > 500);
          });
        }
      }
      const late = load.history.filter((op) => op.kind === 'append' && op.isLate);
      demand(late.length === 0, `${late.length} appends failed: ${late[0]?.why}`);
      remark(`${load.counts.attempts - load.history.filter((op) => op.kind === 'append').length} retries`);
    },
  },
  {
    name: 'the official client goes on while the leader is killed',
    load: { writers: 2, followers: 1 },
    run: throughTheClient,
  },
  {
    name: 'one more node joins with history while appends go on, and replaces a voter',
    async run({ cluster, load, demand, remark }) {
      const leader = await cluster.leader();
      const { token } = await command(leader, 'cluster', 'token');
      const began = performance.now();
      const added = await cluster.join(token, leader);
      await until('the new node has everything', 20_000, async () => {
        const [mine, its] = await Promise.all([leader.status(), added.status()]);
        return its && mine && mine.last_index - its.last_index < 200;
      });
      remark(`has the history after ${Math.round(performance.now() - began)} ms`);
      const [old] = others(cluster, leader);
      const number = (await old.status()).node;
      await command(leader, 'cluster', 'replace', String(number), String(added.id), '--yes');
      cluster.nodes = [...cluster.nodes.filter((node) => node !== old), added];
      await goesOn(load);
      const status = await (await cluster.leader()).status();
      const voters = status.members.filter((m) => m.role === 'voter').map((m) => m.node);
      demand(voters.length === cluster.voters && voters.includes(added.id) && !status.members.some((m) => m.node === number),
        `members are ${JSON.stringify(status.members.map((m) => [m.node, m.role]))}`);
      // Who was removed may not disturb those that are left, also when it is started again.
      const before = leaderOf(status);
      if (old.isRunning) await old.kill();
      old.start();
      await sleep(2000);
      const after = leaderOf(await (await cluster.leader()).status());
      demand(before.term === after.term, `the removed node disturbed: ${JSON.stringify(before)}, ${JSON.stringify(after)}`);
      if (old.isRunning) await old.kill();
      await goesOn(load);
    },
  },
  {
    name: 'a wiped node does not come back as the one it was',
    async run({ cluster, load, demand }) {
      const leader = await cluster.leader();
      const [victim] = others(cluster, leader);
      const number = (await victim.status()).node;
      cluster.nodes = others(cluster, victim); // clients do not use it while it is somebody else
      await victim.kill();
      victim.wipe();
      await goesOn(load);
      // Empty and without a token it is a node of its own, and no member.
      victim.start();
      await until('the empty node is ready', 10_000, () => victim.isReady());
      demand((await victim.status()).cluster !== (await leader.status()).cluster, 'an empty node is a member again');
      await victim.kill();
      victim.wipe();
      // Nor does it get in at the address of the member that is lost; at another port of its host it is a new node.
      const { token } = await command(leader, 'cluster', 'token', '--uses', '2');
      cluster.joinAs(victim, token, leader);
      const ended = await Promise.race([victim.exited, sleep(15_000)]);
      demand(ended?.code > 0, `a node at the address of another member was let in: ${JSON.stringify(ended)}`);
      victim.ends.length = 0;
      victim.wipe();
      victim.moveTo(victim.place.port + 1);
      cluster.joinAs(victim, token, leader);
      await until('it is ready', 20_000, () => victim.isReady());
      victim.id = (await victim.status()).node;
      demand(victim.id !== number, `it is node ${number} again`);
      await command(leader, 'cluster', 'replace', String(number), String(victim.id), '--yes');
      cluster.nodes.push(victim);
      await goesOn(load);
      const status = await (await cluster.leader()).status();
      demand(status.quorum.voters === cluster.voters && status.quorum.reachable === cluster.voters, status.quorum.text);
    },
  },
  {
    name: 'a node of another cluster is refused by name',
    async run({ cluster, load, demand, remark }) {
      const leader = await cluster.leader();
      const [victim] = others(cluster, leader);
      cluster.nodes = others(cluster, victim);
      await victim.kill();
      // A stranger where a member was: the others call there and find it.
      const stranger = new Node(victim.place, cluster.directory, 'stranger').start();
      try {
        await until('the stranger is ready', 10_000, () => stranger.isReady());
        await command(stranger, 'cluster', 'init', '--address', victim.peer);
        const told = await until('it is refused', 10_000, async () => {
          const status = await leader.status();
          return status?.refused.find((r) => /stranger|cluster|certificate/.test(r.why) && r.address.startsWith(victim.place.host)) ??
            status?.members.find((m) => /cluster|certificate/.test(m.problem) && m.address === victim.peer);
        });
        remark(`"${told.why ?? told.problem}"`);
        await goesOn(load);
      } finally {
        await stranger.kill();
      }
      victim.start();
      cluster.nodes.push(victim);
      await until('the member is back', 10_000, () => victim.isReady());
      const status = await leader.status();
      demand(status.members.length === cluster.voters, 'the stranger is a member');
    },
  },
];
