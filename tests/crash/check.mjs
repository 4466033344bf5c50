// Judges a history of appends, reads and deliveries against the log that was read back at the end. Linear in both.
//
// An operation: { kind: 'append', stream, expect, ids, invoke, complete, outcome, first, last, position, actual }
//   expect    'any' | 'none' | 'exists' | a revision
//   outcome   'ok' (with first, last: revisions; position: of the last event), 'rejected', 'conflict' (a refusal that
//             names `actual`, the stream's head, or -1), 'unknown'
//   invoke, complete   one clock for all; complete is Infinity while unknown
// A read of a stream's head: { kind: 'head', stream, revision (-1: none), invoke, complete }
// A delivery session: { kind: 'session', from (position), ids: [...] } of everything after `from`
// The log: [{ stream, revision, position, id }, ...] in the order in which it was read.
//
// Rules (docs/testing.md): each acknowledged event exactly once where it was said to be; the refused never; of the
// unknown all or nothing; no gap; expectations hold at the event's place; answers and reads agree with real time (G4, G5, G7).

export const VIOLATIONS_SHOWN_MAX = 20;

const isSystem = (stream) => stream.startsWith('$');

export function check(history, log) {
  const violations = [];
  const violation = (rule, text) => {
    if (violations.length < VIOLATIONS_SHOWN_MAX) violations.push(`${rule}: ${text}`);
    else if (violations.length === VIOLATIONS_SHOWN_MAX) violations.push('and more');
  };
  const appends = history.filter((op) => op.kind === 'append');

  // ---- the log by itself: positions and revisions without gap, ids once ----
  const heads = new Map(); // stream: last revision seen
  const places = new Map(); // stream + id: index in the log
  const streams = new Map(); // stream: [index in the log of each revision]
  log.forEach((event, index) => {
    if (event.position !== index) violation('gapless', `position ${event.position} stands where ${index} must be`);
    const expected = (heads.get(event.stream) ?? -1) + 1;
    if (event.revision !== expected) violation('gapless', `${event.stream}: revision ${event.revision} follows ${expected - 1}`);
    heads.set(event.stream, event.revision);
    const key = `${event.stream}\0${event.id}`;
    if (places.has(key)) violation('once', `${event.stream}: id ${event.id} at positions ${places.get(key)} and ${index}`);
    places.set(key, index);
    if (!streams.has(event.stream)) streams.set(event.stream, []);
    streams.get(event.stream).push(index);
  });

  // ---- each append against the log ----
  const owners = new Array(log.length); // which append wrote it
  const present = []; // appends that are in the log, with the index of their first event
  for (const op of appends) {
    const at = op.ids.map((id) => places.get(`${op.stream}\0${id}`));
    const found = at.filter((index) => index !== undefined).length;
    const name = `${op.stream} ${op.ids[0]} (${op.ids.length} events, ${op.outcome})`;
    if (op.outcome === 'rejected' || op.outcome === 'conflict') {
      if (found) violation('never', `${name}: refused, but ${found} of its events are in the log`);
      continue;
    }
    if (found === 0) {
      if (op.outcome === 'ok') violation('lost', `${name}: acknowledged at revision ${op.last}, position ${op.position}, and gone`);
      continue;
    }
    for (const index of at) {
      if (index !== undefined) owners[index] = op;
    }
    if (found < op.ids.length) {
      violation(op.outcome === 'ok' ? 'lost' : 'atomic', `${name}: only ${found} of its events are in the log`);
      continue;
    }
    if (at.some((index, i) => index !== at[0] + i)) {
      violation('atomic', `${name}: its events stand at ${at.join(', ')}`);
      continue;
    }
    present.push({ op, index: at[0] });
    const first = log[at[0]];
    const last = log[at.at(-1)];
    if (op.outcome === 'ok' && (op.first !== first.revision || op.last !== last.revision || op.position !== last.position)) {
      violation('place', `${name}: acknowledged at revisions ${op.first}-${op.last}, position ${op.position}; ` +
        `it is at ${first.revision}-${last.revision}, position ${last.position}`);
    }
    const holds = op.expect === 'any' || (op.expect === 'none' && first.revision === 0) ||
      (op.expect === 'exists' && first.revision > 0) || first.revision === op.expect + 1;
    if (!holds) violation('expectation', `${name}: expected ${op.expect}, written at revision ${first.revision}`);
  }
  log.forEach((event, index) => {
    if (!owners[index] && !isSystem(event.stream)) violation('foreign', `${event.stream}: ${event.id} at position ${index} was never sent`);
  });

  // ---- real time: what ended before another began stands before it ----
  present.sort((a, b) => a.index - b.index);
  let earliest = Infinity;
  for (let i = present.length - 1; i >= 0; i--) {
    const { op, index } = present[i];
    if (earliest < op.invoke) violation('time', `${op.stream} ${op.ids[0]} at position ${index} began after a later position was acknowledged`);
    earliest = Math.min(earliest, op.complete);
  }

  // ---- what was said about a stream's head, by a read or a conflict, was true at some moment of the call ----
  const timed = new Map(); // stream: for each revision, the latest invoke up to it and the earliest complete from it on
  for (const [stream, indexes] of streams) {
    const sent = indexes.map((index) => owners[index]?.invoke ?? -Infinity);
    const done = indexes.map((index) => owners[index]?.complete ?? Infinity);
    for (let r = 1; r < sent.length; r++) sent[r] = Math.max(sent[r], sent[r - 1]);
    for (let r = done.length - 2; r >= 0; r--) done[r] = Math.min(done[r], done[r + 1]);
    timed.set(stream, { sent, done });
  }
  const headWas = (rule, op, revision) => {
    const { sent, done } = timed.get(op.stream) ?? { sent: [], done: [] };
    if (revision >= sent.length) {
      violation(rule, `${op.stream}: said to be at revision ${revision}, which it never had`);
      return;
    }
    if (sent[revision] > op.complete) violation(rule, `${op.stream}: said to be at revision ${revision} before that was sent`);
    if (done[revision + 1] < op.invoke) {
      violation(rule, `${op.stream}: said to be at revision ${revision} after a later one was acknowledged`);
    }
  };
  for (const op of history) {
    if (op.kind === 'head') headWas('read', op, op.revision);
    if (op.kind === 'append' && op.outcome === 'conflict') {
      headWas('conflict', op, op.actual);
      const true_ = op.expect === 'none' ? op.actual === -1 : op.expect === 'exists' ? op.actual >= 0 : op.actual === op.expect;
      if (true_) violation('conflict', `${op.stream}: refused at ${op.actual}, which is what was expected`);
    }
  }

  // ---- deliveries: the log itself, from where they began ----
  for (const session of history.filter((op) => op.kind === 'session')) {
    session.ids.forEach((id, n) => {
      const event = log[session.from + 1 + n];
      if (event?.id !== id) violation('delivery', `after ${session.from}, number ${n}: delivered ${id}, the log has ${event?.id}`);
    });
  }
  return violations;
}
