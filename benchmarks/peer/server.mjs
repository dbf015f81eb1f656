// The nearest peer, @perfood/couch-auth, as its README sets it up: an Express server with its routes under /auth.
//
//   node server.mjs
//
// The first line of standard input says where and under which names:
//   {"couchdb": "http://user:password@host:5984", "users": "sl-users-…", "prefix": "…", "role": "…"}
// Standard output gets one line once it listens: {"port": …}. It ends with SIGTERM or when standard input ends.
// `users` must exist: the peer does not make its own database of users.
//
// Everything that is not named here is the peer's default. What that means for a comparison:
//
// · Hashing: its own PBKDF2-SHA256, 600,000 iterations, for the passwords of people, and 1,000 for the credential,
//   which goes into `_users` hashed already (so CouchDB hashes nothing when a credential is made).
// · One process: the hashing runs in libuv's pool of 4 threads, so one process keeps both cores of a small machine
//   busy; its JavaScript is not what limits it.
// · Login by e-mail address, with a user name it makes itself (`emailUsername`): what its README recommends.
// · Its brake on guessing (a delay of 0.5 s from the fourth request for one name on that is under way or failed).
// · A credential lives for 24 hours; reuse of the names of ended sessions as it comes.

import { createInterface } from 'node:readline';
import couchAuth from '@perfood/couch-auth';
import express from 'express';

const SEEDED_WITHIN = 30_000; // ms

// Express and the peer's error handler both look at it; any real installation sets it.
process.env.NODE_ENV = 'production';

const lines = createInterface({ input: process.stdin });
lines.once('line', (line) => {
  listenOn(JSON.parse(line)).catch((error) => {
    console.error(error);
    process.exit(1);
  });
});
lines.once('close', () => process.exit(0)); // whoever started us is gone
process.once('SIGTERM', () => process.exit(0));

async function listenOn({ couchdb, users, prefix, role }) {
  const at = new URL(couchdb);
  const auth = new couchAuth.CouchAuth({
    dbServer: {
      protocol: `${at.protocol}//`,
      host: at.host,
      user: decodeURIComponent(at.username),
      password: decodeURIComponent(at.password),
      userDB: users,
      couchAuthDB: '_users',
    },
    security: {
      // One request gives person, database and credential, as few as the peer can do with: in its default the
      // answer to a registration comes before anything is stored, and the login after it hashes a second time.
      loginOnRegistration: true,
      // Costs nothing, and tells the credentials of this run from others in `_users`.
      defaultRoles: ['user', role],
    },
    // An institution has its people before it; nobody confirms an address, and no mail is made or sent.
    local: { requireEmailConfirm: false, sendConfirmEmail: false },
    testMode: { noEmail: true },
    mailer: { fromEmail: 'nobody@example.com' },
    // One private database each, empty, without design documents: what ours is when it is made.
    userDBs: { privatePrefix: prefix, defaultDBs: { private: ['own'] } },
  });
  await seeded(auth.userDB);
  const app = express();
  app.disable('x-powered-by');
  app.use(express.json());
  app.use('/auth', auth.router);
  const server = app.listen(0, '127.0.0.1', () => {
    process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
  });
}

// The peer writes its views in the background when it is made; a login before that would fail.
async function seeded(users) {
  const end = Date.now() + SEEDED_WITHIN;
  for (;;) {
    try {
      await users.view('auth', 'email', { limit: 1 });
      return;
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
