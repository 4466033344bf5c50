// What the tests of persistent subscriptions share: settings, and consumers that do as they are told.

import { PARK, RETRY, SKIP, START, STOP, binaryEvent, persistentSubscriptionToAllSettingsFromDefaults, persistentSubscriptionToStreamSettingsFromDefaults } from '@kurrent/kurrentdb-client';
import { collect, follow } from './helpers.mjs';

export const settings = (changes = {}) => persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: START, ...changes });
export const settingsOfAll = (changes = {}) => persistentSubscriptionToAllSettingsFromDefaults({ startFrom: START, ...changes });

export const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
export const link = (stream, revision) => binaryEvent({ type: '$>', data: Buffer.from(`${revision}@${stream}`) });
export const idOf = (resolved) => (resolved.link ?? resolved.event).id;

const actions = { park: PARK, retry: RETRY, skip: SKIP, stop: STOP };

/**
 * Follows a persistent subscription and answers each message with what `decide(resolved, n)` says: 'ack', 'park', 'retry',
 * 'skip', 'stop', or null for no answer. .events are all deliveries, .acked the ones that were acknowledged.
 */
export function consume(subscription, decide = () => 'ack', reason = 'as told') {
  const seen = follow(subscription);
  seen.acked = [];
  seen.subscription = subscription;
  subscription.on('data', async (resolved) => {
    const what = await decide(resolved, seen.events.length - 1);
    if (!what) return;
    try {
      if (what === 'ack') {
        seen.acked.push(resolved);
        await subscription.ack(resolved);
      } else {
        await subscription.nack(actions[what], reason, resolved);
      }
    } catch {
      // The subscription has ended meanwhile, which is seen elsewhere.
    }
  });
  seen.confirmation = () => seen.until('confirmation', (s) => s.confirmed);
  seen.failure = async (withinMs) => (await seen.until('an error', (s) => s.error, withinMs)).error;
  return seen;
}

/** A consumer of `group` of `stream`, once it is confirmed. */
export async function join(client, stream, group, decide, { bufferSize = 10, reason } = {}) {
  const seen = consume(client.subscribeToPersistentSubscriptionToStream(stream, group, { bufferSize }), decide, reason);
  await seen.confirmation();
  return seen;
}

export async function joinAll(client, group, decide, { bufferSize = 10, reason } = {}) {
  const seen = consume(client.subscribeToPersistentSubscriptionToAll(group, { bufferSize }), decide, reason);
  await seen.confirmation();
  return seen;
}

export const parkedStream = (stream, group) => `$persistentsubscription-${stream}::${group}-parked`;
export const parked = (client, stream, group) => collect(client.readStream(parkedStream(stream, group)));

/** Waits until check(await look()) holds; gives what look() gave. */
export async function eventually(what, look, check, withinMs = 10_000) {
  const end = Date.now() + withinMs;
  for (;;) {
    const value = await look();
    if (check(value)) return value;
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}; at last ${show(value)}`);
    await new Promise((done) => setTimeout(done, 25));
  }
}
const show = (value) => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))?.slice(0, 600);
