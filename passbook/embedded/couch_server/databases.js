'use strict';
// Opens and closes databases. A LevelDB keeps four or more file descriptors open, so only the most recently used
// databases stay open; a directory stands for a database, whether it is open or not.

const fs = require('node:fs');
const path = require('node:path');
const { EventEmitter } = require('node:events');

const PouchDB = require('pouchdb-core').plugin(require('pouchdb-adapter-leveldb'));

const LEGAL_NAME = /^(_users|_replicator|[a-z][a-z0-9_$()+/-]{0,237})$/;

class Databases {
  constructor(dataDirectory, maxOpen) {
    this.root = path.join(dataDirectory, 'databases');
    this.maxOpen = maxOpen;
    this.entries = new Map(); // least recently used first
    this.compacted = new Map(); // by name, up to which sequence, as far as this process knows
    fs.mkdirSync(this.root, { recursive: true });
    for (const name of fs.readdirSync(this.root)) {
      // Left behind when the process died while it removed a database.
      if (name.startsWith('.')) fs.rmSync(path.join(this.root, name), { recursive: true, force: true });
    }
  }

  legal(name) {
    return LEGAL_NAME.test(name);
  }

  directory(name) {
    return path.join(this.root, encodeURIComponent(name));
  }

  exists(name) {
    return this.legal(name) && fs.existsSync(this.directory(name));
  }

  list() {
    return fs.readdirSync(this.root).filter((name) => !name.startsWith('.')).map(decodeURIComponent).sort();
  }

  entry(name) {
    let entry = this.entries.get(name);
    if (!entry) {
      entry = {
        name, users: 0, pouch: null, deleted: false, closing: null, changed: new EventEmitter(),
        compacting: null, compacted: this.compacted.get(name) || 0,
      };
      entry.changed.setMaxListeners(0);
    }
    this.entries.delete(name);
    this.entries.set(name, entry);
    return entry;
  }

  create(name) {
    if (this.exists(name)) return false;
    fs.mkdirSync(this.directory(name));
    return true;
  }

  // Runs `work(pouch, entry)` with the database open, or returns undefined if there is no such database.
  async use(name, work) {
    if (!this.exists(name)) return undefined;
    const entry = this.entry(name);
    entry.users += 1;
    try {
      while (entry.closing) await entry.closing;
      if (entry.deleted || !this.exists(name)) return undefined;
      return { value: await work(await this.open(entry), entry) };
    } finally {
      entry.users -= 1;
      this.evict();
    }
  }

  open(entry) {
    if (!entry.pouch) {
      const pouch = new PouchDB(this.directory(entry.name), { adapter: 'leveldb' });
      // One that failed to open is forgotten, so that the next request tries again.
      entry.pouch = pouch.info().then(() => pouch, (error) => {
        entry.pouch = null;
        throw error;
      });
    }
    return entry.pouch;
  }

  // Throws away the bodies of old revisions; goes on after it has returned, as in CouchDB.
  compact(name) {
    const entry = this.entry(name);
    if (entry.compacting) return;
    entry.compacting = this.use(name, async (pouch) => {
      const { update_seq: sequence } = await pouch.info();
      await pouch.compact();
      entry.compacted = sequence;
      this.compacted.set(name, sequence);
    }).catch((error) => {
      console.error(`compacting a database failed: ${error.message || error.reason || error}`);
    }).then(() => {
      entry.compacting = null;
    });
  }

  // Calls `listener` when something was written; feeds hold no database open while they wait.
  subscribe(name, listener) {
    const entry = this.entry(name);
    entry.changed.on('changed', listener);
    return { entry, stop: () => entry.changed.off('changed', listener) };
  }

  evict() {
    let open = 0;
    for (const entry of this.entries.values()) if (entry.pouch) open += 1;
    for (const entry of this.entries.values()) {
      if (open <= this.maxOpen) break;
      if (entry.pouch && entry.users === 0) {
        this.close(entry);
        open -= 1;
      }
    }
    for (const [name, entry] of this.entries) {
      const idle = !entry.pouch && !entry.closing && entry.users === 0;
      if (idle && entry.changed.listenerCount('changed') === 0) this.entries.delete(name);
    }
  }

  close(entry) {
    const opened = entry.pouch;
    entry.pouch = null;
    entry.closing = opened.then((pouch) => pouch.close()).catch((error) => {
      console.error(`closing a database failed: ${error.message || error.reason || error}`);
    }).then(() => {
      entry.closing = null;
    });
    return entry.closing;
  }

  async remove(name) {
    if (!this.exists(name)) return false;
    const entry = this.entry(name);
    if (entry.deleted) return false;
    entry.deleted = true; // from here on nobody gets in, and open feeds end
    entry.changed.emit('changed');
    while (entry.users > 0 || entry.closing) await new Promise((resolve) => setTimeout(resolve, 5));
    if (entry.pouch) await this.close(entry);
    const rubbish = path.join(this.root, `.${process.pid}-${Date.now()}-${Math.random().toString(36).slice(2)}`);
    fs.renameSync(this.directory(name), rubbish);
    this.entries.delete(name);
    this.compacted.delete(name);
    await fs.promises.rm(rubbish, { recursive: true, force: true });
    return true;
  }

  async closeAll() {
    const open = [...this.entries.values()].filter((entry) => entry.pouch);
    await Promise.all(open.map((entry) => this.close(entry)));
  }
}

module.exports = { Databases };
