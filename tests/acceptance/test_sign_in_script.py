"""`clients/scripts/sign_in.mjs`, which app developers are shown, against a real auth service and gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import web

from auth_service import devices, installations
from passbook.embedded import node
from passbook.servicedb import tables
from sample_institution.demo.children import running
from sample_institution.pouch import CLIENTS
from tests.support.actors import TESTER
from tests.support.api import PASSWORD, Crowd
from tests.support.stage import Stage


@dataclass
class Line:
    """The way to the auth service. The first answer to each path in `lost` never arrives."""

    url: str = ""
    lost: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def _line(target: str) -> AsyncIterator[Line]:
    line = Line()
    async with aiohttp.ClientSession() as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            line.asked.append(request.path)
            names = ("Authorization", "Content-Type", "Idempotency-Key")
            headers = {name: request.headers[name] for name in names if name in request.headers}
            async with session.request(
                request.method, target + request.raw_path, data=await request.read(), headers=headers
            ) as answer:
                body = await answer.read()
            if request.path in line.lost:
                line.lost.remove(request.path)
                assert request.transport
                request.transport.abort()
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        line.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield line
        await runner.cleanup()


@pytest.fixture
async def line(stage: Stage, tmp_path: Path) -> AsyncIterator[Line]:
    """An auth service and a gateway as processes, and the way to the former."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(2)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        gateway_port, auth_port = (probe.getsockname()[1] for probe in sockets)
    environment = {
        **os.environ,
        **stage.environment,
        "PASSBOOK_GATEWAY_PORT": str(gateway_port),
        "PASSBOOK_AUTH_PORT": str(auth_port),
    }
    async with (
        running(["gateway"], environment, tmp_path / "gateway.log", ready="Gateway listens"),
        running(["auth"], environment, tmp_path / "auth.log", ready="Auth service listens"),
        _line(f"http://127.0.0.1:{auth_port}") as one,
    ):
        yield one


async def _run(line: Line, folder: Path, *typed: str, username: str = "amina") -> tuple[int, str, str]:
    """The script with these lines as its input: exit status, output, errors."""
    found = node.find()
    await asyncio.to_thread(node.ensure_packages, CLIENTS, found)
    process = await asyncio.create_subprocess_exec(
        found.node,
        str(CLIENTS / "scripts" / "sign_in.mjs"),
        line.url,
        username,
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate("".join(f"{text}\n" for text in typed).encode())
    return process.returncode or 0, output.decode(), errors.decode()


def _kept(folder: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((folder / "kept.json").read_text())["people"]["amina"]
    return kept


def _devices(stage: Stage) -> list[devices.Device]:
    with stage.database.begin() as connection:
        return devices.of_person(connection, "amina")


async def test_from_a_password_to_the_first_sync_and_what_each_refusal_asks_for(
    stage: Stage, line: Line, tmp_path: Path
) -> None:
    Crowd(stage.database).person("amina", clients=(stage.institution.customer,))
    await stage.run()
    folder = tmp_path / "phone"

    status, _, errors = await _run(line, folder, "not the password")
    assert (status, "unknown" in errors) == (1, True), errors
    assert not _devices(stage)

    status, output, errors = await _run(line, folder, PASSWORD)
    assert status == 0, errors
    count = len(await stage.copies("amina"))
    assert f"{count} documents" in output
    assert (folder / "kept.json").stat().st_mode & 0o077 == 0
    assert PASSWORD not in (folder / "kept.json").read_text()
    first = _devices(stage)[0]
    assert first.device in output
    # What is kept will do from now on: nobody types anything.
    asked = len(line.asked)
    status, output, errors = await _run(line, folder)
    assert (status, f"{count} documents" in output) == (0, True), errors
    assert len(line.asked) == asked

    # The credential has expired, and the access token too: the refresh token gets another of each.
    with stage.database.begin() as connection:
        connection.execute(sa.update(tables.device).values(expires_at=sa.func.now()))
    status, _, errors = await _run(line, folder)
    assert (status, "expired" in errors) == (1, True), errors
    kept = _kept(folder)
    phone = json.loads((folder / "kept.json").read_text())
    phone["people"]["amina"]["access_token"] = "one of yesterday"
    (folder / "kept.json").write_text(json.dumps(phone))
    line.lost = {"/oauth/token"}  # the answer to the refresh gets lost, and the script asks again
    status, output, errors = await _run(line, folder)
    assert (status, f"{count} documents" in output) == (0, True), errors
    assert line.asked[asked:] == ["/devices", "/oauth/token", "/oauth/token", "/devices"]
    assert _kept(folder)["refresh_token"] != kept["refresh_token"]
    second = _devices(stage)[0]
    assert (second.state, second.device != first.device) == ("active", True)

    # Revoked: the copy stays on the phone; to go on takes the password.
    with stage.database.begin() as connection:
        devices.revoke(connection, TESTER, second.device)
    status, _, errors = await _run(line, folder)
    assert (status, "revoked" in errors) == (1, True), errors
    assert _kept(folder).keys().isdisjoint({"credential", "key", "refresh_token"})
    status, output, errors = await _run(line, folder, PASSWORD)
    assert (status, f"{count} documents" in output) == (0, True), errors
    # All of that was on one phone, and every sign-in has said so.
    with stage.database.begin() as connection:
        phones = [row.installation for row in connection.execute(sa.select(tables.session))]
        phones += [row.installation for row in connection.execute(sa.select(tables.device))]
    assert {bytes(one) for one in phones} == {installations.of_key(second.person, phone["installation"])}


async def test_T37_two_people_on_one_phone_have_a_copy_each_and_see_no_other(
    stage: Stage, line: Line, tmp_path: Path
) -> None:
    amina, baraka = stage.institution.customer, stage.institution.agent_clients
    crowd = Crowd(stage.database)
    people = {
        "amina": crowd.person("amina", clients=(amina,)),
        "baraka": crowd.person("baraka", clients=tuple(baraka)),
    }
    await stage.run()
    folder = tmp_path / "phone"
    for username in ("amina", "baraka", "Amina"):  # who comes back finds what she left, and types nothing
        typed = [] if username == "Amina" else [PASSWORD]
        status, output, errors = await _run(line, folder, *typed, username=username)
        assert status == 0, errors
        count = len(await stage.copies(username.lower()))
        assert f"{count} documents" in output
    assert {one.name for one in folder.iterdir()} == {"kept.json", *people.values()}
    assert people["amina"] not in json.dumps(json.loads((folder / "kept.json").read_text())["people"]["baraka"])

    # One's copy in the place of the other's, by whatever accident: it stays closed.
    shutil.rmtree(folder / people["baraka"])
    shutil.copytree(folder / people["amina"], folder / people["baraka"])
    status, output, errors = await _run(line, folder, username="baraka")
    assert status == 1
    assert errors.startswith("not_theirs: ")
    assert output == ""
    # Nothing was mixed into it either.
    shutil.rmtree(folder / people["amina"])
    shutil.move(folder / people["baraka"], folder / people["amina"])
    status, output, errors = await _run(line, folder, username="amina")
    assert (status, f"{len(await stage.copies('amina'))} documents" in output) == (0, True), errors


async def test_a_lost_answer_makes_no_second_device_and_an_initial_password_is_changed(
    stage: Stage, line: Line, tmp_path: Path
) -> None:
    Crowd(stage.database).person("amina", clients=(stage.institution.customer,), must_change=True)
    await stage.run()
    chosen = "a kettle under seven blue stairs"
    line.lost = {"/devices"}
    status, output, errors = await _run(line, tmp_path / "phone", PASSWORD, chosen)
    assert status == 0, errors
    assert "documents" in output
    assert line.asked == ["/oauth/token", "/password", "/devices", "/devices"]
    assert len(_devices(stage)) == 1
    status, _, errors = await _run(line, tmp_path / "another phone", PASSWORD)
    assert (status, "unknown" in errors) == (1, True), errors
    status, _, errors = await _run(line, tmp_path / "another phone", chosen)
    assert status == 0, errors


async def test_the_short_version_is_the_one_in_the_docs_and_works(stage: Stage, line: Line, tmp_path: Path) -> None:
    script = CLIENTS / "scripts" / "first_sync.mjs"
    text = script.read_text()
    assert f"```js\n{text}```" in (CLIENTS.parent / "docs" / "app-developers.md").read_text()
    assert len([one for one in text.splitlines() if one.strip()]) <= 30
    Crowd(stage.database).person("amina", clients=(stage.institution.customer,))
    await stage.run()
    found = node.find()
    await asyncio.to_thread(node.ensure_packages, CLIENTS, found)
    process = await asyncio.create_subprocess_exec(
        found.node,
        str(script),
        line.url,
        "amina",
        cwd=tmp_path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(f"{PASSWORD}\n".encode())
    assert process.returncode == 0, errors.decode()
    assert output.decode().startswith(f"{len(await stage.copies('amina'))} documents as of 20")
