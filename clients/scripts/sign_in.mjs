// From a user name and a password to a copy on this device:
//
//   echo PASSWORD | node sign_in.mjs http://127.0.0.1:8720 asha my-phone
//
// The folder `my-phone` holds what an app must remember (an app: in the phone's key store), and a copy for each person
// who signs in there. Somebody who must choose a new password has it on a second line.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import PouchDB from 'pouchdb';
import { MANIFEST, checkOwner, openCopy, pathOf } from './copy.mjs';

const [service, username, folder = 'my-phone'] = process.argv.slice(2);
const file = `${folder}/kept.json`;
mkdirSync(folder, { recursive: true });
// `installation` is the phone's; what is in `people` belongs to one of them each, and is used for nobody else.
const phone = { people: {}, ...(existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}) };
const kept = Object.hasOwn(phone.people, username.toLowerCase()) ? phone.people[username.toLowerCase()] : {};
const save = () => {
  phone.people[username.toLowerCase()] = kept;
  writeFileSync(file, JSON.stringify(phone), { mode: 0o600 });
};
const keep = (more) => { Object.assign(kept, more); save(); };

async function post(path, body, headers = {}, tries = 5) {
  const answer = await fetch(service + path, { method: 'POST', body, headers }).catch(() => null);
  if ((!answer || answer.status >= 500) && tries > 1) {            // no network, service away: the same again, later
    await pause(1000 * (answer?.headers.get('retry-after') ?? 2));
    return post(path, body, headers, tries - 1);
  }
  const said = await answer?.json().catch(() => null) ?? { code: 'no_answer', message: 'Nobody answers.' };
  if (!answer?.ok) throw Object.assign(new Error(said.message), said);
  return said;
}

const tokens = async (grant) => keep(await post('/oauth/token', new URLSearchParams(grant)));

async function call(path, body, headers, again = true) {
  const sent = { ...headers, 'Content-Type': 'application/json', Authorization: `Bearer ${kept.access_token}` };
  try {
    return await post(path, JSON.stringify(body), sent);
  } catch (error) {
    if (error.code !== 'token_invalid' || !again) throw error;     // an access token is good for minutes …
    await tokens({ grant_type: 'refresh_token', refresh_token: kept.refresh_token });        // … this one for weeks
    return call(path, body, headers, false);
  }
}

async function register() {
  if (!kept.refresh_token || kept.must_change_password) {
    const [password, chosen] = readFileSync(0, 'utf8').split('\n');
    if (!phone.installation) phone.installation = randomUUID();       // for good: what is begun here ends together
    save();
    await tokens({ grant_type: 'password', username, password, installation_key: phone.installation });
    if (kept.must_change_password) await call('/password', { current: password, new: chosen });
    keep({ must_change_password: false });
  }
  if (!kept.key) keep({ key: randomUUID() });         // kept before it is sent: sent again, it gets the same device
  keep({ credential: await call('/devices', { name: 'my phone' }, { 'Idempotency-Key': kept.key }) });
  console.log(`${username} signed in and registered ${kept.credential.device}`);
}

async function synchronise() {
  const person = kept.credential.person;              // the copy is named after them: nobody else's is ever opened
  const copy = await openCopy(PouchDB, pathOf(folder, person), person);
  const remote = new PouchDB(kept.credential.url, { auth: kept.credential, skip_setup: true });
  const replication = copy.replicate.from(remote, { live: true, retry: true });       // an app leaves it running
  await new Promise((done, failed) => {
    replication.on('error', failed);                  // refused; without a network it pauses and tries again by itself
    replication.on('paused', () => copy.get(MANIFEST).then(done, () => {}));          // comes last: all is here
  });
  replication.cancel();
  await checkOwner(copy, person);                     // before anything is shown
  console.log(`${(await copy.info()).doc_count} documents in ${folder}`);
}

// What each refusal takes with it; any other leaves everything as it is, and its message is for the person.
const over = {
  session_ended: ['refresh_token'],                   // sign in again
  revoked: ['refresh_token', 'credential', 'key'],    // sign in again and register again
  unknown: ['refresh_token', 'credential', 'key'],
  expired: ['credential', 'key'],                     // register again: the refresh token will do
  idempotency_key_used: ['key'],
};

try {
  if (!kept.credential) await register();
  await synchronise();
} catch (error) {
  for (const name of over[error.code] ?? []) delete kept[name];
  keep({});
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
