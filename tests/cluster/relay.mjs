// relay.mjs PORT: accepts on the listening socket that it was given as descriptor 3 and carries the bytes to 127.0.0.1:PORT
// of the namespace that it runs in. A connection that breaks on one side breaks on the other.

import { connect, createServer } from 'node:net';

const port = Number(process.argv[2]);

createServer({ noDelay: true, allowHalfOpen: true }, (outside) => {
  const inside = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  for (const [from, to] of [[outside, inside], [inside, outside]]) {
    from.on('error', () => {
      to.resetAndDestroy();
      from.destroy();
    });
    from.pipe(to);
  }
}).listen({ fd: 3 });
