'use strict';
// The changes of one database: once, as a long poll, or for ever.

const { fromPouch, noDatabase } = require('./errors');
const { bad, flag, json, whole } = require('./parameters');

const DEFAULT_TIMEOUT = 60_000; // ms, as CouchDB's
const BATCH = 100; // rows a live feed reads at a time

function options(query, body) {
  const result = { return_docs: true };
  for (const name of ['include_docs', 'conflicts', 'attachments', 'descending']) {
    if (query[name] !== undefined) result[name] = flag(query[name]);
  }
  const { style = 'main_only', filter = '' } = query;
  if (!['main_only', 'all_docs'].includes(style)) throw bad('Supported values for style: main_only, all_docs');
  result.style = style;
  if (filter === '_doc_ids') {
    const ids = (body && body.doc_ids) ?? (query.doc_ids === undefined ? undefined : json(query.doc_ids));
    if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'string')) {
      throw bad('`doc_ids` filter parameter is not a list of doc ids.');
    }
    result.doc_ids = ids;
  } else if (filter === '_selector') {
    if (!body || typeof body.selector !== 'object' || body.selector === null) throw bad('Selector error: expected a JSON object');
    result.selector = body.selector;
  } else if (filter !== '') {
    throw bad('The embedded server knows no filter but _doc_ids and _selector.');
  }
  const { seq_interval: interval = '1' } = query;
  if (!/^\+?0*[1-9]\d*$/.test(interval)) throw bad('invalid_seq_interval');
  return result;
}

// `true` stands for one minute, as in CouchDB.
function heartbeatOf(text) {
  if (text === undefined) return undefined;
  if (text === 'true') return 60_000;
  if (!/^[+-]?\d+$/.test(text)) {
    throw bad('Invalid heartbeat value. Expecting a positive integer value (in milliseconds).');
  }
  if (Number(text) <= 0) throw bad('The heartbeat value should be a positive integer (in milliseconds).');
  return Math.min(Number(text), 2 ** 31 - 1);
}

// A sequence of another server (with a dash) means: from the beginning of what is here.
function sequence(text, now) {
  if (text === 'now') return now;
  if (!/^\d+(-.+)?$/s.test(text)) throw bad('Malformed sequence supplied in \'since\' parameter.');
  // From beyond the end: of a database that was here before this one.
  return text.includes('-') || Number(text) > now ? 0 : Number(text);
}

// As CouchDB writes it, a row a line.
function written(rows, last, pending) {
  const lines = rows.map((row) => JSON.stringify(rowOf(row))).join(',\r\n');
  return `{"results":[\n${lines}\n],\n"last_seq":${last},"pending":${pending}}\n`;
}

const rowOf = ({ id, seq, changes, deleted, doc }) => ({
  seq, id, changes, ...(deleted ? { deleted: true } : {}), ...(doc === undefined ? {} : { doc }),
});

async function changes(databases, name, request, response, query, body) {
  const read = options(query, body);
  const { feed = 'normal' } = query;
  if (!['normal', 'longpoll', 'continuous'].includes(feed)) {
    throw bad('Supported `feed` types: normal, continuous, longpoll');
  }
  let limit = query.limit === undefined ? Infinity : whole(query.limit, 'limit');
  if (limit === 0) limit = 1; // as CouchDB does
  const heartbeat = heartbeatOf(query.heartbeat);
  const timeout = query.timeout === undefined ? DEFAULT_TIMEOUT : whole(query.timeout, 'timeout');
  const found = await databases.use(name, (pouch) => pouch.info());
  if (!found) throw noDatabase();
  const now = found.value.update_seq;
  let since = sequence(query.since ?? '0', now);

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
    return written(got.results, lastSeq, complete ? 0 : Math.max(0, now - lastSeq));
  }

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
    if (heartbeat) return; // such a feed has no end
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
        await say(longpoll ? (rows ? ',\r\n' : '') + text : `${text}\n`);
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
