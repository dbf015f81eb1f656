'use strict';
// What stands in a query or a body, read as CouchDB reads it. What CouchDB answers with 500 is a 400 here.

const { HttpError } = require('./errors');

const LARGEST_LIMIT = 2n ** 59n - 1n;

const bad = (reason) => new HttpError(400, 'bad_request', reason);
const unread = (reason) => new HttpError(400, 'query_parse_error', reason);

function json(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value === 'string' && /\p{Surrogate}/u.test(value)) throw new SyntaxError();
    return value;
  } catch {
    throw bad('invalid UTF-8 JSON');
  }
}

function object(body, what = 'Request body') {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) throw bad(`${what} must be a JSON object`);
  return body;
}

// In the query and in the body of a listing. Elsewhere CouchDB takes whatever is not `true` for false.
function boolean(value) {
  const lower = String(value).toLowerCase();
  if (!['boolean', 'string'].includes(typeof value) || !['true', 'false'].includes(lower)) {
    throw unread(`Invalid boolean parameter: ${JSON.stringify(value)}`);
  }
  return lower === 'true';
}

const flag = (text) => text === 'true';

function whole(value, name) {
  if (!/^[+-]?\d+$/.test(String(value))) throw unread(`Invalid value for integer: ${JSON.stringify(value)} (${name})`);
  const number = BigInt(String(value).replace('+', ''));
  if (number < 0n) throw unread(`Invalid value for positive integer: ${JSON.stringify(value)} (${name})`);
  if (name === 'limit' && number > LARGEST_LIMIT) throw unread(`Limit is too large, must not exceed ${LARGEST_LIMIT}`);
  return number > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(number);
}

function revision(value) {
  const found = typeof value === 'string' && /^\d+-(.*)$/s.exec(value);
  const strange = found && Buffer.byteLength(found[1]) === 32 && !/^[0-9a-f]{32}$/i.test(found[1]);
  if (!found || strange) throw bad('Invalid rev format');
  return value;
}

function revisions(text) {
  const value = json(text);
  if (!Array.isArray(value)) throw bad('Invalid list of revisions');
  return value.map(revision);
}

function identifier(id) {
  const illegal = (reason) => new HttpError(400, 'illegal_docid', reason);
  if (typeof id !== 'string') throw illegal('Document id must be a string');
  if (id === '') throw illegal('Document id must not be empty');
  if (id.startsWith('_') && !/^_(design|local)\//.test(id)) {
    throw illegal('Only reserved document ids may start with underscore.');
  }
  return id;
}

module.exports = { bad, boolean, flag, identifier, json, object, revision, revisions, whole };
