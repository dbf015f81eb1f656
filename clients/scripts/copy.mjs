// A copy on a device belongs to one person: it is named after their id, it says whose it is, and no other is opened.
//
//   const copy = await openCopy(PouchDB, pathOf(folder, person), person);
//   …replicate…
//   await checkOwner(copy, person);                             // before anything of it is shown
//
// `person` is what `POST /devices` answered, or whoseIs(credential).
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export const MANIFEST = '~passbook';
const OWNER = '_local/owner'; // stays on this device: it is in no replication

/** What is thrown for a copy, or a manifest in it, of somebody else. */
export class NotTheirs extends Error {
  name = 'NotTheirs';

  code = 'not_theirs';

  constructor(person) {
    super(`This copy is not that of ${person}: it stays closed. Sign in as its person, or remove it.`);
  }
}

/** Whose database a replication credential opens: `person` of `GET /passbook`. Throws what a refusal says. */
export async function whoseIs({ url, username, password }) {
  const authorization = `Basic ${btoa(`${username}:${password}`)}`;
  const answer = await fetch(url, { headers: { authorization } });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.message), said, { status: answer.status });
  return said.person;
}

/** Where the copy of a person is: a name of its own for each person, so that nobody meets another's. */
export const pathOf = (folder, person) => join(folder, person);

/** The copy of this person, new or as it was left. Throws NotTheirs for one that is another's. */
export async function openCopy(PouchDB, path, person) {
  if (!/^[a-z0-9-]+$/.test(person)) throw new Error('This is no id of a person.');
  await mkdir(dirname(path), { recursive: true }); // LevelDB makes the last folder alone
  const copy = new PouchDB(path);
  try {
    const { doc_count: count } = await copy.info();
    if (!(await checkOwner(copy, person)) && count > 0) throw new NotTheirs(person); // nobody knows whose it is
    if (count === 0) await copy.put({ _id: OWNER, person }).catch(unless(409));
    return copy;
  } catch (error) {
    await copy.close();
    throw error;
  }
}

/** Throws NotTheirs if the copy, or a manifest in it, is another person's; whether anything says that it is theirs. */
export async function checkOwner(copy, person) {
  const owners = await ownersOf(copy);
  if (owners.some((one) => one !== person)) throw new NotTheirs(person);
  return owners.length > 0;
}

/** Whose the copy is, as it says itself; several where two databases were replicated into it. */
export async function ownersOf(copy) {
  const owner = await copy.get(OWNER).catch(unless(404));
  // Also a manifest that lost a conflict.
  const leaves = await copy.get(MANIFEST, { open_revs: 'all' }).catch(unless(404));
  const manifests = (leaves ?? []).map((leaf) => leaf.ok).filter((doc) => doc && !doc._deleted);
  return [owner, ...manifests].map((doc) => doc?.person).filter((one) => one !== undefined);
}

const unless = (status) => (error) => {
  if (error.status !== status) throw error;
  return null;
};
