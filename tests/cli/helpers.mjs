// Runs commands of the program as a shell would: in a pipe, or on a terminal of its own.

import { spawn } from 'node:child_process';
import { join } from 'node:path';

import { nilo } from '../lib/server.mjs';

const WITHIN_MS = 60_000;
// Python's pty gives the command a terminal; its answer is everything that the terminal would show.
const ON_TERMINAL = ['python3', '-c', 'import os,pty,sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))'];

/**
 * Starts `nilo ARGS`. Gives { child, done } where done is { code, signal, stdout, stderr } when it has ended.
 * `onStdout` gets the text as it comes.
 */
export function start(args, { url, input, env = {}, cwd, terminal = false, onStdout, command = nilo } = {}) {
  const words = [...(terminal ? ON_TERMINAL : []), command, ...args];
  const child = spawn(words[0], words.slice(1), {
    cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, TERM: 'xterm', NO_COLOR: '1', ...(url ? { NILO_URL: url } : {}), ...env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
    onStdout?.(text, stdout);
  });
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  child.stdin.on('error', () => {}); // it may end without reading
  if (!terminal || input !== undefined) child.stdin.end(input ?? '');
  const done = new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`nilo ${args.join(' ')}: not ended within ${WITHIN_MS} ms\n${stdout.slice(-2000)}\n${stderr}`));
    }, WITHIN_MS);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      child.stdin.destroy();
      resolve({ code, signal, stdout, stderr });
    });
  });
  return { child, done, stdout: () => stdout, stderr: () => stderr };
}

export const run = (args, options) => start(args, options).done;
/** The same on a terminal: one text, with plain line ends. */
export const onTerminal = async (args, options) => {
  const { code, stdout } = await run(args, { ...options, terminal: true });
  return { code, text: stdout.replaceAll('\r\n', '\n') };
};
/** The lines of an answer in NDJSON. */
export const lines = ({ stdout }) => stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));

export async function until(condition, what, withinMs = 30_000) {
  for (const began = Date.now(); ; ) {
    const value = await condition();
    if (value) return value;
    if (Date.now() - began > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** Appends over HTTP: what the command line is compared with. */
export async function append(url, stream, events) {
  const answer = await fetch(`${url}/v1/streams/${encodeURIComponent(stream)}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(events),
  });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Every event of a stream, or of all streams but the system's whose names begin with `prefix`. */
export async function readAll(url, stream, prefix = '') {
  const path = stream ? `streams/${encodeURIComponent(stream)}/events` : `all/events?stream-prefix=${encodeURIComponent(prefix)}`;
  const answer = await fetch(`${url}/v1/${prefix || stream ? path : 'all/events'}`, { headers: { accept: 'application/x-ndjson' } });
  if (answer.status === 404) return [];
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  const events = (await answer.text()).split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return stream ? events : events.filter((event) => !event.stream.startsWith('$'));
}

/** The revision of a stream's last event, -1 if there is none. */
export async function lastRevision(url, stream) {
  const answer = await fetch(`${url}/v1/streams/${encodeURIComponent(stream)}`);
  return (await answer.json()).last_revision ?? -1;
}

export const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
