'use strict';
// A CouchDB-speaking store for the demo and for tests. It listens on the loopback address only, knows one secret and
// no users: access control is the gateway's. It ends when its standard input does, so that it cannot outlive the
// process that started it, however that ends.
//
// Environment: PASSBOOK_EMBEDDED_DIRECTORY, PASSBOOK_EMBEDDED_SECRET, PASSBOOK_EMBEDDED_PORT (0: any),
// PASSBOOK_EMBEDDED_OPEN_DATABASES. Prints {"port": …} on one line once it listens.

const crypto = require('node:crypto');
const http = require('node:http');

const { Databases } = require('./databases');
const { HttpError, fromPouch } = require('./errors');
const { route } = require('./routes');

const MAX_BODY = 128 * 1024 * 1024; // bytes
const CLOSE_WITHIN = 5_000; // ms

const { PASSBOOK_EMBEDDED_DIRECTORY: directory, PASSBOOK_EMBEDDED_SECRET: secret } = process.env;
if (!directory || !secret) {
  console.error('PASSBOOK_EMBEDDED_DIRECTORY and PASSBOOK_EMBEDDED_SECRET must be set');
  process.exit(2);
}
const databases = new Databases(directory, Number(process.env.PASSBOOK_EMBEDDED_OPEN_DATABASES || 100));

const digest = (text) => crypto.createHash('sha256').update(text).digest();
const expected = digest(`Basic ${Buffer.from(`passbook:${secret}`).toString('base64')}`);
const admitted = (request) => crypto.timingSafeEqual(digest(request.headers.authorization || ''), expected);

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    // Goes on reading, so that the writer gets its answer rather than a reset connection.
    if (size <= MAX_BODY) parts.push(part);
    else parts.length = 0;
  }
  if (size > MAX_BODY) throw new HttpError(413, 'too_large', 'the request entity is too large');
  return Buffer.concat(parts);
}

function parse(request) {
  const [path, search = ''] = request.url.split(/\?(.*)/s);
  try {
    const segments = path.split('/').filter(Boolean).map(decodeURIComponent);
    return { segments, query: Object.fromEntries(new URLSearchParams(search)) };
  } catch {
    throw new HttpError(400, 'bad_request', 'Invalid path.');
  }
}

async function serve(request, response) {
  if (!admitted(request)) throw new HttpError(401, 'unauthorized', 'Name or password is incorrect.');
  const rawBody = await read(request);
  const body = (fallback) => {
    if (rawBody.length === 0 && fallback !== undefined) return fallback;
    try {
      return JSON.parse(rawBody.toString('utf8'));
    } catch {
      throw new HttpError(400, 'bad_request', 'invalid UTF-8 JSON');
    }
  };
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  return route({ ...parse(request), method, headers: request.headers, rawBody, body, request, response, databases });
}

function send(request, response, { status, body, raw, headers = {} }) {
  const etag = headers.ETag;
  if (etag && request.headers['if-none-match'] === etag && status === 200) {
    response.writeHead(304, { ETag: etag }).end();
    return;
  }
  const payload = raw || Buffer.from(`${JSON.stringify(body)}\n`);
  response.writeHead(status, {
    'Content-Type': 'application/json', 'Cache-Control': 'must-revalidate', ...headers, 'Content-Length': payload.length,
  });
  response.end(request.method === 'HEAD' ? undefined : payload);
}

const server = http.createServer((request, response) => {
  response.on('error', () => {});
  serve(request, response).then((result) => {
    if (result) send(request, response, result);
  }, (error) => {
    const problem = fromPouch(error);
    if (response.headersSent) response.destroy();
    else send(request, response, { status: problem.status, body: { error: problem.error, reason: problem.message } });
  });
});
// Clients keep connections; it is for them to close an idle one first, or a request may meet a closing connection.
server.keepAliveTimeout = 300_000;
server.headersTimeout = 310_000;
server.requestTimeout = 0;

let closing = false;
async function close(status) {
  if (closing) return;
  closing = true;
  setTimeout(() => process.exit(status), CLOSE_WITHIN).unref();
  server.close();
  server.closeAllConnections?.();
  await databases.closeAll();
  process.exit(status);
}

process.on('SIGTERM', () => close(0));
process.on('SIGINT', () => close(0));
process.stdin.on('end', () => close(0)).on('error', () => close(0)).resume();
process.stdout.on('error', () => {});
for (const event of ['uncaughtException', 'unhandledRejection']) {
  // The state is unknown; whoever started this starts it again.
  process.on(event, (error) => {
    console.error(`${event}: ${(error && error.stack) || error}`);
    process.exit(1);
  });
}
server.on('error', (error) => {
  console.error(`cannot listen: ${error.message}`);
  process.exit(error.code === 'EADDRINUSE' ? 98 : 1);
});
server.listen(Number(process.env.PASSBOOK_EMBEDDED_PORT || 0), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
});
