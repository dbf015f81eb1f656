// echo PASSWORD | node first_sync.mjs http://127.0.0.1:8720 asha
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import PouchDB from 'pouchdb';

const [service, username] = process.argv.slice(2);
const password = readFileSync(0, 'utf8').trim();

async function ask(path, body, headers) {
  const answer = await fetch(service + path, { method: 'POST', body, headers });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.message), said, { status: answer.status });
  return said;
}

// 1. Sign in. (The first time `must_change_password` may be true: then POST /password before anything else.)
const installation_key = randomUUID();                                 // an app: made once, kept in the key store
const form = { grant_type: 'password', username, password, installation_key };
const tokens = await ask('/oauth/token', new URLSearchParams(form));

// 2. Register this device. Keep the key until the answer has arrived, and the answer in the platform's key store.
const credential = await ask('/devices', JSON.stringify({ name: 'my phone' }), {
  Authorization: `Bearer ${tokens.access_token}`,
  'Content-Type': 'application/json',
  'Idempotency-Key': randomUUID(),
});

// 3. Synchronise, for as long as the credential is good; tokens are not needed for it.
const copy = new PouchDB(`copy-of-${credential.person}`);          // one for each person: nobody meets another's
const remote = new PouchDB(credential.url, { auth: credential, skip_setup: true });
await copy.replicate.from(remote, { batch_size: 500 });            // an app: { live: true, retry: true }
console.log(`${(await copy.info()).doc_count} documents as of ${(await copy.get('~passbook')).as_of}`);
