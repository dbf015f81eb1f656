'use strict';
// CouchDB's HTTP interface, as far as Passbook and replication use it, over PouchDB.

const { changes } = require('./feeds');
const { HttpError, conflict, fromPouch, noDatabase } = require('./errors');
const { bad, boolean, flag, identifier, json, object, revision, revisions, whole } = require('./parameters');

const SECURITY = '_local/passbook-embedded-security';
const NO_ACCESS = { admins: { roles: ['_admin'] }, members: { roles: ['_admin'] } };
const READ_AT_ONCE = 20; // documents of one _bulk_get

const answer = (status, body, headers = {}) => ({ status, body, headers });

function listing(query, body) {
  const given = { ...query };
  for (const name of ['key', 'keys', 'startkey', 'endkey', 'start_key', 'end_key']) {
    if (given[name] !== undefined) given[name] = json(given[name]);
  }
  Object.assign(given, body || {});
  const result = {};
  for (const name of ['include_docs', 'conflicts', 'attachments', 'descending', 'inclusive_end', 'update_seq']) {
    if (given[name] !== undefined) result[name] = boolean(given[name]);
  }
  for (const name of ['limit', 'skip']) {
    if (given[name] !== undefined) result[name] = whole(given[name], name);
  }
  if (given.keys !== undefined && !Array.isArray(given.keys)) throw bad('`keys` body member must be an array.');
  for (const name of ['key', 'keys']) if (given[name] !== undefined) result[name] = given[name];
  const start = given.startkey ?? given.start_key;
  const end = given.endkey ?? given.end_key;
  if (start !== undefined) result.startkey = start;
  if (end !== undefined) result.endkey = end;
  return result;
}

async function allDocs(pouch, options) {
  const got = await pouch.allDocs(options);
  if (options.keys !== undefined) {
    got.offset = null;
    if (!options.include_docs) for (const row of got.rows) delete row.doc;
  }
  const { rows, ...first } = got;
  // As CouchDB writes it, a row a line.
  const lines = rows.map((row) => JSON.stringify(row)).join(',\r\n');
  const text = `${JSON.stringify(first).slice(0, -1)},"rows":[\r\n${lines}\r\n]}\n`;
  return { status: 200, raw: Buffer.from(text), headers: {} };
}

function reading(query) {
  const result = {};
  for (const name of ['revs', 'revs_info', 'conflicts', 'attachments', 'latest', 'local_seq']) {
    if (query[name] !== undefined) result[name] = flag(query[name]);
  }
  if (query.rev !== undefined) result.rev = revision(query.rev);
  if (query.open_revs !== undefined) result.open_revs = query.open_revs === 'all' ? 'all' : revisions(query.open_revs);
  if (query.atts_since !== undefined) revisions(query.atts_since);
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
    const options = { ...reading(query), open_revs: rev === undefined ? 'all' : [rev] };
    const failed = (error, reason) => ({
      error: { id, rev: rev ?? (error === 'not_found' ? 'undefined' : null), error, reason },
    });
    try {
      identifier(id);
      if (rev !== undefined) revision(rev);
      const got = await get(pouch, id, options);
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
  if (docs === undefined) throw bad('POST body must include `docs` parameter.');
  if (!Array.isArray(docs)) throw bad('`docs` parameter must be an array.');
  for (const doc of docs) if (object(doc, 'Document')._id !== undefined) identifier(doc._id);
  // CouchDB applies a request in the order of ids, and answers in the order of the request.
  const places = docs.map((doc, index) => ({ id: Buffer.from(String(doc._id ?? '')), index }))
    .sort((one, other) => Buffer.compare(one.id, other.id))
    .map((place) => place.index);
  const sorted = places.map((index) => docs[index]);
  const results = await pouch.bulkDocs(sorted, newEdits === false ? { new_edits: false } : {});
  const told = results.map((result, index) => (result.error
    ? { id: result.id ?? sorted[index]._id, error: result.name, reason: fromPouch(result).message }
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
    const given = { ...object(body(), 'Document'), _id: id };
    if (query.rev !== undefined) given._rev = revision(query.rev);
    if (query.new_edits === 'false') {
      const [problem] = await pouch.bulkDocs([given], { new_edits: false });
      if (problem) throw problem;
      return answer(201, { ok: true, id, rev: given._rev });
    }
    // PouchDB looks at the members of others only.
    const special = /^_(?!id$|rev$|deleted$|revisions$)/;
    const strange = id.startsWith('_local/') && Object.keys(given).find((name) => special.test(name));
    if (strange) throw new HttpError(400, 'doc_validation', `Bad special document member: ${strange}`);
    if (id.startsWith('_local/') && given._rev === undefined) {
      // CouchDB overwrites a local document when no revision is given.
      const current = await pouch.get(id).catch(() => null);
      if (current) given._rev = current._rev;
    }
    const done = await pouch.put(given);
    return answer(201, { ok: true, id: done.id, rev: done.rev }, { ETag: `"${done.rev}"` });
  }
  if (method === 'DELETE') {
    const present = query.rev ?? (await pouch.get(id))._rev;
    if (query.rev === undefined && !id.startsWith('_local/')) throw conflict();
    const done = await pouch.remove(id, revision(present));
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
    const given = object(context.body(), 'Document');
    const done = given._id === undefined ? await pouch.post(given) : await pouch.put(given);
    return answer(201, { ok: true, id: done.id, rev: done.rev });
  }, true],
  'POST _bulk_docs': [(context, pouch) => bulkDocs(pouch, context.body()), true],
  'POST _bulk_get': [(context, pouch) => bulkGet(pouch, context.body(), context.query)],
  'GET _all_docs': [(context, pouch) => allDocs(pouch, listing(context.query))],
  'POST _all_docs': [(context, pouch) => allDocs(pouch, listing(context.query, object(context.body())))],
  'POST _revs_diff': [async (context, pouch) => {
    const asked = object(context.body());
    for (const revs of Object.values(asked)) {
      if (!Array.isArray(revs)) throw bad('Invalid list of revisions');
      revs.forEach(revision);
    }
    return answer(200, await pouch.revsDiff(asked));
  }],
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
    return got && { status: 200, raw: Buffer.from(got), headers: {} };
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
