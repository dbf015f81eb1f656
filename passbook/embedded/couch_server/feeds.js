'use strict';
// The changes of one database: once, as a long poll, or for ever.

const { HttpError, fromPouch, noDatabase } = require('./errors');

const DEFAULT_TIMEOUT = 60_000; // ms, as CouchDB's
const BATCH = 100; // rows a live feed reads at a time

function options(query, body) {
  const result = { return_docs: true };
  for (const name of ['include_docs', 'conflicts', 'attachments', 'descending']) {
    if (query[name] !== undefined) result[name] = query[name] === 'true';
  }
  if (query.style === 'all_docs') result.style = 'all_docs';
  if (query.filter === '_doc_ids') {
    const ids = (body && body.doc_ids) || (query.doc_ids && JSON.parse(query.doc_ids));
    if (!Array.isArray(ids)) throw new HttpError(400, 'bad_request', '`doc_ids` filter parameter is missing.');
    result.doc_ids = ids;
  } else if (query.filter !== undefined) {
    throw new HttpError(400, 'bad_request', 'The embedded server knows no filter but _doc_ids.');
  }
  return result;
}

function whole(text, fallback, name) {
  if (text === undefined) return fallback;
  if (!/^\d+$/.test(text)) throw new HttpError(400, 'query_parse_error', `Invalid value for integer: ${name}`);
  return Number(text);
}

// `true` stands for one minute, as in CouchDB.
const period = (text, name) => (text === 'true' ? 60_000 : whole(text, undefined, name));

const rowOf = ({ id, seq, changes, deleted, doc }) => ({
  seq, id, changes, ...(deleted ? { deleted: true } : {}), ...(doc === undefined ? {} : { doc }),
});

async function changes(databases, name, request, response, query, body) {
  const read = options(query, body);
  const feed = query.feed || 'normal';
  let limit = whole(query.limit, Infinity, 'limit');
  if (limit === 0) limit = 1; // as CouchDB does
  const found = await databases.use(name, (pouch) => pouch.info());
  if (!found) throw noDatabase();
  const now = found.value.update_seq;
  // A sequence of another server (a string with a dash) means: from the beginning of what is here.
  let since = query.since === 'now' ? now : Number.parseInt(query.since || '0', 10);
  if (!Number.isInteger(since) || since < 0) throw new HttpError(400, 'bad_request', 'Malformed sequence supplied in \'since\' parameter.');
  // From beyond the end: of a database that was here before this one.
  if (since > now) since = 0;

  let subscription = null;
  const page = async (most) => {
    // Removed and made anew under the same name is another database.
    if (subscription && subscription.entry.deleted) throw noDatabase();
    const got = await databases.use(name, (pouch) =>
      pouch.changes({ ...read, since, ...(most === Infinity ? {} : { limit: most }) }));
    if (!got) throw noDatabase();
    return got.value;
  };

  if (feed === 'normal') {
    const got = await page(limit);
    const last = got.results.length ? got.results[got.results.length - 1].seq : since;
    const complete = got.results.length < limit;
    // Rows that a filter left out are passed as well, so that the reader does not ask for them again.
    const lastSeq = read.descending ? got.last_seq : complete ? Math.max(now, last) : last;
    return { results: got.results.map(rowOf), last_seq: lastSeq, pending: complete ? 0 : Math.max(0, now - lastSeq) };
  }
  if (feed !== 'longpoll' && feed !== 'continuous') {
    throw new HttpError(400, 'bad_request', `Supported values for feed: normal, longpoll, continuous`);
  }

  const heartbeat = period(query.heartbeat, 'heartbeat');
  const timeout = heartbeat ? undefined : whole(query.timeout, DEFAULT_TIMEOUT, 'timeout');
  const longpoll = feed === 'longpoll';
  let wake = null;
  let pending = false;
  let over = false;
  let expired = false;
  const rouse = () => {
    pending = true;
    if (wake) wake();
  };
  subscription = databases.subscribe(name, rouse);
  const beat = heartbeat && setInterval(() => response.write('\n'), heartbeat);
  let clock = null;
  const restart = () => {
    if (timeout === undefined) return;
    clearTimeout(clock);
    clock = setTimeout(() => {
      expired = true;
      rouse();
    }, Math.min(timeout, DEFAULT_TIMEOUT));
  };
  response.on('close', () => {
    over = true;
    rouse();
  });
  const say = async (text) => {
    if (!over && !response.write(text)) {
      await new Promise((resolve) => {
        response.once('drain', resolve);
        response.once('close', resolve);
      });
    }
  };

  response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'must-revalidate' });
  try {
    if (longpoll) response.write('{"results":[\n');
    else response.flushHeaders();
    restart();
    let rows = 0;
    while (!over) {
      pending = false;
      const most = Math.min(limit - rows, (longpoll && limit === Infinity) || read.descending ? Infinity : BATCH);
      const got = await page(most);
      for (const row of got.results) {
        const text = JSON.stringify(rowOf(row));
        await say(longpoll ? (rows ? ',\n' : '') + text : `${text}\n`);
        rows += 1;
        since = row.seq;
      }
      if (rows >= limit || read.descending || (longpoll && rows > 0 && got.results.length < most)) break;
      if (got.results.length === most) continue;
      if (got.results.length) restart();
      if (expired) break;
      if (!pending && !over) {
        await new Promise((resolve) => {
          wake = resolve;
        });
        wake = null;
      }
    }
    if (!over) response.end(longpoll ? `\n],\n"last_seq":${since},"pending":0}\n` : `{"last_seq":${since},"pending":0}\n`);
  } catch (error) {
    // The status is out already; a broken-off body tells the reader to ask again.
    if (fromPouch(error).status !== 404) console.error(error);
    response.destroy();
  } finally {
    over = true;
    clearInterval(beat);
    clearTimeout(clock);
    subscription.stop();
    databases.evict();
  }
  return undefined;
}

module.exports = { changes };
