'use strict';

// An answer that is an error, in CouchDB's words.
class HttpError extends Error {
  constructor(status, error, reason) {
    super(reason);
    this.status = status;
    this.error = error;
  }
}

const STATUSES = { not_found: 404, conflict: 409, bad_request: 400, doc_validation: 400, missing_id: 412, badarg: 400 };

// What PouchDB throws, as an HttpError.
function fromPouch(error) {
  if (error instanceof HttpError) return error;
  const name = error.name && error.name !== 'Error' ? error.name : 'internal_server_error';
  const status = STATUSES[name] || (Number.isInteger(error.status) && error.status >= 400 ? error.status : 500);
  if (status === 500) console.error(error.stack || error);
  if (name === 'conflict') return conflict();
  const reason = String(error.reason || error.message || name);
  return new HttpError(status, name, name === 'doc_validation' ? `Bad special document member: ${reason}` : reason);
}

const conflict = () => new HttpError(409, 'conflict', 'Document update conflict.');
const noDatabase = () => new HttpError(404, 'not_found', 'Database does not exist.');

module.exports = { HttpError, conflict, fromPouch, noDatabase };
