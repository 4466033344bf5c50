// What every interop test begins with: a server, the official client, and ways to wait for subscriptions.

import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { KurrentDBClient, jsonEvent } from '@kurrent/kurrentdb-client';
import { startServer, temporaryDirectory } from '../lib/server.mjs';

export { startServer, temporaryDirectory };

export function connect(port, options = '') {
  return KurrentDBClient.connectionString(`kurrentdb://localhost:${port}?tls=false${options}`);
}

/** One server and one client for all tests of a file. Read .client and .server inside tests. */
export function onOneServer(options = {}) {
  const context = {};
  before(async () => {
    context.server = await startServer(options);
    context.client = connect(context.server.port);
  });
  after(async () => {
    await context.client?.dispose();
    await context.server?.stop();
  });
  return context;
}

let counter = 0;
/** A stream name that no other test uses. */
export const fresh = (category = 'test') => `${category}-${++counter}-${randomUUID().slice(0, 8)}`;

export const event = (n = 0, type = 'Happened') => jsonEvent({ type, data: { n } });
export const events = (count, type) => Array.from({ length: count }, (_, n) => event(n, type));

/**
 * The client writes by BatchAppend, except when a call carries credentials: then it uses Append. Over a plain
 * connection it keeps them to itself.
 */
export const writePaths = [
  { path: 'BatchAppend', with: {} },
  { path: 'Append', with: { credentials: { username: 'anybody', password: 'anything' } } },
];

export async function collect(iterable) {
  const all = [];
  for await (const item of iterable) all.push(item);
  return all;
}

export const numbers = (resolved) => resolved.map((r) => r.event.data.n);
export const revisions = (resolved) => resolved.map((r) => Number(r.event.revision));
export const ids = (resolved) => resolved.map((r) => r.event.id);

/** Fails unless `promise` is refused with a client error of this type; gives the error. */
export async function refused(promise, type) {
  try {
    await promise;
  } catch (error) {
    assert.equal(error.type, type, `another error: ${error.stack}`);
    return error;
  }
  assert.fail(`expected ${type}, but it succeeded`);
}

/** Records what a subscription says and lets a test wait for it. */
export function follow(subscription) {
  const seen = { events: [], caughtUp: [], error: null, confirmed: false, ended: false };
  let look = () => {};
  const note = (change) => (value) => {
    change(value);
    look();
  };
  subscription
    .on('data', note((resolved) => seen.events.push(resolved)))
    .on('caughtUp', note((info) => seen.caughtUp.push(info)))
    .on('confirmation', note(() => (seen.confirmed = true)))
    .on('error', note((error) => (seen.error = error)))
    .on('end', note(() => (seen.ended = true)));
  /** Waits until check(seen); an error of the subscription fails it unless `check` looks at seen.error itself. */
  seen.until = (what, check, withinMs = 15_000) =>
    new Promise((done, fail) => {
      const timer = setTimeout(() => {
        look = () => {};
        fail(new Error(`not within ${withinMs} ms: ${what} (${seen.events.length} events, ${seen.caughtUp.length} caughtUp)`));
      }, withinMs);
      look = () => {
        const good = check(seen);
        if (!good && !seen.error) return;
        clearTimeout(timer);
        look = () => {};
        if (good) done(seen);
        else fail(seen.error);
      };
      look();
    });
  seen.count = (n, withinMs) => seen.until(`${n} events`, (s) => s.events.length >= n, withinMs);
  seen.live = () => seen.until('caught up', (s) => s.caughtUp.length > 0);
  seen.end = async () => {
    look = () => {};
    await subscription.unsubscribe();
  };
  return seen;
}

export const settle = (ms) => new Promise((done) => setTimeout(done, ms));

/** Works until it does: what a client does whose node does not lead, or was lost. */
export async function patiently(work, withinMs = 15_000) {
  for (const began = Date.now(); ; await settle(50)) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() - began > withinMs) throw error;
    }
  }
}
