'use strict';
// CouchDB's HTTP interface, as far as Passbook and replication use it, over PouchDB.

const { changes } = require('./feeds');
const { HttpError, fromPouch, noDatabase } = require('./errors');

const SECURITY = '_local/passbook-embedded-security';
const NO_ACCESS = { admins: { roles: ['_admin'] }, members: { roles: ['_admin'] } };
const READ_AT_ONCE = 20; // documents of one _bulk_get

const answer = (status, body, headers = {}) => ({ status, body, headers });

function json(text, name) {
  try {
    return JSON.parse(text);
  } catch {
    throw new HttpError(400, 'query_parse_error', `Invalid JSON in ${name}`);
  }
}

function object(body) {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    throw new HttpError(400, 'bad_request', 'Request body must be a JSON object');
  }
  return body;
}

function listing(query, body) {
  const given = { ...query };
  for (const name of ['key', 'keys', 'startkey', 'endkey', 'start_key', 'end_key']) {
    if (given[name] !== undefined) given[name] = json(given[name], name);
  }
  Object.assign(given, body || {});
  const result = {};
  for (const name of ['include_docs', 'conflicts', 'attachments', 'descending', 'inclusive_end', 'update_seq']) {
    if (given[name] !== undefined) result[name] = String(given[name]) === 'true';
  }
  for (const name of ['limit', 'skip']) {
    if (given[name] !== undefined) result[name] = Number(given[name]);
    if (result[name] !== undefined && !(Number.isInteger(result[name]) && result[name] >= 0)) {
      throw new HttpError(400, 'query_parse_error', `Invalid value for integer: ${name}`);
    }
  }
  for (const name of ['key', 'keys']) if (given[name] !== undefined) result[name] = given[name];
  const start = given.startkey ?? given.start_key;
  const end = given.endkey ?? given.end_key;
  if (start !== undefined) result.startkey = start;
  if (end !== undefined) result.endkey = end;
  return result;
}

function reading(query) {
  const result = {};
  for (const name of ['revs', 'revs_info', 'conflicts', 'attachments', 'latest', 'local_seq']) {
    if (query[name] !== undefined) result[name] = query[name] === 'true';
  }
  if (query.rev !== undefined) result.rev = query.rev;
  if (query.open_revs !== undefined) {
    result.open_revs = query.open_revs === 'all' ? 'all' : json(query.open_revs, 'open_revs');
  }
  return result;
}

// As PouchDB's `get`; with `latest`, a revision is answered with the leaf that came of it. (PouchDB's own way ends the
// process when it does not know the revision.)
async function get(pouch, id, { latest, ...options }) {
  const asked = Array.isArray(options.open_revs) ? options.open_revs : options.rev === undefined ? [] : [options.rev];
  if (!latest || !asked.length) return pouch.get(id, options);
  const leaves = (await pouch.get(id, { attachments: options.attachments, open_revs: 'all', revs: true }))
    .flatMap(({ ok }) => (ok ? [ok] : []));
  const chain = ({ _revisions: { start, ids } }) => ids.map((hash, index) => `${start - index}-${hash}`);
  const chains = leaves.map(chain);
  if (!options.revs) for (const leaf of leaves) delete leaf._revisions;
  if (options.open_revs !== undefined) {
    const found = leaves.filter((_, index) => asked.some((rev) => chains[index].includes(rev)));
    const missing = asked.filter((rev) => !chains.some((known) => known.includes(rev)));
    return [...found.map((ok) => ({ ok })), ...missing.map((rev) => ({ missing: rev }))];
  }
  const leaf = leaves.find((_, index) => chains[index].includes(options.rev));
  if (!leaf) throw new HttpError(404, 'not_found', 'missing');
  if (leaf._deleted) throw new HttpError(404, 'not_found', 'deleted'); // as CouchDB, even for the deletion itself
  return leaf;
}

async function bulkGet(pouch, body, query) {
  const asked = object(body).docs;
  if (!Array.isArray(asked)) throw new HttpError(400, 'bad_request', 'Missing JSON list of \'docs\'.');
  const one = async ({ id, rev }) => {
    const options = { ...reading(query), ...(rev === undefined ? {} : { open_revs: [rev] }) };
    const failed = (error, reason) => ({ error: { id, rev: rev ?? 'undefined', error, reason } });
    try {
      const got = await get(pouch, id, options);
      if (rev === undefined) return { id, docs: [{ ok: got }] };
      return { id, docs: got.map((leaf) => (leaf.ok ? leaf : failed('not_found', 'missing'))) };
    } catch (error) {
      const problem = fromPouch(error);
      return { id, docs: [failed(problem.error, problem.message)] };
    }
  };
  const results = [];
  for (let i = 0; i < asked.length; i += READ_AT_ONCE) {
    results.push(...await Promise.all(asked.slice(i, i + READ_AT_ONCE).map(one)));
  }
  return answer(200, { results });
}

async function bulkDocs(pouch, body) {
  const { docs, new_edits: newEdits } = object(body);
  if (!Array.isArray(docs)) throw new HttpError(400, 'bad_request', 'POST body must include `docs` parameter.');
  // CouchDB applies a request in the order of ids, and answers in the order of the request.
  const places = docs.map((doc, index) => ({ id: Buffer.from(String(doc?._id ?? '')), index }))
    .sort((one, other) => Buffer.compare(one.id, other.id))
    .map((place) => place.index);
  const sorted = places.map((index) => docs[index]);
  const results = await pouch.bulkDocs(sorted, newEdits === false ? { new_edits: false } : {});
  const told = results.map((result, index) => (result.error
    ? { id: result.id ?? sorted[index]._id, error: result.name, reason: result.message || result.reason }
    : { ok: true, id: result.id, rev: result.rev }));
  // Without new edits only errors are answered, in an order of their own.
  if (newEdits === false) return answer(201, told);
  const answers = [];
  places.forEach((index, place) => { answers[index] = told[place]; });
  return answer(201, answers);
}

async function document(context, pouch, id) {
  const { method, query, body } = context;
  if (method === 'GET') {
    const got = await get(pouch, id, reading(query));
    return answer(200, got, got._rev ? { ETag: `"${got._rev}"` } : {});
  }
  if (method === 'PUT') {
    const given = { ...object(body()), _id: id };
    if (query.rev !== undefined) given._rev = query.rev;
    if (query.new_edits === 'false') {
      const [problem] = await pouch.bulkDocs([given], { new_edits: false });
      if (problem) throw problem;
      return answer(201, { ok: true, id, rev: given._rev });
    }
    if (id.startsWith('_local/') && given._rev === undefined) {
      // CouchDB overwrites a local document when no revision is given.
      const current = await pouch.get(id).catch(() => null);
      if (current) given._rev = current._rev;
    }
    const done = await pouch.put(given);
    return answer(201, { ok: true, id: done.id, rev: done.rev }, { ETag: `"${done.rev}"` });
  }
  if (method === 'DELETE') {
    const done = await pouch.remove(id, query.rev ?? (await pouch.get(id))._rev);
    return answer(200, { ok: true, id: done.id, rev: done.rev });
  }
  throw new HttpError(405, 'method_not_allowed', 'Only DELETE,GET,HEAD,PUT allowed');
}

async function attachment(context, pouch, id, name) {
  const { method, query } = context;
  if (method === 'GET') {
    const got = await get(pouch, id, reading({ rev: query.rev, latest: query.latest }));
    const stub = got._attachments && Object.hasOwn(got._attachments, name) ? got._attachments[name] : null;
    if (!stub) throw new HttpError(404, 'not_found', 'Document is missing attachment');
    const data = await pouch.getAttachment(id, name, { rev: got._rev });
    return { status: 200, raw: data, headers: { 'Content-Type': stub.content_type, ETag: `"${stub.digest}"` } };
  }
  if (method === 'PUT') {
    const type = context.headers['content-type'] || 'application/octet-stream';
    const done = await pouch.putAttachment(id, name, query.rev, context.rawBody, type);
    return answer(201, { ok: true, id: done.id, rev: done.rev });
  }
  if (method === 'DELETE') {
    const done = await pouch.removeAttachment(id, name, query.rev);
    return answer(200, { ok: true, id: done.id, rev: done.rev });
  }
  throw new HttpError(405, 'method_not_allowed', 'Only DELETE,GET,HEAD,PUT allowed');
}

async function security(context, pouch) {
  const stored = await pouch.get(SECURITY).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  if (context.method === 'GET') return answer(200, stored ? stored.security : NO_ACCESS);
  if (context.method !== 'PUT') throw new HttpError(405, 'method_not_allowed', 'Only PUT,GET allowed');
  await pouch.put({ _id: SECURITY, ...(stored ? { _rev: stored._rev } : {}), security: object(context.body()) });
  return answer(200, { ok: true });
}

async function info(pouch, name, entry) {
  const got = await pouch.info();
  return answer(200, {
    db_name: name, doc_count: got.doc_count, update_seq: got.update_seq,
    compact_running: entry.compacting !== null, compacted_seq: entry.compacted,
    instance_start_time: '0', disk_format_version: 1, backend: 'leveldb',
  });
}

const SERVER = {
  'GET /': () => answer(200, {
    couchdb: 'Welcome', version: '3.5.0', features: [], vendor: { name: 'Passbook embedded server' },
  }),
  'GET /_up': () => answer(200, { status: 'ok' }),
  'GET /_all_dbs': (context) => answer(200, context.databases.list()),
  'GET /_session': () => answer(200, { ok: true, userCtx: { name: 'passbook', roles: ['_admin'] }, info: {} }),
};

// What works on a database as a whole. Each writes or reads with `pouch`; true marks those that write documents.
const DATABASE = {
  'GET ': [(context, pouch, name, entry) => info(pouch, name, entry)],
  'POST ': [async (context, pouch) => {
    const given = object(context.body());
    const done = given._id === undefined ? await pouch.post(given) : await pouch.put(given);
    return answer(201, { ok: true, id: done.id, rev: done.rev });
  }, true],
  'POST _bulk_docs': [(context, pouch) => bulkDocs(pouch, context.body()), true],
  'POST _bulk_get': [(context, pouch) => bulkGet(pouch, context.body(), context.query)],
  'GET _all_docs': [async (context, pouch) => answer(200, await pouch.allDocs(listing(context.query)))],
  'POST _all_docs': [async (context, pouch) =>
    answer(200, await pouch.allDocs(listing(context.query, object(context.body()))))],
  'POST _revs_diff': [async (context, pouch) => answer(200, await pouch.revsDiff(object(context.body())))],
  'POST _ensure_full_commit': [() => answer(201, { ok: true, instance_start_time: '0' })],
  'POST _compact': [(context, pouch, name) => {
    context.databases.compact(name);
    return answer(202, { ok: true });
  }],
  'GET _revs_limit': [() => answer(200, 1000)],
  'PUT _revs_limit': [() => answer(200, { ok: true })],
  'GET _security': [security],
  'PUT _security': [security],
};

// The answer to one request, or undefined if it has been written already.
async function route(context) {
  const { method, segments, databases } = context;
  const [name, first, ...rest] = segments;
  if (name === undefined || (name.startsWith('_') && !databases.exists(name) && method !== 'PUT')) {
    const serve = SERVER[`${method} /${segments.join('/')}`];
    if (!serve) throw new HttpError(404, 'not_found', 'missing');
    return serve(context);
  }
  if (first === undefined && method === 'PUT') {
    if (!databases.legal(name)) throw new HttpError(400, 'illegal_database_name', `Name: '${name}'.`);
    if (!databases.create(name)) {
      throw new HttpError(412, 'file_exists', 'The database could not be created, the file already exists.');
    }
    return answer(201, { ok: true });
  }
  if (first === undefined && method === 'DELETE') {
    if (!await databases.remove(name)) throw noDatabase();
    return answer(200, { ok: true });
  }
  if (first === '_changes' && rest.length === 0 && (method === 'GET' || method === 'POST')) {
    const body = method === 'POST' ? object(context.body({})) : null;
    const got = await changes(databases, name, context.request, context.response, context.query, body);
    return got && answer(200, got);
  }
  const done = await databases.use(name, async (pouch, entry) => {
    let writes = false;
    let result;
    const whole = DATABASE[`${method} ${first ?? ''}`];
    if (whole && rest.length === 0) {
      writes = whole[1] === true;
      result = await whole[0](context, pouch, name, entry);
    } else if (first === undefined) {
      throw new HttpError(405, 'method_not_allowed', 'Only DELETE,GET,HEAD,POST,PUT allowed');
    } else if (first === '_local' || first === '_design') {
      if (!rest.length) throw new HttpError(404, 'not_found', 'missing');
      result = await document(context, pouch, `${first}/${rest.join('/')}`);
      writes = first === '_design' && method !== 'GET';
    } else if (first.startsWith('_')) {
      throw new HttpError(404, 'not_found', 'missing');
    } else {
      result = rest.length ? await attachment(context, pouch, first, rest.join('/')) : await document(context, pouch, first);
      writes = method !== 'GET';
    }
    if (writes) entry.changed.emit('changed');
    return result;
  });
  if (!done) throw noDatabase();
  return done.value;
}

module.exports = { route };
