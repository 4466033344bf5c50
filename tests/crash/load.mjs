// The two ways in that the crash tests load: the official client over gRPC, and plain HTTP. Both give the same answers:
//   { outcome: 'ok', first, last, position } | { outcome: 'conflict', actual } | { outcome: 'rejected' } | { outcome: 'unknown' }
// (G3: nothing else). What is neither a clear yes nor a clear no is unknown.

import http from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../interop/package.json', import.meta.url));
const { KurrentDBClient, END, START, jsonEvent } = require('@kurrent/kurrentdb-client');

const REFUSALS = new Set(['stream-deleted', 'access-denied', 'invalid-argument', 'maximum-append-size-exceeded', 'stream-not-found']);
const STATE = { any: 'any', none: 'no_stream', exists: 'stream_exists' };

/** The official client: BatchAppend, and a subscription to everything. */
export function grpcDoor(port) {
  const client = KurrentDBClient.connectionString(`kurrentdb://127.0.0.1:${port}?tls=false&keepAliveInterval=-1`);
  return {
    name: 'grpc',
    async append(stream, expect, events) {
      try {
        const result = await client.appendToStream(
          stream, events.map(({ id, data }) => jsonEvent({ id, type: 'Crash', data })),
          { streamState: STATE[expect] ?? BigInt(expect) });
        const last = Number(result.nextExpectedRevision);
        return { outcome: 'ok', first: last - events.length + 1, last, position: Number(result.position.commit) };
      } catch (error) {
        if (error.type === 'wrong-expected-version') {
          return { outcome: 'conflict', actual: error.actualState === 'no_stream' ? -1 : Number(error.actualState) };
        }
        return { outcome: REFUSALS.has(error.type) ? 'rejected' : 'unknown', error };
      }
    },
    /** Calls on_event(position, id) for all after `from` until the connection ends. */
    follow(from, on_event) {
      const position = from < 0 ? START : { commit: BigInt(from), prepare: BigInt(from) };
      const subscription = client.subscribeToAll({ fromPosition: position });
      subscription.on('data', ({ event }) => on_event(Number(event.position.commit), event.id)).on('error', () => {});
    },
    close: () => client.dispose().catch(() => {}),
  };
}

/** HTTP/1.1 with keep-alive. */
export function httpDoor(port) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  const call = (method, path, { headers = {}, body } = {}) =>
    new Promise((done, fail) => {
      const request = http.request({ host: '127.0.0.1', port, method, path, headers, agent }, (response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part)).on('error', fail).on('aborted', () => fail(new Error('cut off')));
        response.on('end', () => done({ status: response.statusCode, text: Buffer.concat(parts).toString() }));
      });
      request.on('error', fail).end(body);
    });
  const lines = ({ status, text }) => {
    if (status !== 200) throw new Error(`HTTP ${status}: ${text.slice(0, 300)}`);
    return text.split('\n').filter(Boolean);
  };
  const ndjson = { headers: { accept: 'application/x-ndjson' } };
  return {
    name: 'http',
    call,
    async append(stream, expect, events) {
      try {
        const { status, text } = await call('POST', `/v1/streams/${encodeURIComponent(stream)}/events`, {
          headers: { 'content-type': 'application/json', 'nilo-expect': String(expect) },
          body: JSON.stringify(events.map(({ id, data }) => ({ id, type: 'Crash', data }))),
        });
        const said = JSON.parse(text);
        if (status === 201 || status === 200) {
          return { outcome: 'ok', first: said.first_revision, last: said.last_revision, position: said.position };
        }
        if (status === 409) return { outcome: 'conflict', actual: said.actual_revision ?? said.actual };
        return { outcome: status >= 400 && status < 500 && status !== 408 ? 'rejected' : 'unknown', error: text };
      } catch (error) {
        return { outcome: 'unknown', error };
      }
    },
    /** The newest revision of a stream, -1 if there is none. */
    async head(stream) {
      const answer = await call('GET', `/v1/streams/${encodeURIComponent(stream)}/events?direction=backward&limit=1`, ndjson);
      if (answer.status === 404) return -1;
      const [line] = lines(answer);
      return line === undefined ? -1 : JSON.parse(line).revision;
    },
    /** Everything from `position` on, as the lines that the server wrote. */
    async readAll(position, limit = 1000) {
      const all = [];
      for (;;) {
        const page = lines(await call('GET', `/v1/all/events?from=${position}&limit=${limit}`, ndjson));
        all.push(...page);
        if (page.length === 0) return all;
        position = JSON.parse(page.at(-1)).position + 1;
      }
    },
    close: async () => agent.destroy(),
  };
}
