// A real PouchDB, driven over standard input and output: for tests and the demo.
//
//   node replicate.mjs '{"url": "http://…/passbook", "username": "…", "password": "…", "store": "memory"}'
//
// `store` is "memory" or a directory (LevelDB), in which the copy is named after its person; `path` is the copy's very
// place instead. A copy of somebody else is an error, and nothing of it is shown. Options besides: "live" (replicate
// for ever from the start, with retries), "once" (replicate once at the start), "heartbeat" (ms), "batch_size",
// "selector", "person" (whose it is, where the gateway is not asked). Without an argument the options are the first
// line of standard input. Every line of standard output is an event:
//
//   ready · change {ids, deleted, read, written} · paused {error?} · active · complete {ok, read, written, status}
//   denied {id, …} · error {status, name, message, body} · docs {docs} · doc {doc} · info {…} · heard {docs} · stopped
//
// Every further line of standard input is a command:
//
// What answers a command that carries a number (`"n"`) carries it too, so that nobody takes an event of a
// replication for an answer.
//
//   {"cmd":"replicate"} once   {"cmd":"live"}   {"cmd":"cancel"} ends the live replication
//   {"cmd":"sync"} both ways, once   {"cmd":"put","doc":{…}} into the local store
//   {"cmd":"docs","startkey":…,"endkey":…,"conflicts":true}   {"cmd":"get","id":…}
//   {"cmd":"heed","id":…} at each change of that document in the local store, all that it holds then
//   {"cmd":"info"}   {"cmd":"stop"}

import { createInterface } from 'node:readline';
import PouchDB from 'pouchdb';
import memory from 'pouchdb-adapter-memory';
import { setTimeout as pause } from 'node:timers/promises';
import { checkOwner, openCopy, pathOf, whoseIs } from './copy.mjs';

PouchDB.plugin(memory);

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

function problem(error) {
  return {
    status: error?.status ?? null,
    name: error?.name ?? null,
    message: String(error?.message ?? error?.reason ?? error),
    // What the gateway says, for instance `code`.
    body: error && typeof error === 'object' ? { ...error, stack: undefined } : null,
  };
}

function watch(replication) {
  replication.on('change', ({ docs, docs_read: read, docs_written: written }) => say('change', {
    ids: docs.map((doc) => doc._id), deleted: docs.filter((doc) => doc._deleted).map((doc) => doc._id), read, written,
  }));
  replication.on('paused', (error) => say('paused', error ? { error: problem(error) } : {}));
  replication.on('active', () => say('active'));
  replication.on('denied', (denied) => say('denied', { id: denied?.doc?.id ?? null, denied }));
  replication.on('complete', (done) => say('complete', {
    ok: done.ok ?? null, status: done.status ?? null, read: done.docs_read ?? null, written: done.docs_written ?? null,
    last_seq: done.last_seq ?? null, push: done.push, pull: done.pull,
  }));
  replication.on('error', (error) => say('error', problem(error)));
  replication.catch(() => {}); // told by the event already
  return replication;
}

/** Whose database it is; without a network, asked until there is one. */
async function owner(options) {
  for (;;) {
    try {
      return await whoseIs(options);
    } catch (error) {
      if (error.status && error.status !== 429 && error.status < 500) throw error;
      await pause(1000);
    }
  }
}

/** The copy, and whose it is. One in memory is new with every process. */
async function opened(options) {
  if (!options.path && (options.store ?? 'memory') === 'memory') {
    return [new PouchDB('device', { adapter: 'memory' }), null];
  }
  const person = options.person ?? await owner(options);
  return [await openCopy(PouchDB, options.path ?? pathOf(options.store, person), person), person];
}

async function main(options) {
  const [local, person] = await opened(options).catch((error) => {
    say('error', problem(error));
    process.exit(1);
  });
  /** Before anything is shown. */
  const ours = () => person === null || checkOwner(local, person);
  const remote = new PouchDB(options.url, {
    auth: { username: options.username, password: options.password }, skip_setup: true,
  });
  const settings = {};
  for (const name of ['heartbeat', 'batch_size', 'timeout', 'selector']) if (options[name] !== undefined) settings[name] = options[name];

  let running = null;
  const live = () => {
    running = watch(local.replicate.from(remote, { ...settings, live: true, retry: true }));
  };
  const answer = ({ n }, event, fields) => say(event, n === undefined ? fields : { ...fields, n });
  const commands = {
    replicate: () => watch(local.replicate.from(remote, settings)),
    sync: () => watch(PouchDB.sync(local, remote, settings)),
    live,
    cancel: () => running?.cancel(),
    put: async (command) => answer(command, 'written', await local.put(command.doc)),
    docs: async (command) => {
      await ours();
      const { startkey, endkey, conflicts } = command;
      const range = { include_docs: true, conflicts: Boolean(conflicts), attachments: Boolean(options.dump) };
      if (startkey !== undefined) range.startkey = startkey;
      if (endkey !== undefined) range.endkey = endkey;
      answer(command, 'docs', { docs: (await local.allDocs(range)).rows.map((row) => row.doc) });
    },
    get: async (command) => {
      await ours();
      answer(command, 'doc', { doc: await local.get(command.id, { attachments: true, conflicts: true }) });
    },
    heed: async (command) => {
      local.changes({ live: true, since: 'now' }).on('change', async ({ id }) => {
        if (id !== command.id) return;
        await ours();
        const { rows } = await local.allDocs({ include_docs: true });
        say('heard', { docs: rows.map((row) => row.doc) });
      });
      answer(command, 'heeding');
    },
    info: async (command) => answer(command, 'info', await local.info()),
    stop: async (command) => {
      running?.cancel();
      await local.close();
      answer(command, 'stopped');
      process.exit(0);
    },
  };
  const lines = createInterface({ input: process.stdin });
  lines.on('line', async (line) => {
    if (!line.trim()) return;
    let command = {};
    try {
      command = JSON.parse(line);
      if (!commands[command.cmd]) throw new Error(`no such command: ${command.cmd}`);
      await commands[command.cmd](command);
    } catch (error) {
      answer(command, 'error', problem(error));
    }
  });
  lines.on('close', () => process.exit(0)); // never outlives whoever started it
  say('ready');
  if (options.live) live();
  else if (options.once) commands.replicate();
}

if (process.argv[2]) main(JSON.parse(process.argv[2]));
else {
  // Not by `once('line')` on an interface of its own, which would swallow the lines that come with the first.
  let text = '';
  const first = (chunk) => {
    text += chunk;
    const end = text.indexOf('\n');
    if (end < 0) return;
    process.stdin.off('data', first).pause();
    process.stdin.unshift(Buffer.from(text.slice(end + 1)));
    main(JSON.parse(text.slice(0, end)));
  };
  process.stdin.on('data', first);
}
