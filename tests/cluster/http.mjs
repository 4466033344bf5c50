// HTTP/1.1 with keep-alive, a time limit on everything, and a clear word on what came back.

import http from 'node:http';

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

/** { status, text, headers }; throws when no whole answer came in time. */
export function request(port, method, path, { headers = {}, body, timeoutMs = 5000 } = {}) {
  return new Promise((done, fail) => {
    const call = http.request({ host: '127.0.0.1', port, method, path, headers, agent }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part)).on('error', end(fail)).on('aborted', () => end(fail)(new Error('cut off')));
      response.on('end', () => end(done)({ status: response.statusCode, text: Buffer.concat(parts).toString(), headers: response.headers }));
    });
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    const end = (how) => (value) => {
      clearTimeout(timer);
      how(value);
    };
    call.on('error', end(fail)).end(body);
  });
}

/** Server-sent events of a GET: on_event({ id, event, data }) for each. Gives a promise of how it ended; .stop() ends it. */
export function follow(port, path, headers, on_event, silenceMs = 4000) {
  let call;
  const ended = new Promise((done) => {
    let text = '';
    call = http.request({ host: '127.0.0.1', port, path, headers: { accept: 'text/event-stream', ...headers }, agent: false }, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        return done(`status ${response.statusCode}`);
      }
      response.setEncoding('utf8').on('data', (more) => {
        text += more;
        for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
          const frame = {};
          for (const line of text.slice(0, at).split('\n')) {
            const colon = line.indexOf(':');
            if (colon > 0) frame[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
          }
          text = text.slice(at + 2);
          on_event(frame);
        }
      });
      response.on('error', () => done('cut off')).on('aborted', () => done('cut off')).on('end', () => done('the end'));
    });
    call.on('error', (error) => done(error.message));
    call.setTimeout(silenceMs, () => call.destroy(new Error('silence'))).end();
  });
  return { ended, stop: () => call.destroy(new Error('stopped')) };
}
