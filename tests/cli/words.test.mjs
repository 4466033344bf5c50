// What is made of the table of commands works in the shells and readers it is made for; and the commands that look at a machine
// and at configurations, with a server and without.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { nilo, startServer, temporaryDirectory } from '../lib/server.mjs';
import { append, lines, onTerminal, run } from './helpers.mjs';

const here = temporaryDirectory('nilo-words');
const bin = join(here, 'bin');
let server;
const cli = (args, options) => run(args, { url: server.url, cwd: here, env: { XDG_CONFIG_HOME: here }, ...options });
const shell = (command, script, env = {}) => spawnSync(command[0], [...command.slice(1), script], {
  cwd: here,
  encoding: 'utf8',
  timeout: 20_000,
  env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, HOME: here, XDG_CONFIG_HOME: here, NILO_URL: server.url, ...env },
});
const without = (program) => (spawnSync('sh', ['-c', `command -v ${program}`]).status === 0 ? false : `no ${program} here`);

before(async () => {
  mkdirSync(bin);
  symlinkSync(nilo, join(bin, 'nilo'));
  server = await startServer();
  for (const name of ['order-1', 'order-2', 'cart 7', "it's"]) await append(server.url, name, [{ type: 'A', data: {} }]);
  await run(['sub', 'create', 'order-1', 'mail'], { url: server.url });
  await run(['context', 'add', 'prod', server.url], { env: { XDG_CONFIG_HOME: here } });
});
after(() => server?.stop());

// ---- completion ----

/** What a shell offers for a line that ends where the cursor is. */
const bash = (line) => {
  const words = line.split(' ');
  const { stdout, stderr } = shell(['bash', '-u', '-c'], `
    source <(nilo completion bash)
    compopt() { :; }
    COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
    _nilo; printf '%s\\n' "\${COMPREPLY[@]}"`);
  assert.equal(stderr, '', line);
  return stdout.split('\n').filter(Boolean);
};
const fish = (line) => {
  const { stdout, stderr } = shell(['fish', '--no-config', '-c'], `nilo completion fish | source; complete -C '${line}'`);
  assert.equal(stderr, '', line);
  return stdout.split('\n').filter(Boolean).map((offer) => offer.split('\t')[0]);
};
// A terminal for zsh, whose completion needs one; what it offers stands in a line of its own.
const zsh = (line) => {
  const keys = `autoload -Uz compinit; compinit -u -D; eval "$(nilo completion zsh)"\\n`;
  const { stdout } = shell(['python3', '-c'], `
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(PS1='> ', TERM='dumb', COLUMNS='200')
    os.execvp('zsh', ['zsh', '-f', '-i'])
def told(wait):
    out, end = b'', time.time() + wait
    while time.time() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try: out += os.read(fd, 65536)
            except OSError: break
    return out.decode(errors='replace')
os.write(fd, b'''${keys}'''); told(1.5)
os.write(fd, b'''${line}\\t\\t'''); print(told(1.5)); os.write(fd, b'\\x03exit\\n')`);
  return stdout.split(/[\s\r]+/).filter(Boolean);
};

for (const [name, offers] of Object.entries({ bash, fish, zsh })) {
  test(`completion in ${name}: nouns, verbs, flags, and names that the server knows`, { skip: without(name) }, () => {
    const has = (line, ...expected) => {
      const offered = offers(line);
      for (const offer of expected) assert.ok(offered.some((word) => word.startsWith(offer)), `${line}: ${offer} is not in ${offered}`);
    };
    has('nilo co', 'config', 'context', 'completion');
    has('nilo stream ', 'append', 'tail', 'truncate');
    has('nilo stream append --', '--expect', '--metadata', '--ca-file');
    has('nilo stream append order', 'order-1', 'order-2');
    has('nilo context use ', 'prod');
    has('nilo log level g', 'gateway');
    if (name !== 'zsh') {
      has('nilo sub show order-1 ', 'mail');
      has('nilo stream read --limit 3 order', 'order-1');
      has('nilo verify ', ...(name === 'bash' ? ['bin'] : []));
    }
  });
}

test('completion in bash takes names with blanks and quotes as one word each', () => {
  assert.deepEqual(bash('nilo stream show cart'), ['cart\\ 7']);
  assert.deepEqual(bash('nilo stream show it'), ["it\\'s"]);
  assert.deepEqual(bash('nilo stream read $a'), ['\\$all']);
  assert.deepEqual(bash('nilo stream read --limit '), []);
  assert.ok(bash('nilo serve --po').includes('--port'));
});

test('completion gives up after a second, and says nothing', async () => {
  const silent = net.createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((done) => silent.once('listening', done));
  const began = Date.now();
  const { stdout, stderr } = await run(['completion', 'names', 'streams', 'o'], { url: `http://127.0.0.1:${silent.address().port}` });
  silent.close();
  silent.unref();
  assert.ok(Date.now() - began < 3000, `${Date.now() - began} ms`);
  assert.equal(stdout + stderr, '');
});

// ---- the manual ----

test('the man page is one that man takes without a warning', { skip: without('man') }, async () => {
  writeFileSync(join(here, 'nilo.1'), (await cli(['help', '--man'])).stdout);
  const { status, stdout, stderr } = shell(['sh', '-c'], 'MANWIDTH=100 man --warnings -P cat -l nilo.1');
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  assert.match(stdout, /nilo stream append STREAM TYPE \[DATA\]/);
  assert.match(stdout, /NILO_PASSWORD/);
});

// ---- configuration ----

test('config check shows what a start would use, and every problem at once', async () => {
  writeFileSync(join(here, 'good.yaml'), 'memory: 64MiB\nlog-format: json\n');
  const good = await run(['config', 'check', 'good.yaml', '--port', '7'], { cwd: here, env: { NILO_SYNC: 'lane' } });
  assert.equal(good.code, 0, good.stderr);
  const of = Object.fromEntries(lines(good).map(({ name, value, source }) => [name, [value, source]]));
  assert.deepEqual([of.memory, of['log-format'], of.port, of.sync], [[64 << 20, 'file'], ['json', 'file'], [7, 'flag'], ['lane', 'environment']]);
  writeFileSync(join(here, 'bad.yaml'), 'memroy: 64MiB\nport: 70000\n');
  const bad = await run(['config', 'check', 'bad.yaml', '--sync', 'never'], { cwd: here });
  assert.equal(bad.code, 2);
  for (const problem of [/bad\.yaml:1: memroy: unknown key; nearest is memory/, /bad\.yaml:2: port: "70000"/, /--sync: "never"/]) assert.match(bad.stderr, problem);
  assert.equal((await run(['config', 'check', 'absent.yaml'], { cwd: here })).code, 2);
  assert.match((await run(['config', 'check', '--help'], { cwd: here })).stdout, /nilo config check \[FILE\]/);
});

test('what the command line takes from the environment does not keep a server from starting', async () => {
  const env = Object.fromEntries(['URL', 'CONTEXT', 'LOGIN', 'PASSWORD', 'NEW_PASSWORD', 'TOKEN', 'CA_FILE', 'CERT_FILE', 'KEY_FILE'].map((name) => [`NILO_${name}`, 'x']));
  const { code, stderr } = await run(['config', 'check'], { cwd: here, env });
  assert.equal(code, 0, stderr);
});

// ---- doctor ----

const byName = (answer) => Object.fromEntries(lines(answer).map((check) => [check.check, check]));

test('doctor looks at a server, its disk and its machine', async () => {
  const answer = await cli(['doctor', server.data]);
  const checks = byName(answer);
  for (const check of lines(answer)) {
    assert.deepEqual(Object.keys(check), ['check', 'verdict', 'found', 'advice']);
    assert.ok(['ok', 'warn', 'fail'].includes(check.verdict));
    assert.equal(check.advice === '', check.verdict === 'ok', JSON.stringify(check));
  }
  for (const name of ['server', 'server disk', 'cluster', 'data directory', 'file system', 'disk space', 'sync', 'clock', 'open files', 'core dumps', 'memory']) {
    assert.ok(checks[name], name);
  }
  assert.equal(checks.server.verdict, 'ok');
  assert.match(checks.sync.found, /median [0-9.]+ ms/);
  assert.equal(answer.code, lines(answer).some(({ verdict }) => verdict === 'fail') ? 1 : 0);
  const { text } = await onTerminal(['doctor', server.data], { url: server.url });
  assert.match(text, /^server +ok +http/m);
  assert.match(text, /\d+ ok, \d+ to look at, \d+ wrong/);
});

test('doctor works before the first start, and leaves nothing behind', async () => {
  const empty = join(here, 'empty');
  mkdirSync(empty, { mode: 0o700 });
  const checks = byName(await run(['doctor', join(empty, 'data')], { env: { NILO_URL: '', XDG_CONFIG_HOME: here, NILO_CONTEXT: '', HOME: here }, cwd: empty }));
  assert.match(checks['data directory'].found, /is not there yet/);
  assert.equal(spawnSync('ls', ['-A', empty], { encoding: 'utf8' }).stdout, '');
});

test('doctor finds what is wrong: a server that was named and is not there, memory for a disk, an open directory', async () => {
  const gone = await run(['doctor', here, '--url', 'http://127.0.0.1:1']);
  assert.equal(gone.code, 1);
  assert.equal(byName(gone).server.verdict, 'fail');
  const open = join(here, 'open');
  mkdirSync(open);
  chmodSync(open, 0o755);
  assert.equal(byName(await cli(['doctor', open]))['data directory'].verdict, 'warn');
  if (spawnSync('sh', ['-c', 'stat -f -c %T /dev/shm'], { encoding: 'utf8' }).stdout.trim() === 'tmpfs') {
    const memory = await cli(['doctor', '/dev/shm']);
    assert.equal(memory.code, 1);
    assert.equal(byName(memory)['file system'].verdict, 'fail');
  }
});
