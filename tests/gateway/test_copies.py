"""A copy on a device belongs to one person: `clients/scripts` with a real PouchDB and a device's credential."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from passbook.embedded import node
from sample_institution.pouch import CLIENTS, PouchClient
from tests.gateway.conftest import Device, People, settled
from tests.support.couch import Couch

WITHIN = 30.0
MANIFEST = "~passbook"


async def with_documents(couch: Couch, people: People, url: str, name: str) -> Device:
    """A device of somebody new, who has a manifest and a loan of their own."""
    device = await settled(couch, people)
    device.url = url
    await couch.write(
        device.database,
        {"_id": MANIFEST, "type": "passbook", "person": device.person},
        {"_id": f"loan:{name}", "balance": "10.00"},
    )
    return device


async def replicated(device: Device, store: Path) -> list[str]:
    async with PouchClient.started(device.url, device.id, device.secret, store=store) as pouch:
        await pouch.replicate()
        found = [document["_id"] for document in await pouch.docs()]
        await pouch.stop()
    return sorted(found)


async def refused(device: Device, **place: Any) -> list[dict[str, Any]]:
    """What the script says when it is given a place that is not this person's; it must end, and not well."""
    options = {"url": device.url, "username": device.id, "password": device.secret, "once": True, **place}
    process = await asyncio.create_subprocess_exec(
        node.find().node,
        str(CLIENTS / "scripts" / "replicate.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    # The input stays open, as a caller's who waits for it to be ready.
    assert process.stdin is not None
    process.stdin.write(json.dumps(options, default=str).encode() + b"\n" + b'{"cmd":"docs"}\n')
    await process.stdin.drain()
    assert process.stdout is not None
    output = await asyncio.wait_for(process.stdout.read(), WITHIN)
    assert await process.wait() == 1
    return [json.loads(line) for line in output.splitlines()]


async def test_T37_a_credential_tells_whose_copy_it_is(device: Device) -> None:
    async with aiohttp.ClientSession() as session, session.get(device.url, headers=device.headers) as answer:
        said = await answer.json()
    assert said["person"] == device.person
    assert device.database not in json.dumps(said)


async def test_T37_two_people_in_one_folder_have_two_copies(
    device: Device, couch: Couch, people: People, tmp_path: Path
) -> None:
    asha, baraka = [await with_documents(couch, people, device.url, name) for name in ("asha", "baraka")]
    for _ in range(2):
        assert await replicated(asha, tmp_path) == ["loan:asha", MANIFEST]
        assert await replicated(baraka, tmp_path) == ["loan:baraka", MANIFEST]
    assert {one.name for one in tmp_path.iterdir()} == {asha.person, baraka.person}


async def test_T37_the_copy_of_another_person_is_not_opened(
    device: Device, couch: Couch, people: People, tmp_path: Path
) -> None:
    asha, baraka = [await with_documents(couch, people, device.url, name) for name in ("asha", "baraka")]
    await replicated(asha, tmp_path)
    place = tmp_path / asha.person
    for _ in range(2):
        (said,) = await refused(baraka, path=place)
        assert (said["event"], said["body"]["code"]) == ("error", "not_theirs")
        assert asha.person not in json.dumps(said)
    # It is as it was.
    assert await replicated(asha, tmp_path) == ["loan:asha", MANIFEST]


async def script(*arguments: str, text: str) -> str:
    process = await asyncio.create_subprocess_exec(
        node.find().node,
        "--input-type=module",
        "-e",
        f"""
        const [, scripts, folder, person] = process.argv;
        const {{ createRequire }} = await import('node:module');
        const PouchDB = createRequire(scripts)('pouchdb');
        const {{ openCopy, checkOwner, pathOf, MANIFEST }} = await import(scripts + '/copy.mjs');
        const told = async (work) => work.then(() => 'opened', (error) => error.code);
        {text}
        """,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=CLIENTS,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_T37_what_a_copy_holds_decides_not_its_name(tmp_path: Path) -> None:
    """A manifest of somebody else, one that lost a conflict, a copy that says nothing: none is theirs."""
    found = node.find()
    await asyncio.to_thread(node.ensure_packages, CLIENTS, found)
    output = await script(
        str(CLIENTS / "scripts"),
        str(tmp_path),
        "person-1",
        text="""
        const verdicts = {};
        const left = async (name, docs, options) => {
          const copy = new PouchDB(`${folder}/${name}`);
          await copy.bulkDocs(docs, options);
          await copy.close();
          verdicts[name] = await told(openCopy(PouchDB, `${folder}/${name}`, person));
        };
        await left('empty', []);
        await left('theirs', [{ _id: MANIFEST, person }]);
        await left('anothers', [{ _id: MANIFEST, person: 'person-2' }]);
        await left('nobodys', [{ _id: 'loan:1' }]);
        await left('older', [{ _id: MANIFEST }, { _id: 'loan:1' }]);
        await left('mixed', [
          { _id: MANIFEST, person, _rev: '2-b' }, { _id: MANIFEST, person: 'person-2', _rev: '1-a' },
        ], { new_edits: false });
        const copy = await openCopy(PouchDB, pathOf(folder, person), person);
        await copy.put({ _id: MANIFEST, person: 'person-2' });
        verdicts.while_open = await told(checkOwner(copy, person));
        verdicts.strange = await openCopy(PouchDB, folder, '../x').catch(() => 'refused');
        console.log(JSON.stringify(verdicts));
        """,
    )
    assert json.loads(output) == {
        "empty": "opened",
        "theirs": "opened",
        "anothers": "not_theirs",
        "nobodys": "not_theirs",
        "older": "not_theirs",
        "mixed": "not_theirs",
        "while_open": "not_theirs",
        "strange": "refused",
    }
