// Starts and ends real servers for tests of the whole program: a port chosen by the kernel, a data directory of its
// own, and nothing left running when the test ends, however it ends.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
/** The program under test: $NILO, or the one that test.sh builds. */
export const nilo = resolve(process.env.NILO ?? join(root, 'build', 'nilo'));

const STDERR_KEPT_MAX = 4 * 1024;
const running = new Set();
const directories = new Set();

function clean() {
  for (const child of running) child.kill('SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
}
process.on('exit', clean);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(1)); // which runs clean()
}

/** A directory that is gone after the test; $NILO_TEST_DIR chooses the disk. */
export function temporaryDirectory(name = 'nilo-test') {
  const directory = mkdtempSync(join(process.env.NILO_TEST_DIR ?? tmpdir(), `${name}-`));
  directories.add(directory);
  return directory;
}

/**
 * Starts a server and waits until it says where it listens. `data: null` leaves the directory to the server. Of what it writes
 * the last `keptMax` characters are kept.
 * Gives { port, url, pid, startedInMs, exited, stderr(), stop(), kill() }.
 */
export async function startServer({ data = temporaryDirectory(), port = 0, args = [], env = {}, withinMs = 20_000, keptMax = STDERR_KEPT_MAX } = {}) {
  const began = performance.now();
  const child = spawn(nilo, [...(data ? ['--data', data] : []), '--port', String(port), '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  running.add(child);
  let stderr = '';
  let stdout = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr = (stderr + text).slice(-keptMax);
  });
  const exited = new Promise((done) => {
    child.on('error', (error) => {
      running.delete(child);
      done({ code: null, signal: null, error });
    });
    child.on('exit', (code, signal) => {
      running.delete(child);
      done({ code, signal });
    });
  });

  const line = new Promise((done) => {
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (more) => {
      stdout = (stdout + more).slice(-keptMax);
      if (text === null) return; // read on, so that the server never waits for us
      text += more;
      const end = text.indexOf('\n');
      if (end >= 0) {
        done(text.slice(0, end));
        text = null;
      }
    });
  });
  let timer;
  const late = new Promise((done) => {
    timer = setTimeout(() => done({ late: true }), withinMs);
  });
  const first = await Promise.race([line, exited, late]);
  clearTimeout(timer);
  if (typeof first !== 'string') {
    child.kill('SIGKILL');
    const why = first.late ? `said nothing within ${withinMs} ms` : `ended with ${JSON.stringify(first)}`;
    throw Object.assign(new Error(`${nilo} ${why}\n${stderr}`), { exit: first, stderr });
  }
  const said = JSON.parse(first);
  const url = said.url ?? `http://127.0.0.1:${said.port}`;

  const end = async (signal, withinMs) => {
    if (running.has(child)) child.kill(signal);
    let timer;
    const result = await Promise.race([
      exited,
      new Promise((done) => {
        timer = setTimeout(() => done(null), withinMs);
      }),
    ]);
    clearTimeout(timer);
    if (!result) {
      child.kill('SIGKILL');
      throw new Error(`the server did not end within ${withinMs} ms of ${signal}\n${stderr}`);
    }
    return result;
  };
  return {
    data,
    port: said.port,
    url: url.replace(/\/$/, ''),
    said,
    pid: child.pid,
    startedInMs: performance.now() - began,
    exited,
    stderr: () => stderr,
    stdout: () => stdout,
    /** Asks it to stop in order; fails unless it ends with exit code 0. */
    async stop(withinMs = 15_000) {
      const { code, signal } = await end('SIGTERM', withinMs);
      if (code !== 0) throw new Error(`after SIGTERM the server ended with ${code ?? signal}\n${stderr}`);
    },
    /** kill -9: what a crash leaves behind. */
    kill: () => end('SIGKILL', 15_000),
  };
}
