// Holds a history against the logs of all nodes. What one log has to hold is judged by ../crash/check.mjs (C2-C9); here is
// what several nodes add:
//   equal       every node has the same log, byte for byte as it is served (C1)
//   committed   what a node showed, any time, is in the log at that place: nothing that was not committed, nothing from
//               before it was sent (C9, G9)
//   monotonic   one reader that asks one node twice does not see less the second time (G8)
//   token       a read that names a position sees what stands there, on any node (G8)
//   problem     what a client found out by itself

import { check } from '../crash/check.mjs';
import { request } from './http.mjs';

export const PAGE = 5000;

/** Everything from `position` on, as the lines that the node serves. */
export async function readLog(port, position) {
  const all = [];
  for (;;) {
    const { status, text } = await request(port, 'GET', `/v1/all/events?from=${position}&limit=${PAGE}`,
      { headers: { accept: 'application/x-ndjson' }, timeoutMs: 20_000 });
    if (status !== 200) throw new Error(`the log cannot be read from ${position}: ${status} ${text.slice(0, 200)}`);
    const lines = text.split('\n').filter(Boolean);
    if (lines.length === 0) return all;
    all.push(...lines);
    position = JSON.parse(lines.at(-1)).position + 1;
  }
}

/** `logs`: Map of a node's name to its lines. */
export function compare(logs) {
  const violations = [];
  const [[name, lines], ...others] = logs;
  for (const [other, theirs] of others) {
    const at = lines.findIndex((line, i) => line !== theirs[i]);
    if (at >= 0) violations.push(`equal: line ${at} of ${name} is ${lines[at].slice(0, 150)}, of ${other} ${String(theirs[at]).slice(0, 150)}`);
    else if (theirs.length !== lines.length) violations.push(`equal: ${name} has ${lines.length} events, ${other} ${theirs.length}`);
  }
  return violations;
}

function judgeSights(history, log) {
  const violations = [];
  const sent = new Map(); // id: when it was sent
  for (const op of history) if (op.kind === 'append') for (const id of op.ids) sent.set(id, op.invoke);
  const last = new Map(); // reader, node and life: what it saw last
  for (const op of history) {
    if (op.kind === 'problem') violations.push(`problem: ${op.text}`);
    if (op.kind === 'token' && op.revision < op.wanted) {
      violations.push(`token: ${op.node} was asked for ${op.stream} after revision ${op.wanted}, and showed ${op.revision}`);
    }
    if (op.kind !== 'seen') continue;
    if (log[op.position]?.id !== op.id) {
      violations.push(`committed: ${op.node} showed ${op.id} at position ${op.position}, where the log has ${log[op.position]?.id}`);
    } else if (sent.get(op.id) > op.complete) {
      violations.push(`committed: ${op.node} showed ${op.id} before it was sent`);
    }
    const key = `${op.reader}\0${op.node}\0${op.life}`;
    if (last.get(key) > op.position) {
      violations.push(`monotonic: ${op.node} showed position ${last.get(key)}, then to the same reader ${op.position}`);
    }
    last.set(key, op.position);
  }
  return violations;
}

export function judge(history, log) {
  return [...judgeSights(history, log), ...check(history, log)];
}
