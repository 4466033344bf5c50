// Every `sh` block of docs/cluster.md, in order: lines that start a server run beside the others, on ports of their own.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { freePort, status } from '../lib/cluster.mjs';
import { nilo, temporaryDirectory } from '../lib/server.mjs';
import { root, until } from './helpers.mjs';

const page = join(root, 'docs/cluster.md');
const here = temporaryDirectory('nilo-cluster-docs');
const servers = [];
after(() => servers.forEach((server) => server.kill('SIGKILL')));

const isServer = (code) => /^nilo (--data|cluster join)/.test(code);

test('docs/cluster.md: every command works as it is written', { timeout: 150_000 }, async () => {
  const bin = join(here, 'bin');
  mkdirSync(bin);
  if (!existsSync(join(bin, 'nilo'))) symlinkSync(nilo, join(bin, 'nilo'));
  const ports = {};
  for (const port of ['2112', '2113', '2212', '2213', '2312', '2313', '2412', '2413']) ports[port] = await freePort();
  const text = readFileSync(page, 'utf8');
  const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => ({ code: match[1], at: text.slice(0, match.index).split('\n').length + 1 }));
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, NILO_URL: `http://127.0.0.1:${ports['2113']}`, NO_COLOR: '1' };
  let token;
  assert.ok(blocks.length > 8, `${blocks.length} blocks`);
  for (const { code: written, at } of blocks) {
    if (/cluster demo$/m.test(written)) continue; // it has a test of its own
    const code = written.replace(/\b2[1-4]1[23]\b/g, (port) => ports[port]).replace('TOKEN', token);
    if (isServer(code)) {
      // What the page leaves to the defaults of one machine for each node.
      const line = /--port/.test(code) ? code : `${code.trimEnd()} --port ${ports['2113']} --peer-port ${ports['2112']}`;
      const server = spawn('bash', ['-c', `exec ${line}`], { cwd: here, env, stdio: ['ignore', 'pipe', 'pipe'] });
      servers.push(server);
      let said = '';
      server.stderr.on('data', (more) => (said += more));
      server.stdout.resume();
      const [, port] = /--port (\d+)/.exec(line);
      await until(async () => {
        assert.equal(server.exitCode, null, `line ${at}: ${line}\n${said}`);
        return (await fetch(`http://127.0.0.1:${port}/health/live`).catch(() => ({}))).status === 204;
      }, `line ${at}: the server is ready`);
      continue;
    }
    const { status: exit, signal, stdout, stderr } = spawnSync('bash', ['-e', '-u', '-c', code], { cwd: here, env, encoding: 'utf8', timeout: 60_000, input: '' });
    assert.equal(exit, 0, `line ${at}: ${signal ?? exit}\n${code}\n${stdout}\n${stderr}`);
    assert.ok(!/"type":"urn:nilo/.test(stdout), `line ${at}: ${stdout}`);
    token = /"token":"([^"]+)"/.exec(stdout)?.[1] ?? token;
  }
  const { members } = await status(env.NILO_URL);
  assert.deepEqual(members.map((m) => [m.node, m.role]), [[1, 'voter'], [2, 'voter'], [4, 'voter']]);
});
