"""What PouchDB tells an app that writes to the remote copy, one document at a time, or would remove it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from passbook.embedded import node
from sample_institution.pouch import CLIENTS
from sync_gateway.answers import READ_ONLY
from tests.gateway.conftest import Device
from tests.support.couch import Couch

#: Everything of PouchDB's that writes; each answers with the error it ended with.
SCRIPT = """
import PouchDB from 'pouchdb';
const { url, username, password, rev } = JSON.parse(process.argv[1]);
const remote = new PouchDB(url, { auth: { username, password } });
const tries = {
  put: () => remote.put({ _id: 'loan:1', _rev: rev, balance: '0.00' }),
  put_new: () => remote.put({ _id: 'loan:2' }),
  put_forced: () => remote.put({ _id: 'loan:1', _rev: rev }, { force: true }),
  put_design: () => remote.put({ _id: '_design/mine', views: {} }),
  put_slash: () => remote.put({ _id: 'notes/mine' }),
  post: () => remote.post({ balance: '0.00' }),
  remove: () => remote.remove('loan:1', rev),
  putAttachment: () => remote.putAttachment('loan:1', 'a/b', rev, Buffer.from('x'.repeat(500_000)), 'text/plain'),
  removeAttachment: () => remote.removeAttachment('loan:1', 'image', rev),
  destroy: () => new PouchDB(url, { auth: { username, password } }).destroy(),
};
const answers = {};
for (const [name, attempt] of Object.entries(tries)) {
  answers[name] = await attempt().then((done) => done, ({ status, error, reason }) => ({ status, error, reason }));
}
console.log(JSON.stringify(answers));
process.exit(0);
"""


async def test_pouchdb_is_told_that_the_copy_is_read_only(device: Device, couch: Couch) -> None:
    (written,) = await couch.write(device.database, {"_id": "loan:1", "balance": "10.00"})
    before = await couch.ask("GET", device.database)
    found = node.find()
    await asyncio.to_thread(node.ensure_packages, CLIENTS, found)
    given = {"url": device.url, "username": device.id, "password": device.secret, "rev": written["rev"]}
    process = await asyncio.create_subprocess_exec(
        *(found.node, "--input-type=module", "--eval", SCRIPT, json.dumps(given)),
        cwd=CLIENTS,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    answers: dict[str, Any] = json.loads(output)
    refused = {"status": 403, "error": "forbidden", "reason": READ_ONLY}
    assert answers == dict.fromkeys(answers, refused)
    assert len(answers) == 10
    assert await couch.ask("GET", device.database) == before
