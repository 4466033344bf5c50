// The clients of a test: writers, readers and followers that use any node, go on to the next when one does not answer, and note
// every answer in a history that judge.mjs holds against the logs. What an answer is (G3): 2xx, it is in the log; a definite
// refusal, it is not and never will be, so it may be tried again; all else is unknown, and tried again with the same ids.

import { randomUUID } from 'node:crypto';
import { follow, request } from './http.mjs';
import { sleep } from './nodes.mjs';

const ATTEMPT_MS = 1500;
const SERVER_MS = 1200; // when a server is to say "unknown"
const READ_MS = 1000;
const LONG_READ_MS = 5000; // outlasts the longest pause: what a leader says after it is what matters
const SHARED_STREAMS = 12;
const CONTESTED_STREAMS = 3;

export const generator = (seed) => {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
};

export class Load {
  history = [];
  counts = { ok: 0, conflict: 0, rejected: 0, unknown: 0, attempts: 0, seen: 0, heads: 0, tokens: 0, sessions: 0 };
  heads = new Map();
  followers = [];
  #work = [];
  #isOver = false;
  #lastOk = performance.now();
  longestGapMs = 0; // between two acknowledgements, while the load was on

  constructor(cluster, { seed = 1, writers = 12, readers = 8, followers = 2, deadlineMs = 10_000, pauseMs = 1 } = {}) {
    Object.assign(this, { cluster, deadlineMs, pauseMs, random: generator(seed), sizes: { writers, readers, followers } });
  }

  start(end = 0) {
    this.#isOver = false;
    this.#lastOk = performance.now();
    for (let i = 0; i < this.sizes.writers; i++) this.#work.push(this.#writer(i));
    for (let i = 0; i < this.sizes.readers; i++) this.#work.push(this.#reader(i));
    for (let i = 0; i < this.sizes.followers; i++) this.#follow(end - 1, i);
    return this;
  }

  /** Nothing new is begun; gives when every answer has come. Followers go on. */
  async quiet() {
    this.#isOver = true;
    await Promise.all(this.#work.splice(0));
  }

  /** Once followers have everything up to (not including) this position. */
  async stop(end) {
    await this.quiet();
    const late = performance.now() + 10_000;
    while (performance.now() < late && this.followers.some((f) => f.last < end - 1)) await sleep(20);
    for (const follower of this.followers) {
      follower.isOver = true;
      follower.stop();
      if (follower.last < end - 1) {
        this.history.push({ kind: 'problem', text: `a follower got no further than position ${follower.last} of ${end - 1}` });
      }
    }
    await Promise.all(this.followers.splice(0).map((f) => f.ended));
  }

  #node(n = this.random(this.cluster.nodes.length)) {
    return this.cluster.nodes[n % this.cluster.nodes.length];
  }

  // ---- appends ----

  /** One attempt: { outcome, ... } in the words of the checker, `refused` when it may be tried again. */
  async #attempt(node, op) {
    this.counts.attempts++;
    const options = {
      headers: { 'content-type': 'application/json', 'nilo-expect': String(op.expect) },
      body: op.body,
      timeoutMs: ATTEMPT_MS,
    };
    const path = `/v1/streams/${encodeURIComponent(op.stream)}/events?timeout-ms=${SERVER_MS}`;
    try {
      let answer = await request(node.port, 'POST', path, options);
      if (answer.status === 307) {
        const to = new URL(answer.headers.location);
        answer = await request(Number(to.port), 'POST', to.pathname + to.search, options);
      }
      const said = JSON.parse(answer.text);
      if (answer.status === 201 || answer.status === 200) {
        return { outcome: 'ok', first: said.first_revision, last: said.last_revision, position: said.position };
      }
      if (answer.status === 409) return { outcome: 'conflict', actual: said.actual };
      if (answer.status === 504) return { outcome: 'unknown' };
      if (answer.status >= 400) return { outcome: answer.status < 500 ? 'rejected' : 'refused', why: answer.text };
      return { outcome: 'unknown', why: `status ${answer.status}` };
    } catch (error) {
      return { outcome: 'unknown', why: error.message };
    }
  }

  /** Until it is decided or the deadline passes. Same ids in every attempt. */
  async append(op, number) {
    const end = performance.now() + this.deadlineMs;
    let at = number;
    let isInDoubt = false;
    op.invoke = performance.now();
    for (;;) {
      const said = await this.#attempt(this.#node(at), op);
      if (said.outcome === 'ok') {
        const now = performance.now();
        this.longestGapMs = Math.max(this.longestGapMs, now - this.#lastOk);
        this.#lastOk = now;
        this.heads.set(op.stream, Math.max(this.heads.get(op.stream) ?? -1, said.last));
        Object.assign(op, said, { complete: now });
        break;
      }
      isInDoubt ||= said.outcome === 'unknown';
      op.why = said.why;
      const isDefinite = said.outcome === 'conflict' || said.outcome === 'rejected';
      if (isDefinite || performance.now() > end) {
        // A refusal speaks of its own attempt; an earlier one in doubt may be in the log all the same.
        if (isInDoubt) Object.assign(op, { outcome: 'unknown', complete: Infinity });
        else Object.assign(op, isDefinite ? said : { outcome: 'rejected' }, { complete: performance.now() });
        op.isLate = !isDefinite;
        break;
      }
      at++;
      await sleep(20 + this.random(60));
    }
    this.counts[op.outcome]++;
    op.body = undefined;
    return op;
  }

  operation(stream, expect) {
    const count = this.random(4) ? 1 : 1 + this.random(8);
    const events = Array.from({ length: count }, () =>
      ({ id: randomUUID(), type: 'Chaos', data: { text: 'x'.repeat(10 + this.random(300)) } }));
    const op = { kind: 'append', stream, expect, ids: events.map((e) => e.id), outcome: 'unknown', complete: Infinity };
    Object.defineProperty(op, 'body', { value: JSON.stringify(events), writable: true }); // not part of the kept history
    this.history.push(op);
    return op;
  }

  async #writer(number) {
    let own;
    let known;
    const fresh = () => {
      own = `own-${number}-${randomUUID()}`;
      known = -1;
    };
    fresh();
    while (!this.#isOver) {
      const choice = this.random(10);
      let op;
      if (choice < 4) op = this.operation(own, known < 0 ? 'none' : known);
      else if (choice < 7) op = this.operation(`shared-${this.random(SHARED_STREAMS)}`, 'any');
      else if (choice < 8) op = this.operation(`new-${randomUUID()}`, this.random(4) ? 'none' : 'exists');
      else {
        const stream = `contested-${this.random(CONTESTED_STREAMS)}`;
        const guess = this.heads.get(stream) ?? -1;
        op = this.operation(stream, guess < 0 ? 'none' : guess);
      }
      await this.append(op, this.random(3) ? number : this.random(1000));
      // What was acknowledged a moment ago, at whichever node: the time at which a follower may not have it yet.
      if (op.outcome === 'ok' && this.random(3) === 0) {
        await (this.random(2) ? this.#head(this.#node(), op.stream, READ_MS) : this.#token(this.#node(), op)).catch(() => {});
      }
      if (op.stream === own) {
        if (op.outcome === 'ok') known = op.last;
        else fresh();
      } else if (op.outcome === 'conflict') {
        this.heads.set(op.stream, op.actual);
      }
      await sleep(this.random(2 * this.pauseMs + 1));
    }
  }

  // ---- reads ----

  /** The newest event that a node shows. No node may show what is not committed, nor less than it showed before. */
  async #seen(node, reader) {
    const op = { kind: 'seen', reader, node: node.name, life: node.lives, invoke: performance.now() };
    const { status, text } = await request(node.port, 'GET', '/v1/all/events?direction=backward&limit=1',
      { headers: { accept: 'application/x-ndjson' }, timeoutMs: READ_MS });
    if (status !== 200 || !text) return;
    const { position, id } = JSON.parse(text);
    if (node.lives !== op.life) return; // it was started again meanwhile: which one answered?
    this.history.push(Object.assign(op, { position, id, complete: performance.now() }));
    this.counts.seen++;
  }

  /** The newest revision of a stream at a node, -1 if there is none, as `how` asks for it. */
  async #newest(node, stream, how, timeoutMs) {
    const { status, text } = await request(node.port, 'GET',
      `/v1/streams/${encodeURIComponent(stream)}/events?direction=backward&limit=1&${how}`,
      { headers: { accept: 'application/x-ndjson' }, timeoutMs });
    if (status !== 200 && status !== 404) throw new Error(`status ${status}`);
    return status === 404 || !text ? -1 : JSON.parse(text).revision;
  }

  /** By a read that has to be linearizable on whichever node answers (G7). */
  async #head(node, stream, timeoutMs = LONG_READ_MS) {
    stream ??= this.random(2) ? `shared-${this.random(SHARED_STREAMS)}` : `contested-${this.random(CONTESTED_STREAMS)}`;
    const op = { kind: 'head', stream, invoke: performance.now() };
    op.revision = await this.#newest(node, stream, 'consistency=linearizable', timeoutMs);
    this.history.push(Object.assign(op, { complete: performance.now() }));
    this.counts.heads++;
  }

  /** By a read that brings the position of what was acknowledged to it (G8). */
  async #token(node, { stream, last, position }) {
    const revision = await this.#newest(node, stream, `after=${position}`, READ_MS);
    this.history.push({ kind: 'token', node: node.name, stream, wanted: last, revision });
    this.counts.tokens++;
  }

  async #reader(number) {
    while (!this.#isOver) {
      const node = this.#node();
      try {
        if (this.random(2)) await this.#head(node);
        else await this.#seen(node, number);
      } catch {
        // No answer says nothing.
      }
      await sleep(10);
    }
  }

  /** Everything from behind `position` on, from one node after another: a session goes on where it was cut off. */
  #follow(position, number) {
    const session = { kind: 'session', from: position, ids: [] };
    const follower = { session, last: position, isOver: false, stop: () => {} };
    this.history.push(session);
    this.followers.push(follower);
    follower.ended = (async () => {
      for (let at = number; !follower.isOver; at++) {
        const headers = follower.last < 0 ? {} : { 'last-event-id': String(follower.last) };
        const stream = follow(this.#node(at).port, '/v1/all/events?from=start', headers, ({ event, data }) => {
          if (event || !data) return;
          const { id, position: where } = JSON.parse(data);
          session.ids.push(id);
          follower.last = where;
        });
        follower.stop = stream.stop;
        this.counts.sessions++;
        if (follower.isOver) stream.stop();
        await stream.ended;
        if (!follower.isOver) await sleep(50);
      }
    })();
  }
}
