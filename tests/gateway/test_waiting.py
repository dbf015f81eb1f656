"""Requests beyond a device's share wait their turn, and take nothing from anybody while they wait."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from passbook import couch_access
from passbook.servicedb import tables
from sample_institution.pouch import PouchClient
from sync_gateway.answers import Problem, unauthorized
from sync_gateway.app import Parts, build, serving
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.limits import Bounds, Limits
from sync_gateway.proxy import Upstream
from sync_gateway.queues import Queues, Room
from sync_gateway.watch import Watch
from tests.gateway.conftest import NOW, People, basic, settled
from tests.gateway.test_fairness import held, parts_with, second_device, somebody, status_of, until
from tests.support.couch import Couch
from tests.support.roles import as_process


class InFlight:
    """Stands before a CouchDB and counts the requests that it has not answered yet."""

    def __init__(self, couch: Couch) -> None:
        self._session = couch.session
        self._server = str(couch.url.with_user(None)).rstrip("/")
        self.now = self.most = self.pictures = 0

    async def passes(self, request: web.Request) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        self.pictures += request.path.endswith("/image")
        try:
            url = URL(self._server + request.raw_path, encoded=True)
            kept = {
                name: request.headers[name]
                for name in ("Authorization", "Content-Type", "Accept")
                if name in request.headers
            }
            async with self._session.request(
                request.method, url, data=await request.read() or None, headers=kept
            ) as answer:
                body = await answer.read()
                return web.Response(
                    status=answer.status, body=body, headers={"Content-Type": answer.headers["Content-Type"]}
                )
        finally:
            self.now -= 1


@pytest.mark.parametrize("size", [2_000, 300_000], ids=["small", "large"])
async def test_pouchdb_fetches_a_batch_of_sixty_pictures(
    couch: Couch, people: People, credentials: DatabaseCredentials, size: int
) -> None:
    """Under Node it asks for all of them at once, and one that is refused ends the whole batch."""
    counter, parts = InFlight(couch), Parts.new()
    access, _ = await couch_access.prepare(str(couch.url), connect_seconds=5)
    between = web.Application()
    between.router.add_route("*", "/{tail:.*}", counter.passes)
    device = await settled(couch, people)
    data = base64.b64encode(b"picture!" * (size // 8)).decode()
    image = {"image": {"content_type": "image/png", "data": data}}
    for n in range(60):  # all at once would be too large for some servers
        await couch.write(device.database, {"_id": f"client:{n}:image", "_attachments": image})
    async with serving(between, "127.0.0.1", 0) as port:
        upstream = Upstream(str(couch.url.with_host("127.0.0.1").with_port(port)), access)
        async with (
            serving(build(credentials, upstream, parts), "127.0.0.1", 0) as own,
            PouchClient.started(f"http://127.0.0.1:{own}/passbook", device.id, device.secret) as pouch,
        ):
            done = await pouch.replicate(within=60)
            assert (done["event"], done.get("written")) == ("complete", 60), done
            stored = await pouch.get("client:59:image")
            assert stored is not None
            assert stored["_attachments"]["image"]["data"] == data
    assert counter.pictures >= 60
    assert counter.most <= parts.limits.bounds.device_requests
    assert parts.limits.devices_queues.waited >= 40
    assert not len(parts.limits.devices_queues)


async def test_requests_beyond_a_devices_share_wait_and_the_first_comes_first(
    credentials: DatabaseCredentials, people: People
) -> None:
    device, parts = somebody(people), parts_with(device_requests=1, device_waiting=3)
    async with held(credentials, parts) as gateway, aiohttp.ClientSession() as http:

        async def ask(number: int) -> tuple[int, str, str | None]:
            return await status_of(http, f"{gateway.url}/passbook/loan:{number}", device)

        asking = [asyncio.create_task(ask(1))]
        await gateway.until_reached(1)
        queue = parts.limits.devices_queues
        for number in range(2, 5):
            asking.append(asyncio.create_task(ask(number)))
            await until(lambda number=number: queue.waiting == number - 1)
        # So many and no more: no replication asks for that much.
        assert await status_of(http, f"{gateway.url}/passbook/loan:x", device) == (429, "too_many_requests", "5")
        assert gateway.reached == 1
        metrics = parts.metrics.text().decode()
        assert 'passbook_gateway_waiting_requests{of="device"} 3.0' in metrics
        assert 'passbook_gateway_refusals_total{rule="too_many_queue"} 1.0' in metrics
        gateway.release.set()
        assert [status for status, _, _ in await asyncio.gather(*asking)] == [200] * 4
        assert gateway.paths[1:] == ["loan:2", "loan:3", "loan:4"]
        assert (await status_of(http, f"{gateway.url}/passbook/loan:9", device))[0] == 200
    assert not len(queue)
    assert queue.waiting == 0


async def test_T30_a_thousand_requests_that_wait_delay_nobody_else(
    credentials: DatabaseCredentials, people: People
) -> None:
    """They hold none of the places of all: what is left of those is for everybody else."""
    device, other = somebody(people), somebody(people, 1)
    parts = parts_with(device_requests=4, requests=6, connections=5_000)
    async with (
        held(credentials, parts) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        url = f"{gateway.url}/passbook/loan:1"
        assert (await status_of(http, f"{gateway.url}/", device))[0] == 200  # it is no stranger
        mine = [asyncio.create_task(status_of(http, url, device)) for _ in range(1_004)]
        await until(lambda: parts.limits.devices_queues.waiting == 1_000, within=60)
        await gateway.until_reached(4)
        assert parts.limits.requests == 4
        theirs = [asyncio.create_task(status_of(http, url, other)) for _ in range(2)]
        await gateway.until_reached(6)
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        # Who hangs up waits no more.
        await until(lambda: not parts.limits.devices_queues.waiting, within=60)
        gateway.release.set()
        assert [status for status, _, _ in await asyncio.gather(*theirs)] == [200, 200]
        await until(lambda: not len(parts.limits.devices_queues))
    assert parts.limits.requests == 0


async def test_who_waited_too_long_is_told_to_come_later(credentials: DatabaseCredentials, people: People) -> None:
    device, parts = somebody(people), parts_with(device_requests=1, waiting_seconds=1)
    async with held(credentials, parts) as gateway, aiohttp.ClientSession() as http:
        url = f"{gateway.url}/passbook/loan:1"
        first = asyncio.create_task(status_of(http, url, device))
        await gateway.until_reached(1)
        assert await status_of(http, url, device) == (429, "too_many_requests", "5")
        assert 'rule="too_many_waited"} 1.0' in parts.metrics.text().decode()
        gateway.release.set()
        assert (await first)[0] == 200


async def test_T04_requests_that_wait_end_with_the_access(
    service_url: str, credentials: DatabaseCredentials, people: People
) -> None:
    device, parts = somebody(people), parts_with(device_requests=2)
    watch = Watch(as_process(service_url, "gateway"), credentials, parts.requests, parts.hub)
    async with (
        held(credentials, parts) as gateway,
        watch.watching(),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        await asyncio.wait_for(watch.listening.wait(), 10)
        url = f"{gateway.url}/passbook/loan:1"
        answered = [asyncio.create_task(status_of(http, url, device)) for _ in range(2)]
        await gateway.until_reached(2)
        waiting = [asyncio.create_task(status_of(http, url, device)) for _ in range(50)]
        await until(lambda: parts.limits.devices_queues.waiting == 50)
        people.change(tables.device, device.id, revoked_at=NOW)
        # CouchDB has answered nothing yet: nobody's turn came because somebody else was done.
        assert {told[:2] for told in await asyncio.gather(*waiting)} == {(401, "revoked")}
        torn = await asyncio.gather(*answered, return_exceptions=True)
        # Some clients ask once more by themselves when their connection breaks.
        assert all(isinstance(one, aiohttp.ClientError) or one[:2] == (401, "revoked") for one in torn), torn
        assert gateway.reached == 2


async def test_requests_of_a_persons_devices_wait_for_each_other(
    credentials: DatabaseCredentials, people: People
) -> None:
    device = somebody(people)
    second = second_device(people, device)
    parts = parts_with(device_requests=3, person_requests=4, requests=6)
    async with held(credentials, parts) as gateway, aiohttp.ClientSession() as http:
        url = f"{gateway.url}/passbook/loan:1"
        mine = [asyncio.create_task(status_of(http, url, device)) for _ in range(3)]
        await gateway.until_reached(3)
        mine += [asyncio.create_task(status_of(http, url, second)) for _ in range(3)]
        await until(lambda: parts.limits.persons_queues.waiting == 2)
        await gateway.until_reached(4)
        assert parts.limits.requests == 4  # who waits holds no place of all
        theirs = asyncio.create_task(status_of(http, url, somebody(people, 1)))
        await gateway.until_reached(5)
        gateway.release.set()
        assert [status for status, _, _ in await asyncio.gather(*mine, theirs)] == [200] * 7
    assert (parts.limits.requests, len(parts.limits.persons_queues)) == (0, 0)


async def test_T31_few_requests_with_a_body_or_a_long_head_wait(
    credentials: DatabaseCredentials, people: People
) -> None:
    """What has come of a body is held in memory until its turn."""
    device, parts = somebody(people), parts_with(device_requests=2)
    async with (
        held(credentials, parts) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):

        async def asks(**more: Any) -> int:
            headers = device.headers | more.pop("headers", {})
            async with http.post(f"{gateway.url}/passbook/_all_docs", headers=headers, **more) as response:
                return response.status

        asking = [asyncio.create_task(asks(json={})) for _ in range(2)]
        await gateway.until_reached(2)
        asking += [asyncio.create_task(asks(json={"keys": ["x" * 50_000]}))]
        asking += [asyncio.create_task(asks(headers={"X": "x" * 4_000}))]
        await until(lambda: parts.limits.devices_queues.large == 2)
        assert await asks(json={}) == 429
        asking += [asyncio.create_task(asks()) for _ in range(3)]
        await until(lambda: parts.limits.devices_queues.waiting == 5)
        gateway.release.set()
        assert await asyncio.gather(*asking) == [200] * 7
    assert parts.limits.devices_queues.large == 0


def _asking(authorization: str) -> tuple[web.Request, list[str]]:
    return make_mocked_request("GET", "/passbook", {"Authorization": authorization}), [authorization]


async def test_T18_strangers_hold_a_part_of_the_room_to_wait() -> None:
    limits = Limits(Bounds(device_requests=1, connections=100))
    known, release = _asking(basic("device", "good")), asyncio.Event()

    async def comes(who: tuple[web.Request, list[str]]) -> None:
        async with limits.turn(*who):
            await release.wait()

    with limits.asking(known[1]):
        pass
    tasks = [asyncio.create_task(comes(known)) for _ in range(7)]
    tasks += [asyncio.create_task(comes(_asking(basic("device", f"guess {n % 2}")))) for n in range(7)]
    await until(lambda: limits.devices_queues.waiting == 11)
    # A guess has a queue of its own; and of 40 who may wait, 5 are strangers. However its header is written.
    with pytest.raises(Problem) as refused:
        await comes(_asking(basic("device", "guess 1").replace("Basic", "BASIC ")))
    assert (refused.value.status, refused.value.rule) == (503, "busy_strangers")
    tasks.append(asyncio.create_task(comes(_asking(known[1][0].replace("Basic", "basic")))))
    await until(lambda: limits.devices_queues.waiting == 12)
    assert len(limits.devices_queues) == 3
    release.set()
    await asyncio.gather(*tasks)
    assert len(limits.devices_queues) == 0
    await comes(_asking(basic("device", "guess 1")))


async def test_a_refusal_is_for_all_who_wait_with_the_same_credential() -> None:
    limits, asked = Limits(Bounds(device_requests=1)), 0
    release = asyncio.Event()

    async def guesses() -> None:
        nonlocal asked
        async with limits.turn(*_asking(basic("device", "guess"))):
            asked += 1
            await release.wait()
            raise unauthorized("unknown")

    tasks = [asyncio.create_task(guesses()) for _ in range(100)]
    await until(lambda: limits.devices_queues.waiting == 99)
    release.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert Counter(type(one) for one in told) == {Problem: 100}
    assert asked <= 2


async def test_the_longest_queue_makes_room() -> None:
    queues = Queues(1, Room(each=10, each_large=10, all=lambda: 6, all_large=10, seconds=60))
    release, answers = asyncio.Event(), Counter[str]()

    async def comes(key: str) -> None:
        try:
            async with queues.turn(key):
                await release.wait()
            answers[f"{key} done"] += 1
        except Problem as problem:
            answers[f"{key} {problem.status}"] += 1

    tasks = [asyncio.create_task(comes("a")) for _ in range(7)]
    await until(lambda: queues.waiting == 6)
    tasks += [asyncio.create_task(comes("b")) for _ in range(10)]
    await until(lambda: sum(answers.values()) >= 9)
    release.set()
    await asyncio.gather(*tasks)
    assert answers == {"a done": 4, "a 503": 3, "b done": 4, "b 503": 6}
    assert (len(queues), queues.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_places_are_never_lost_however_waiters_come_and_go(seed: int) -> None:
    import random

    chance = random.Random(seed)
    queues = Queues(2, Room(each=5, each_large=2, all=lambda: 8, all_large=3, seconds=0.02))
    inside = Counter[str]()

    async def comes(key: str) -> None:
        async with queues.turn(key, large=chance.random() < 0.3):
            inside[key] += 1
            assert inside[key] <= 2
            try:
                await asyncio.sleep(chance.random() / 100)
            finally:
                inside[key] -= 1

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(comes(chance.choice("abc"))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.1:
            queues.refuse(chance.choice("abc"), unauthorized("unknown"))
        await asyncio.sleep(0 if chance.random() < 0.8 else 0.001)
    for told in await asyncio.gather(*tasks, return_exceptions=True):
        assert told is None or isinstance(told, Problem | asyncio.CancelledError), told
    assert (len(queues), queues.waiting, queues.large) == (0, 0, 0)
