// Every `sh` block of the documentation that speaks to a server runs, in order, against a fresh one.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { nilo, startServer, temporaryDirectory } from '../lib/server.mjs';
import { root } from './helpers.mjs';

/** The blocks of code for a shell, with the line they begin in. */
function blocks(path) {
  const text = readFileSync(join(root, path), 'utf8');
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => ({
    code: match[1],
    at: `${path}:${text.slice(0, match.index).split('\n').length + 1}`,
    around: text.slice(match.index - 600, match.index + match[0].length + 600),
  }));
}

// Blocks that install or build, or start a server themselves.
const IS_SETUP = /^\s*(\.\/(run|test)\.sh|nilo( --[a-z-]+( \S+)?)*\s*(#.*)?$|nilo serve|apt-get|git clone|meson|docker)/m;

for (const path of ['README.md', 'docs/cli.md', 'docs/http.md', 'docs/subscriptions.md', 'docs/clients.md', 'docs/coming-from.md']) {
  test(`${path}: every command works as it is written`, { skip: existsSync(join(root, path)) ? false : 'not written yet' }, async () => {
    const here = temporaryDirectory('nilo-docs');
    const bin = join(here, 'bin');
    mkdirSync(bin);
    symlinkSync(nilo, join(bin, 'nilo'));
    const server = await startServer({ data: join(here, 'nilo-data') });
    const all = blocks(path).filter(({ code }) => !IS_SETUP.test(code));
    const atRest = all.filter(({ code }) => code.includes('nilo verify'));
    const shell = ({ code, at, around }) => {
      const { status, signal, stdout, stderr } = spawnSync('bash', ['-e', '-u', '-c', code.replaceAll(/(localhost|127\.0\.0\.1):2113/g, `127.0.0.1:${server.port}`)], {
        cwd: here,
        env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, NILO_URL: server.url },
        encoding: 'utf8',
        timeout: 30_000,
        input: '',
      });
      const said = `${at}: ${signal ?? `exit code ${status}`}\n${code}\n${stdout}\n${stderr}`;
      assert.equal(status, 0, said);
      // curl takes a refusal for a success; where the page shows one it says so beside it.
      for (const [, refusal] of stdout.matchAll(/"type":"urn:nilo:([a-z-]+)"/g)) assert.ok(/# .*refused/.test(code) || around.includes(refusal), said);
    };
    assert.ok(all.length > 1, `${all.length} blocks`);
    for (const block of all) if (!atRest.includes(block)) shell(block);
    await server.stop();
    for (const block of atRest) shell(block);
  });
}
