// Clusters of real processes on loopback: how they begin, grow, change, lose nodes and get them back; what operators see.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { Cluster, freePort, post, status } from '../lib/cluster.mjs';
import { startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, onTerminal, readAll, run, start, until } from './helpers.mjs';

const cli = (node, args, options) => run(['cluster', ...args], { url: node.url, ...options });
/** Facts that the node still remembers; the stream has no end, so it is cut off. */
async function facts(node) {
  const found = [];
  const watch = start(['fact', 'watch', '--from-oldest', '--category', 'cluster,leadership'], { url: node.url });
  await new Promise((done) => setTimeout(done, 700));
  watch.child.kill('SIGINT');
  const { stdout } = await watch.done;
  for (const line of stdout.split('\n').filter(Boolean)) found.push(JSON.parse(line));
  return found;
}

// ---- before there is a cluster ----

test('a lone node says that it is one, and what would make it a cluster', async () => {
  const server = await startServer();
  const { code, text } = await onTerminal(['cluster', 'status'], { url: server.url });
  assert.equal(code, 0);
  assert.match(text, /one node, alone: `nilo cluster init` lets others join/);
  assert.match(text, /quorum +1 of 1 voter reachable: none may fail/);
  const token = await cli(server, ['token']);
  assert.equal(token.code, 3);
  assert.match(token.stderr, /nilo cluster init/);
  await server.stop();
});

test('init refuses what would be open to everybody, and can be asked what it would do', async () => {
  const server = await startServer();
  const open = await cli(server, ['init', '--address', `0.0.0.0:${await freePort()}`]);
  assert.equal(open.code, 2);
  assert.match(open.stderr, /--advertise HOST:PORT/);
  const insecure = await cli(server, ['init', '--address', `127.0.0.1:${await freePort()}`, '--dry-run']);
  assert.equal(insecure.code, 0);
  assert.equal((await status(server.url)).clustered, false);
  await server.stop();
});

for (const insecure of [false, true]) {
  test(`three nodes made from one, ${insecure ? 'without' : 'with'} TLS: what is written anywhere is read everywhere`, async () => {
    const cluster = new Cluster({ insecure });
    const first = await cluster.first();
    await append(first.url, 'before', [{ type: 'A', data: { n: 1 } }]);
    await cluster.join();
    await cluster.join();
    const dry = await cli(first, ['grow', '--dry-run']);
    assert.equal(dry.code, 0, dry.stderr);
    assert.match(dry.stdout, /make node 2 and 3 voters beside node 1/);
    const grown = await cli(first, ['grow', '--timeout', '30']);
    assert.equal(grown.code, 0, grown.stderr);
    const leader = await cluster.settled((s) => s.quorum.voters === 3 && s.quorum.reachable === 3);
    assert.equal(leader.insecure, insecure);
    assert.equal(leader.quorum.text, '3 of 3 voters reachable: 1 more may fail');
    for (const [i, node] of cluster.nodes.entries()) await append(node.url, 'after', [{ type: 'A', data: { n: i } }]);
    for (const node of cluster.nodes) {
      await until(async () => (await readAll(node.url, 'after')).length === 3, 'the node has everything');
      assert.equal((await readAll(node.url, 'before')).length, 1);
      assert.equal((await status(node.url)).members.length, 3);
    }
    await cluster.stop();
  });
}

// ---- one cluster for what follows ----

let cluster;
before(async () => {
  cluster = await new Cluster().three();
});
after(() => cluster?.stop());

const followers = () => cluster.nodes.filter((node) => node.name !== cluster.leaderName && node.server);

test('the status for people and for pipes', async () => {
  const { code, text } = await onTerminal(['cluster', 'status'], { url: cluster.nodes[1].url });
  assert.equal(code, 0);
  assert.match(text, /^cluster +[0-9a-f-]{36}\nquorum +3 of 3 voters reachable: 1 more may fail\nleader +node \d, term \d+/);
  assert.match(text, /\nNODE +NAME +ROLE +STATE +LAG/);
  assert.match(text, /\n2\* +n2 +voter +/);
  const [json] = lines(await cli(cluster.nodes[0], ['status']));
  assert.equal(json.members.filter((m) => m.leader).length, 1);
  const watch = start(['cluster', 'status', '--watch'], { url: cluster.nodes[0].url });
  await until(() => watch.stdout().split('\n').length > 2, 'the status again');
  watch.child.kill('SIGINT');
  assert.equal((await watch.done).code, 0);
});

test('clients of KurrentDB find all members, and who leads', async () => {
  for (const node of cluster.nodes) {
    const { members } = await (await fetch(`${node.url}/gossip`)).json();
    assert.deepEqual(members.map((m) => m.httpEndPointPort).sort(), cluster.nodes.map((n) => n.server.port).sort());
    assert.deepEqual(members.map((m) => m.state).sort(), ['Follower', 'Follower', 'Leader']);
    assert.ok(members.every((m) => m.isAlive));
    assert.equal(new Set(members.map((m) => m.instanceId)).size, 3);
  }
});

test('what only the leader does is sent there, and the command line goes along', async () => {
  const [follower] = followers();
  const answer = await fetch(`${follower.url}/v1/subscriptions?limit=3`, { redirect: 'manual' });
  assert.equal(answer.status, 307);
  assert.equal(answer.headers.get('location'), `${cluster.leader().url}/v1/subscriptions?limit=3`);
  const made = await run(['sub', 'create', 'sent-on', 'g'], { url: follower.url });
  assert.equal(made.code, 0, made.stderr);
  const write = await fetch(`${follower.url}/v1/streams/sent-on/events`, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'content-type': 'application/json', 'requires-leader': 'true' },
    body: '[{"type":"A","data":{}}]',
  });
  assert.equal(write.status, 307);
  assert.equal((await run(['stream', 'append', 'sent-on', 'A', '{}'], { url: follower.url })).code, 0);
});

test('what the cluster does not allow is refused with the reason, before anything is done', async () => {
  const [follower] = followers();
  const { node } = await status(follower.url);
  const dry = await cli(follower, ['remove', String(node), '--dry-run']);
  assert.equal(dry.code, 3);
  assert.match(dry.stderr, /three voters are the fewest/);
  const real = await cli(follower, ['remove', String(node), '--yes']);
  assert.equal(real.code, 3);
  assert.match(real.stderr, /three voters are the fewest/);
  assert.match((await cli(follower, ['promote', '9'])).stderr, /node 9 is no member/);
  assert.equal((await cli(follower, ['remove', String(node)])).code, 2); // nobody was asked
  assert.equal((await status(follower.url)).quorum.voters, 3);
});

test('leadership is handed over on command', async () => {
  const [follower] = followers();
  const { node } = await status(follower.url);
  const answer = await cli(cluster.nodes.at(-1), ['transfer', String(node)]);
  assert.equal(answer.code, 0, answer.stderr);
  assert.match(answer.stdout, /hand leadership to node/);
  const leader = await cluster.settled((s) => s.node === node);
  assert.equal(leader.name, follower.name);
});

test('tokens: listed without their secret, used up, revoked, refused by name', async () => {
  const [made] = lines(await cli(cluster.nodes[0], ['token', '--uses', '2', '--expires', '10m']));
  assert.equal(made.expires_s, 600);
  const listed = lines(await cli(cluster.nodes[1], ['tokens']))[0].tokens.find((t) => t.id === made.id);
  assert.deepEqual([listed.uses, listed.used, listed.open], [2, 0, true]);
  assert.ok(!JSON.stringify(listed).includes(made.token));
  assert.equal((await cli(cluster.nodes[1], ['revoke', made.id])).code, 0);
  assert.equal((await cli(cluster.nodes[1], ['revoke', 'ffffffffffffffff'])).code, 4);
  const seed = `127.0.0.1:${cluster.nodes[0].peerPort}`;
  const joinWith = (token, data = join(temporaryDirectory(), 'd')) =>
    run(['cluster', 'join', seed, '--token', token, '--data', data, '--port', '0', '--peer-port', String(cluster.nodes[0].peerPort)]);
  const revoked = await joinWith(made.token);
  assert.equal(revoked.code, 64);
  assert.match(revoked.stderr, /the token is unknown here, used up, expired or revoked/);
  assert.match((await joinWith(made.token.slice(0, -1) + (made.token.endsWith('a') ? 'b' : 'a'))).stderr, /a letter of it is wrong/);
  const lone = await startServer();
  await lone.stop();
  const used = await joinWith(made.token, lone.data);
  assert.equal(used.code, 64);
  assert.match(used.stderr, /has data of its own; a node joins with an empty directory/);
});

test('a follower that is lost is noticed within two seconds, and back without a flag', async () => {
  const [follower] = followers();
  const { node } = await status(follower.url);
  await cluster.kill(follower);
  const began = Date.now();
  await until(async () => (await status(cluster.leader().url)).members.find((m) => m.node === node).failed, 'the loss is noticed', 5000);
  assert.ok(Date.now() - began < 2500, `${Date.now() - began} ms`);
  assert.equal((await status(cluster.leader().url)).quorum.text, '2 of 3 voters reachable: none may fail');
  await append(cluster.leader().url, 'while-away', [{ type: 'A', data: {} }]);
  await cluster.restart(follower);
  await cluster.settled((s) => s.quorum.reachable === 3);
  await until(async () => (await readAll(follower.url, 'while-away')).length === 1, 'it has what it missed');
  const told = (await facts(cluster.leader())).filter((f) => JSON.stringify(f).includes(follower.name)).map((f) => f.type);
  for (const type of ['node_discovered', 'node_failure_detected', 'node_recovered']) assert.ok(told.includes(type), `${type} in ${told}`);
});

test('a leader that is lost is replaced, and nothing acknowledged is lost (G2, G21)', async () => {
  const old = cluster.leader();
  const acknowledged = [];
  for (let i = 0; i < 20; i++) acknowledged.push((await append(old.url, 'survives', [{ type: 'A', data: { i } }])).last_revision);
  await cluster.kill(old);
  const [other] = cluster.running();
  const began = Date.now();
  await until(async () => (await run(['stream', 'append', 'survives', 'A', '{"i":20}'], { url: other.url })).code === 0, 'a new leader', 15_000);
  assert.ok(Date.now() - began < 10_000);
  await cluster.settled((s) => s.quorum.reachable === 2);
  const read = await readAll(cluster.leader().url, 'survives');
  assert.deepEqual(read.slice(0, 20).map((e) => e.data.i), acknowledged);
  const types = (await facts(cluster.leader())).map((f) => f.type);
  for (const type of ['leader_lost', 'leader_changed', 'leadership_duties_assumed']) assert.ok(types.includes(type), `${type} in ${types}`);
  await cluster.restart(old);
  await cluster.settled((s) => s.quorum.reachable === 3);
});

test('an orderly stop of the leader hands over first', async () => {
  const old = cluster.leader();
  await cluster.stopNode(old);
  const [other] = cluster.running();
  const written = await run(['stream', 'append', 'handed-over', 'A', '{}'], { url: other.url });
  assert.equal(written.code, 0, written.stderr);
  await cluster.restart(old);
  await cluster.settled((s) => s.quorum.reachable === 3);
});

test('a node is replaced by another while events are written', async () => {
  const fourth = await cluster.join();
  const { node: fourthId } = await status(fourth.url);
  const old = cluster.leader();
  const { node: oldId } = await status(old.url);
  let writing = true;
  let written = 0;
  const writer = (async () => {
    while (writing) {
      const [other] = cluster.running().filter((n) => n !== old);
      if ((await run(['stream', 'append', 'replaced', 'A', `{"n":${written}}`], { url: other.url })).code === 0) written++;
    }
  })();
  const dry = await cli(fourth, ['replace', String(oldId), String(fourthId), '--dry-run']);
  assert.equal(dry.code, 0, dry.stderr);
  assert.deepEqual(lines(dry)[0].steps, [`make node ${fourthId} a voter`, `hand leadership to node ${fourthId}`, `make node ${oldId} a stand-by`, `remove node ${oldId}`]);
  const done = await cli(fourth, ['replace', String(oldId), String(fourthId), '--yes', '--timeout', '40']);
  writing = false;
  await writer;
  assert.equal(done.code, 0, done.stderr);
  const members = (await status(fourth.url)).members;
  assert.deepEqual(members.map((m) => [m.node, m.role]).filter(([n]) => n === oldId || n === fourthId), [[fourthId, 'voter']]);
  assert.equal(members.filter((m) => m.role === 'voter').length, 3);
  assert.ok((await readAll(fourth.url, 'replaced')).length >= written);
  // Who was removed finds out why nobody talks to it any more.
  await until(async () => (await status(old.url)).refused.some((r) => /is no member of this cluster/.test(r.why)), 'the removed node is told', 10_000);
  // It may come back: as a stand-by, with the data that it has.
  const back = await cli(fourth, ['add', String(oldId), `127.0.0.1:${old.peerPort}`, '--timeout', '20']);
  assert.equal(back.code, 0, back.stderr);
  await until(async () => (await status(old.url)).members.length === 4, 'it is a member again', 10_000);
  await until(async () => (await readAll(old.url, 'replaced')).length >= written, 'it has what it missed', 10_000);
  assert.equal((await cli(fourth, ['remove', String(oldId), '--yes', '--timeout', '20'])).code, 0);
  await cluster.kill(old);
});

test('a stand-by serves reads, and leaves when it is told to', async () => {
  const fifth = await cluster.join();
  await append(cluster.leader().url, 'for-stand-bys', [{ type: 'A', data: {} }]);
  await until(async () => (await readAll(fifth.url, 'for-stand-bys')).length === 1, 'the stand-by has it');
  const { members } = await (await fetch(`${fifth.url}/gossip`)).json();
  assert.equal(members.find((m) => m.httpEndPointPort === fifth.server.port).state, 'ReadOnlyReplica');
  const left = await cli(fifth, ['leave', '--yes', '--timeout', '20']);
  assert.equal(left.code, 0, left.stderr);
  await cluster.kill(fifth);
  await cluster.settled((s) => s.members.length === 3);
});

test('a member that moves to another address is found again', async () => {
  const [follower] = followers();
  const { node } = await status(follower.url);
  await cluster.stopNode(follower);
  const peerPort = await freePort();
  await cluster.restart(follower, ['--peer-port', String(peerPort)]);
  await cluster.settled((s) => s.members.find((m) => m.node === node).address === `127.0.0.1:${peerPort}`);
  follower.peerPort = peerPort;
});

test('all nodes down at once, and up in any order: one cluster, with everything (G2)', async () => {
  const written = await append(cluster.leader().url, 'cold', [{ type: 'A', data: {} }]);
  const nodes = cluster.running();
  assert.equal(nodes.length, 3);
  await Promise.all(nodes.map((node) => cluster.kill(node)));
  await Promise.all([...nodes].reverse().map((node) => cluster.restart(node)));
  await cluster.settled((s) => s.quorum.reachable === 3);
  assert.equal((await readAll(cluster.leader().url, 'cold')).length, written.last_revision + 1);
});

test('a token of another cluster opens nothing here', async () => {
  const other = new Cluster();
  await other.first();
  const [leader] = cluster.running();
  // It asks to join, with a token of its own cluster, at ours.
  const data = join(temporaryDirectory(), 'd');
  const token = await other.token();
  const asking = start(['cluster', 'join', `127.0.0.1:${leader.peerPort}`, '--token', token, '--data', data, '--port', '0', '--peer-port', String(await freePort())]);
  // No waiting makes it fit: it ends by itself, at once, and says what does not fit.
  const { code } = await asking.done;
  await other.stop();
  assert.equal(code, 64, asking.stderr());
  assert.match(asking.stderr(), /another cluster|CA/);
});

test('nilo cluster demo: three nodes on one command, gone with it', async () => {
  const port = 20_000 + 1000 * Math.floor(Math.random() * 20) + Math.floor(Math.random() * 90) + 2;
  const data = join(temporaryDirectory(), 'demo');
  for (const round of [1, 2]) {
    const demo = start(['cluster', 'demo', '--data', data, '--port', String(port)]);
    await until(() => demo.stdout().includes('\n') || demo.child.exitCode !== null, 'it says where they are');
    const { nodes } = JSON.parse(demo.stdout().split('\n')[0]);
    assert.equal((await status(nodes[2].url)).quorum.text, '3 of 3 voters reachable: 1 more may fail');
    await append(nodes[round].url, 'demo', [{ type: 'A', data: {} }]);
    process.kill(nodes[0].pid, 'SIGKILL');
    await until(() => /node n1 was ended by signal 9/.test(demo.stderr()), 'the loss is told');
    demo.child.kill('SIGINT');
    assert.equal((await demo.done).code, 0, demo.stderr());
    for (const { pid } of nodes) assert.throws(() => process.kill(pid, 0), `process ${pid} is left`);
  }
});
