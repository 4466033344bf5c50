// The checker finds what is planted: every rule has at least one history that breaks it and it alone.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { check } from './check.mjs';

/** A random, correct history: a store in memory, with clients whose calls overlap in time. */
function honest(seed = 1, operations = 400) {
  let state = seed;
  const random = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const log = [{ stream: '$nilo', revision: 0, position: 0, id: 'system' }];
  const heads = new Map();
  const history = [];
  for (let n = 0; n < operations; n++) {
    const stream = `s-${random(8)}`;
    const head = heads.get(stream) ?? -1;
    // Linearized at 10 n: calls overlap with their neighbours, not with the far.
    const times = { invoke: 10 * n - random(30), complete: 10 * n + random(30) };
    if (random(5) === 0) {
      history.push({ kind: 'head', stream, revision: head, ...times });
      continue;
    }
    const ids = Array.from({ length: 1 + random(3) }, (_, i) => `e-${n}-${i}`);
    const expect = ['any', head === -1 ? 'none' : 'exists', head === -1 ? 'any' : head, random(4)][random(4)];
    const holds = expect === 'any' || (expect === 'none' && head === -1) || (expect === 'exists' && head >= 0) || expect === head;
    const op = { kind: 'append', stream, expect, ids, ...times };
    history.push(op);
    if (!holds) {
      Object.assign(op, { outcome: 'conflict', actual: head });
      continue;
    }
    const unknown = random(10) === 0;
    if (unknown) Object.assign(op, { outcome: 'unknown', complete: Infinity });
    if (unknown && random(2)) continue;
    for (const [i, id] of ids.entries()) log.push({ stream, revision: head + 1 + i, position: log.length, id });
    heads.set(stream, head + ids.length);
    if (!unknown) Object.assign(op, { outcome: 'ok', first: head + 1, last: head + ids.length, position: log.length - 1 });
  }
  history.push({ kind: 'session', from: -1, ids: log.map((e) => e.id) }, { kind: 'session', from: 40, ids: log.slice(41, 90).map((e) => e.id) });
  history.push({ kind: 'append', stream: 's-0', expect: 'any', ids: ['refused'], invoke: 0, complete: 5, outcome: 'rejected' });
  return { history, log };
}

const appends = ({ history }, outcome) => history.filter((op) => op.kind === 'append' && op.outcome === outcome);
const of = ({ log }, id) => log.findIndex((event) => event.id === id);
/** Renumbers the log after something was taken out or put in, as a careless recovery would. */
function renumber(log) {
  const heads = new Map();
  log.forEach((event, index) => {
    event.position = index;
    event.revision = (heads.get(event.stream) ?? -1) + 1;
    heads.set(event.stream, event.revision);
  });
}

test('honest histories pass', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const { history, log } = honest(seed);
    assert.deepEqual(check(history, log), []);
  }
});

const planted = {
  'an acknowledged event is lost': ['lost', (h) => void h.log.splice(of(h, appends(h, 'ok').at(-1).ids[0]), 1)],
  'the newest acknowledged batch is lost, and nothing else is touched': ['lost', (h) => {
    const last = appends(h, 'ok').at(-1);
    h.log.splice(of(h, last.ids[0]));
  }],
  'an early one is lost and the rest renumbered': ['lost', (h) => {
    h.log.splice(of(h, appends(h, 'ok')[20].ids[0]), 1);
    renumber(h.log);
  }],
  'an event stands twice': ['once', (h) => {
    h.log.push({ ...h.log[30] });
    renumber(h.log);
  }],
  'two events of a stream are swapped': ['place', (h) => {
    const single = appends(h, 'ok').filter((o) => o.ids.length === 1);
    const [i, j] = [single[0], single.findLast((o) => o.stream === single[0].stream)].map((o) => of(h, o.ids[0]));
    assert.notEqual(i, j);
    [h.log[i].id, h.log[j].id] = [h.log[j].id, h.log[i].id];
  }],
  'two events of a batch are swapped': ['atomic', (h) => {
    const i = of(h, appends(h, 'ok').find((o) => o.ids.length > 1).ids[0]);
    [h.log[i].id, h.log[i + 1].id] = [h.log[i + 1].id, h.log[i].id];
  }],
  'a position is skipped': ['gapless', (h) => h.log.slice(50).forEach((e) => e.position++)],
  'a revision is skipped': ['gapless', (h) => h.log.filter((e) => e.stream === 's-3').slice(4).forEach((e) => e.revision++)],
  'half a batch of unknown fate is there': ['atomic', (h) => {
    const op = { kind: 'append', stream: 's-9', expect: 'any', ids: ['u-0', 'u-1'], invoke: 0, complete: Infinity, outcome: 'unknown' };
    h.history.push(op);
    h.log.push({ stream: 's-9', revision: 0, position: h.log.length, id: 'u-0' });
  }],
  'a batch is torn apart by another event': ['atomic', (h) => {
    h.history.push({ kind: 'append', stream: 's-9', expect: 'any', ids: ['u-0', 'u-1'], invoke: 0, complete: Infinity, outcome: 'unknown' });
    h.history.push({ kind: 'append', stream: 's-8', expect: 'any', ids: ['v-0'], invoke: 0, complete: Infinity, outcome: 'unknown' });
    const at = h.log.length;
    h.log.push({ stream: 's-9', revision: 0, position: at, id: 'u-0' }, { stream: 's-8', revision: 0, position: at + 1, id: 'v-0' },
      { stream: 's-9', revision: 1, position: at + 2, id: 'u-1' });
  }],
  'a refused append is there': ['never', (h) => {
    const revision = h.log.filter((e) => e.stream === 's-0').length;
    h.log.push({ stream: 's-0', revision, position: h.log.length, id: 'refused' });
  }],
  'an event that nobody sent is there': ['foreign', (h) => {
    h.log.push({ stream: 's-77', revision: 0, position: h.log.length, id: 'ghost' });
  }],
  'the acknowledgement named another revision': ['place', (h) => {
    const op = appends(h, 'ok')[10];
    op.first++;
    op.last++;
  }],
  'the acknowledgement named another position': ['place', (h) => void appends(h, 'ok')[10].position--],
  'an expectation did not hold': ['expectation', (h) => {
    appends(h, 'ok').find((o) => typeof o.expect === 'number' && o.expect >= 0).expect += 3;
  }],
  'a stream that should have been new was not': ['expectation', (h) => {
    appends(h, 'ok').find((o) => o.first > 0).expect = 'none';
  }],
  'a later append stands before one that had ended': ['time', (h) => {
    const op = appends(h, 'ok')[10];
    op.invoke = 1e9;
    op.complete = 1e9 + 1;
  }],
  'a read is stale': ['read', (h) => {
    const op = h.history.findLast((o) => o.kind === 'head' && o.revision > 3);
    op.revision = 0;
  }],
  'a read sees what was not sent yet': ['read', (h) => {
    const op = h.history.find((o) => o.kind === 'head');
    op.revision = h.log.filter((e) => e.stream === op.stream).length - 1;
  }],
  'a read sees more than there ever was': ['read', (h) => void (h.history.find((o) => o.kind === 'head').revision = 100000)],
  'a conflict without a reason': ['conflict', (h) => {
    const op = appends(h, 'conflict').find((o) => o.actual >= 0);
    op.expect = op.actual;
  }],
  'a conflict names a revision of the past': ['conflict', (h) => {
    appends(h, 'conflict').findLast((o) => o.actual > 3 && o.expect !== 0).actual = 0;
  }],
  'a delivery leaves one out': ['delivery', (h) => void h.history.find((o) => o.kind === 'session').ids.splice(25, 1)],
  'a delivery repeats one': ['delivery', (h) => {
    const { ids } = h.history.find((o) => o.kind === 'session');
    ids.splice(25, 0, ids[25]);
  }],
  'something was delivered that is not in the log': ['delivery', (h) => void h.history.find((o) => o.kind === 'session').ids.push('ghost')],
};
for (const [name, [rule, plant]] of Object.entries(planted)) {
  test(`found: ${name}`, () => {
    for (let seed = 1; seed <= 10; seed++) {
      const h = honest(seed);
      plant(h);
      const violations = check(h.history, h.log);
      assert.ok(violations.some((v) => v.startsWith(`${rule}:`)), `seed ${seed}: ${rule} expected, found ${violations.join('; ') || 'nothing'}`);
    }
  });
}

test('a million operations in seconds', () => {
  const { history, log } = honest(7, 1_000_000);
  const began = performance.now();
  assert.deepEqual(check(history, log), []);
  assert.ok(performance.now() - began < 20_000);
});
