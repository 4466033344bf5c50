// What several nodes add to the rules is found when it is planted, and an honest history passes.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { compare, judge } from './judge.mjs';

const log = Array.from({ length: 20 }, (_, n) => ({ stream: 's', revision: n, position: n, id: `e-${n}` }));
const appends = () => log.map(({ id, revision, position }) =>
  ({ kind: 'append', stream: 's', expect: 'any', ids: [id], invoke: 10 * position, complete: 10 * position + 5, outcome: 'ok', first: revision, last: revision, position }));
const seen = (changes) => ({ kind: 'seen', reader: 0, node: 'n1', life: 1, position: 3, id: 'e-3', invoke: 36, complete: 39, ...changes });
const rulesOf = (violations) => [...new Set(violations.map((v) => v.split(':')[0]))];

test('an honest history passes', () => {
  assert.deepEqual(judge([...appends(), seen(), seen({ position: 5, id: 'e-5', complete: 90 }), seen({ node: 'n2', position: 1, id: 'e-1' }),
    seen({ life: 2, position: 2, id: 'e-2' })], log), []);
});

test('what is not in the log was shown', () => {
  assert.deepEqual(rulesOf(judge([...appends(), seen({ id: 'other' })], log)), ['committed']);
  assert.deepEqual(rulesOf(judge([...appends(), seen({ position: 20, id: 'e-20' })], log)), ['committed']);
});

test('an event was shown before it was sent', () => {
  assert.deepEqual(rulesOf(judge([...appends(), seen({ position: 9, id: 'e-9', complete: 50 })], log)), ['committed']);
});

test('a node showed less than before', () => {
  assert.deepEqual(rulesOf(judge([...appends(), seen({ position: 5, id: 'e-5', complete: 90 }), seen({ position: 4, id: 'e-4', complete: 95 })], log)), ['monotonic']);
});

test('a read that named a position did not see what stands there', () => {
  assert.deepEqual(judge([...appends(), { kind: 'token', node: 'n1', stream: 's', wanted: 4, revision: 5 }], log), []);
  assert.deepEqual(rulesOf(judge([...appends(), { kind: 'token', node: 'n1', stream: 's', wanted: 4, revision: 3 }], log)), ['token']);
});

test('a client found something', () => {
  assert.deepEqual(rulesOf(judge([...appends(), { kind: 'problem', text: 'stuck' }], log)), ['problem']);
});

test('an acknowledged event is lost, a refused one is there, a linearizable read is stale', () => {
  const lost = appends();
  lost.push({ kind: 'append', stream: 's', expect: 'any', ids: ['gone'], invoke: 300, complete: 301, outcome: 'ok', first: 20, last: 20, position: 20 });
  assert.deepEqual(rulesOf(judge(lost, log)), ['lost']);
  const refused = appends();
  refused[4].outcome = 'rejected';
  assert.ok(rulesOf(judge(refused, log)).includes('never'));
  assert.deepEqual(rulesOf(judge([...appends(), { kind: 'head', stream: 's', revision: 3, invoke: 100, complete: 110 }], log)), ['read']);
});

test('logs that differ, and logs of different length', () => {
  assert.deepEqual(compare(new Map([['a', ['1', '2']], ['b', ['1', '2']]])), []);
  assert.deepEqual(rulesOf(compare(new Map([['a', ['1', '2']], ['b', ['1', '3']]]))), ['equal']);
  assert.deepEqual(rulesOf(compare(new Map([['a', ['1', '2']], ['b', ['1', '2', '3']]]))), ['equal']);
  assert.deepEqual(rulesOf(compare(new Map([['a', ['1', '2']], ['b', ['1']]]))), ['equal']);
});
