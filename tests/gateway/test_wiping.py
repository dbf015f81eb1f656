"""T06: an order to wipe is obeyed if it is true, once, and nothing else makes a device lose its copy."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from auth_service import devices, keys, people, wiping
from auth_service.devices import Credential, Terms
from passbook.audit import chain
from passbook.credentials import new_id
from passbook.embedded import node
from passbook.errors import Conflict
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.gateway.conftest import running_gateway
from tests.support.actors import TESTER
from tests.support.databases import Postgres

SECRET = "a secret of the tests, forty characters long"
ISSUER = "https://auth.example.org"
SCRIPTS = Path(__file__).parents[2] / "clients" / "scripts"


@dataclass
class Phone:
    """A registered device, its database and its gateway."""

    database: ServiceDatabase
    credential: Credential
    gateway: str

    @property
    def authorization(self) -> dict[str, str]:
        text = f"{self.credential.username}:{self.credential.password}"
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    @property
    def kept(self) -> dict[str, Any]:
        """What the app kept of its registration."""
        return {
            "person": self.credential.person,
            "device": self.credential.device,
            "username": self.credential.username,
            "password": self.credential.password,
            "url": f"{self.gateway}/passbook",
            "wipe_key": self.credential.wipe_key,
        }

    def order(self, **more: Any) -> devices.Device:
        device, given = self.credential.device, {"secret": SECRET, "issuer": ISSUER, "reason": "stolen", **more}
        with self.database.begin() as connection:
            devices.revoke(connection, TESTER, device)
        with self.database.begin() as connection:
            return wiping.order(connection, TESTER, device, **given)

    def seen(self) -> devices.Device:
        with self.database.begin() as connection:
            return devices.show(connection, self.credential.device)

    async def knock(self) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.gateway}/passbook", headers=self.authorization) as answer,
        ):
            assert answer.status == 401
            body: dict[str, Any] = await answer.json()
            return body

    async def receipt(self, nonce: str, headers: dict[str, str] | None = None) -> int:
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{self.gateway}/wiped", json={"order": nonce}, headers=headers or self.authorization
            ) as answer,
        ):
            return answer.status


@pytest.fixture
async def phone(service_url: str, couch_url: str, credentials: DatabaseCredentials) -> AsyncIterator[Phone]:
    database = ServiceDatabase(service_url)
    with database.begin() as connection:
        keys.ensure(connection, TESTER, SECRET)
    with database.begin() as connection:
        owner = people.add(
            connection, TESTER, username=new_id("user"), kind="customer", clients=[1], password_hash="-"
        )
        terms = Terms("http://unused", 30, 10)
        credential = devices.add(connection, TESTER, owner.person, terms=terms)
    async with running_gateway(service_url, couch_url, credentials) as gateway:
        yield Phone(database, credential, gateway)
    database.dispose()


def claims_of(statement: str) -> dict[str, Any]:
    part = statement.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def test_T06_an_order_is_handed_over_until_its_receipt(phone: Phone) -> None:
    ordered = phone.order()
    assert (ordered.state, ordered.wipe) == ("revoked", "ordered")
    assert ordered.unreachable_since == ordered.created_at
    first, second = await phone.knock(), await phone.knock()
    assert first["code"] == "revoked"
    assert first["wipe"] == second["wipe"]
    assert phone.seen().wipe == "delivered"
    assert phone.seen().unreachable_since is None
    nonce = claims_of(first["wipe"])["jti"]
    assert await phone.receipt("wipe-of-somebody-else") == 401
    wrong = {"Authorization": "Basic " + base64.b64encode(f"{phone.credential.username}:x".encode()).decode()}
    assert await phone.receipt(nonce, wrong) == 401
    assert phone.seen().wipe == "delivered"
    assert await phone.receipt(nonce) == 200
    assert await phone.receipt(nonce) == 200  # its answer may have got lost
    done = phone.seen()
    assert done.wipe == "received"
    assert done.wipe_received_at is not None
    assert "wipe" not in await phone.knock()
    # Ordered again by mistake: one order, one receipt.
    assert phone.order().wipe == "received"
    with phone.database.begin() as connection:
        log = chain.entries(connection, device=phone.credential.device)
        assert chain.verify(connection).ok
    assert [one.event for one in reversed(log)] == [
        "DeviceRegistered",
        "DeviceRevoked",
        "WipeOrdered",
        "WipeConfirmed",
    ]


async def test_T06_who_does_not_know_the_secret_gets_no_order(phone: Phone) -> None:
    phone.order()
    headers = {"Authorization": "Basic " + base64.b64encode(f"{phone.credential.username}:x".encode()).decode()}
    async with aiohttp.ClientSession() as http, http.get(f"{phone.gateway}/passbook", headers=headers) as answer:
        assert answer.status == 401
        assert "wipe" not in await answer.json()
    assert phone.seen().wipe == "ordered"


async def test_T06_a_revoked_device_that_nobody_told_to_wipe_gets_no_order(phone: Phone) -> None:
    with phone.database.begin() as connection:
        devices.revoke(connection, TESTER, phone.credential.device)
    assert "wipe" not in await phone.knock()
    assert await phone.receipt("wipe-") == 401


async def test_T06_a_device_without_a_key_is_not_ordered(phone: Phone) -> None:
    with phone.database.begin() as connection:
        connection.exec_driver_sql("UPDATE device SET wipe_kid = NULL")
    with pytest.raises(Conflict, match="would not believe"):
        phone.order()


async def test_T06_a_device_whose_key_is_lost_is_revoked_all_the_same(phone: Phone) -> None:
    with pytest.raises(Conflict, match="another secret"):
        phone.order(secret="x" * 40)
    assert (phone.seen().state, phone.seen().wipe) == ("revoked", None)


def test_after_the_secret_was_lost_new_devices_believe_a_new_key(service_url: str) -> None:
    server, life, secret = Postgres(service_url), timedelta(minutes=10), "another secret, forty characters long too"
    with server.database() as url:
        database = ServiceDatabase(url)
        database.migrate()
        with database.begin() as connection:
            keys.ensure(connection, TESTER, SECRET)
            lost = keys.wipe_key(connection)
            keys.rotate(connection, TESTER, SECRET, tokens_live=life)
            assert keys.wipe_key(connection) == lost  # devices go on believing it
            keys.rotate(connection, TESTER, secret, tokens_live=life)
            now = keys.wipe_key(connection)
            assert lost is not None
            assert now is not None
            assert now["kid"] != lost["kid"]
            keys.private_key(connection, now["kid"], secret)
        database.dispose()
    server.close()


async def judged(phone: Phone, orders: list[str]) -> list[bool]:
    """Which of these the app's code takes for true."""
    script = """
        import { readFileSync } from 'node:fs';
        const { trueOrder } = await import(process.argv[1]);
        const { orders, kept } = JSON.parse(readFileSync(0));
        const verdicts = [];
        for (const order of orders) verdicts.push((await trueOrder(order, kept)) !== null);
        console.log(JSON.stringify(verdicts));
    """
    process = await asyncio.create_subprocess_exec(
        node.find().node,
        "--input-type=module",
        "-e",
        script,
        (SCRIPTS / "wipe.mjs").as_uri(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    given = json.dumps({"orders": orders, "kept": phone.kept})
    output, _ = await process.communicate(given.encode())
    assert process.returncode == 0
    verdicts: list[bool] = json.loads(output)
    return verdicts


async def test_T06_a_device_believes_a_true_order_and_no_other(phone: Phone) -> None:
    phone.order()
    true = (await phone.knock())["wipe"]
    claims, kid = claims_of(true), phone.credential.wipe_key["kid"]  # type: ignore[index]
    assert (claims["aud"], claims["iss"]) == (phone.credential.device, ISSUER)
    head = {"alg": "ES256", "typ": wiping.TYPE, "kid": kid}
    thief = ECKey.generate_key("P-256", private=True)
    with phone.database.begin() as connection:
        ours = keys.private_key(connection, kid, SECRET)

    def signed(head: dict[str, Any], claims: dict[str, Any], key: Any = ours) -> str:
        return jwt.encode(head, claims, key, algorithms=[head["alg"]])

    public = json.dumps(phone.credential.wipe_key, sort_keys=True).encode()
    unsigned = base64.urlsafe_b64encode(json.dumps({**head, "alg": "none"}).encode()).decode().rstrip("=")
    first, body, signature = true.split(".")
    false = [
        "",
        "wipe",
        "a.b.c",
        f"{first}.{body}.",
        f"{unsigned}.{body}.",
        f"{first}.{body}.{signature[:-4]}AAAA",
        signed(head, claims, thief),
        signed({**head, "alg": "HS256"}, claims, OctKey.import_key(public)),
        signed({**head, "kid": "key-other"}, claims),
        signed({**head, "typ": "at+jwt"}, claims),
        signed(head, {**claims, "aud": "device-of-somebody-else"}),
        signed(head, {**claims, "act": "greet"}),
        signed(head, {name: value for name, value in claims.items() if name != "jti"}),
    ]
    assert await judged(phone, [true, *false]) == [True] + [False] * len(false)


async def obeys(phone: Phone, before: Sequence[str] = (), owner: str = "") -> list[Any]:
    """What the app does, twice, having obeyed these orders before: whether it wiped, and how often.

    `owner` is whose the copy says it is that it would destroy.
    """
    script = """
        import { readFileSync } from 'node:fs';
        const { obey } = await import(process.argv[1]);
        const { kept, before, owner } = JSON.parse(readFileSync(0));
        let destroyed = 0;
        const local = {
          destroy: async () => { destroyed += 1; },
          get: async (id) => {
            if (!owner || id !== '_local/owner') throw { status: 404 };
            return { person: owner };
          },
        };
        const obeyed = new Set(before);
        const once = () => obey(local, kept, obeyed).catch((error) => error.code);
        console.log(JSON.stringify([await once(), await once(), destroyed]));
    """
    process = await asyncio.create_subprocess_exec(
        node.find().node,
        "--input-type=module",
        "-e",
        script,
        (SCRIPTS / "wipe.mjs").as_uri(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    given = {"kept": phone.kept, "before": before, "owner": owner}
    output, _ = await process.communicate(json.dumps(given).encode())
    told: list[Any] = json.loads(output)
    return told


async def test_T06_the_app_wipes_and_says_so(phone: Phone) -> None:
    with phone.database.begin() as connection:
        devices.revoke(connection, TESTER, phone.credential.device)
    assert await obeys(phone) == [False, False, 0]  # a bare 401 deletes nothing
    phone.order()
    assert await obeys(phone) == [True, False, 1]
    assert phone.seen().wipe == "received"


async def test_T37_an_order_destroys_no_copy_of_somebody_else(phone: Phone) -> None:
    phone.order()
    assert await obeys(phone, owner="person-2") == ["not_theirs", "not_theirs", 0]
    assert phone.seen().wipe == "delivered"
    assert await obeys(phone, owner=phone.credential.person) == [True, False, 1]


async def test_T06_an_order_is_good_once_though_its_receipt_got_lost(phone: Phone) -> None:
    phone.order()
    order = claims_of((await phone.knock())["wipe"])["jti"]
    assert await obeys(phone, [order]) == [False, False, 0]
    assert phone.seen().wipe == "received"
