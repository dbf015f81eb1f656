"""Whatever happens in whatever order, a device gets everything in order and nothing twice, and after its access has
ended nothing.

The gateway is real; CouchDB, the service database and its notices are played, so that every one of them can be held
up, fail and lie at the moment that a test wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from passbook.servicedb import tables
from sync_gateway import watch
from sync_gateway.answers import unauthorized
from sync_gateway.app import Parts, build, serving
from sync_gateway.credentials import DatabaseCredentials, Principal, Standing
from sync_gateway.notices import Access, Gap, Lost, Notice, Written
from sync_gateway.proxy import Upstream
from sync_gateway.routes import Match
from sync_gateway.watch import Watch
from tests.gateway.conftest import Device, People, settled
from tests.gateway.pipes import DEAFEN, Raw, running, until
from tests.support.couch import Couch

START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = 3600.0


class World:
    """What the gateway finds outside, and what happens to it."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.written: datetime | None = None
        self.revoked = False
        self.notices: asyncio.Queue[Notice] = asyncio.Queue()
        #: Questions to CouchDB wait before they are looked at, answers before they go, and answers on who asks.
        self.doors = {name: asyncio.Event() for name in ("question", "answer", "who")}
        #: CouchDB's next answer breaks off in the middle of its first line.
        self.tears = False
        self.deaf = False
        self._transactions = 0
        self.open()

    def open(self) -> None:
        for door in self.doors.values():
            door.set()

    def write(self) -> datetime:
        """CouchDB has it, then the service database: the order in which the worker does it."""
        self.rows.append(f"loan:{len(self.rows):03}")
        self._transactions += 1
        self.written = START + timedelta(seconds=self._transactions)
        return self.written

    def tell(self, notice: Notice) -> None:
        """Told, unless nobody listens."""
        if not self.deaf:
            self.notices.put_nowait(notice)

    def go_deaf(self) -> None:
        """From now on notices are lost, and before anybody knows."""
        self.deaf = True

    def hear_again(self) -> None:
        self.deaf = False
        self.notices.put_nowait(Lost())
        self.notices.put_nowait(Gap())

    async def listen(self, _: str) -> AsyncIterator[Notice]:
        yield Gap()
        while True:
            yield await self.notices.get()


class Answer:
    """CouchDB's, as aiohttp hands it over: in pieces that know nothing of lines."""

    def __init__(self, body: bytes, pieces: int) -> None:
        size = max(1, len(body) // pieces)
        self._pieces = [body[start : start + size] for start in range(0, len(body), size)]
        self.content = self

    async def iter_any(self) -> AsyncIterator[bytes]:
        while self._pieces:
            await asyncio.sleep(0)
            yield self._pieces.pop(0)


class PlayedCouch(Upstream):
    def __init__(self, world: World) -> None:
        super().__init__("http://nowhere")
        self._world = world
        self._chance = random.Random(1)

    async def open(self) -> None:
        pass

    @asynccontextmanager
    async def asked(
        self, method: str, match: Match, principal: Principal, body: Any, **_: Any
    ) -> AsyncIterator[Any]:
        world = self._world
        await world.doors["question"].wait()
        since = int(match.query["since"])
        rows = list(enumerate(world.rows, 1))[since:]
        if "limit" in match.query:
            rows = rows[: int(match.query["limit"])]
        lines = [{"seq": str(seq), "id": name} for seq, name in rows]
        last = {"last_seq": str(since + len(rows)), "pending": 0}
        said = b"\n".join(
            json.dumps(line).encode().replace(b'{"last_seq": ', b'{"last_seq":') for line in [*lines, last]
        )
        said += b"\n"
        await world.doors["answer"].wait()
        if world.tears:
            world.tears = False
            said = said[: len(said) * 2 // 3]
        yield Answer(said, self._chance.randint(1, 9))


class PlayedCredentials(DatabaseCredentials):
    def __init__(self, world: World) -> None:
        self._world = world
        self.grace = 300.0

    def _now(self) -> Standing:
        if self._world.revoked:
            return Standing(refusal="revoked")
        expires_at = datetime.now(UTC) + timedelta(days=1)
        return Standing(Principal("device", "person", "database", True, expires_at, written=self._world.written))

    async def principal(self, authorization: list[str]) -> Principal:
        await asyncio.sleep(0)
        found = self._now()
        await self._world.doors["who"].wait()
        if found.principal is None:
            raise unauthorized(found.refusal)
        return found.principal

    async def standing(self, devices: Sequence[str]) -> dict[str, Standing]:
        await asyncio.sleep(0)
        found = {device: self._now() for device in devices}
        await asyncio.sleep(0)
        return found


class Phone:
    """Follows one kind of feed, and comes again whenever it ends or breaks, until it is told that it may not."""

    def __init__(self, url: str, kind: str) -> None:
        self._device = Device("device", "secret", "person", "database", f"{url}/passbook")
        self._kind = kind
        self.seen: list[str] = []
        self._since = "0"
        self.refused = False
        self._raw: Raw | None = None

    def hang_up(self) -> None:
        if self._raw is not None:
            self._raw.writer.transport.abort()

    async def live(self) -> None:
        while not self.refused:
            await self._read()

    async def _read(self) -> None:
        query = f"feed={self._kind}&heartbeat=60000&since={self._since}"
        raw = self._raw = await Raw.asks(self._device, f"_changes?{query}")
        taken = 0
        try:
            while True:
                ended = raw.ended
                rows = raw.rows
                for row in rows[taken:]:
                    self.seen.append(row["id"])
                    self._since = row["seq"]
                taken = len(rows)
                if ended:
                    self.refused = raw.status == 401
                    return
                await asyncio.sleep(0.001)
        finally:
            await raw.close()


class Story:
    """One order of events."""

    STEPS: ClassVar[list[str]] = [
        *(
            "write",
            "write",
            "write in silence",
            "deaf",
            "hear",
            "ring for nothing",
            "stale notice",
            "tear",
            "hang up",
        ),
        *("hold questions", "hold answers", "hold who", "open", "settle"),
    ]

    def __init__(self, kinds: list[str]) -> None:
        self._kinds = kinds
        self._world = World()
        self._parts = Parts.new()
        self._due = 0

    async def run(self, steps: list[tuple[str, int]], revoked_at: int | None) -> None:
        world = self._world
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watch, "notices", world.listen)
            patch.setattr(watch, "POLL", NEVER)
            credentials = PlayedCredentials(world)
            watching = Watch("", credentials, self._parts.requests, self._parts.hub).watching()
            application = build(credentials, PlayedCouch(world), self._parts)
            async with watching, serving(application, "127.0.0.1", 0) as port:
                self._phones = [Phone(f"http://127.0.0.1:{port}", kind) for kind in self._kinds]
                tasks = [asyncio.create_task(phone.live()) for phone in self._phones]
                try:
                    for number, (step, pause) in enumerate(steps):
                        if number == revoked_at:
                            await self._revoke()
                        await self._do(step)
                        await asyncio.sleep(pause / 1000)
                    if not world.revoked:
                        await self._settled()
                        await self._revoke()
                    world.open()
                    world.hear_again()
                    async with asyncio.timeout(5):
                        await asyncio.gather(*tasks)  # until everybody is told
                    self._check()
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        assert len(self._parts.requests) == len(self._parts.hub) == 0

    async def _do(self, step: str) -> None:
        world = self._world
        match step:
            case "write":
                world.tell(Written(world.write(), ("person", "somebody")))
            case "write in silence":
                # Its transaction has not yet committed, or the notice is lost; then a gap is to come.
                world.write()
                world.hear_again()
            case "deaf":
                world.go_deaf()
            case "hear":
                world.hear_again()
            case "ring for nothing":
                world.tell(Written(START - timedelta(days=1), ("person",)))
            case "stale notice" if world.written is not None:
                world.tell(Written(world.written, ("person",)))
            case "tear":
                world.tears = True
            case "hang up":
                for phone in self._phones:
                    phone.hang_up()
            case "open":
                world.open()
            case "settle" if not world.revoked:
                await self._settled()
            case _ if step.startswith("hold"):
                world.doors[{"questions": "question", "answers": "answer", "who": "who"}[step[5:]]].clear()

    async def _settled(self) -> None:
        """Everything goes its way: then everybody has everything."""
        self._world.open()
        if self._world.deaf:
            self._world.hear_again()
        self._due = len(self._world.rows)
        await until(
            lambda: all(len(phone.seen) >= self._due for phone in self._phones),
            f"{[phone.seen for phone in self._phones]} of {self._world.rows}",
            within=5,
        )

    async def _revoke(self) -> None:
        """Access ends; when the gateway has closed everything, this is confirmed."""
        world = self._world
        world.revoked = True
        world.tell(Access("device", "device"))
        if world.deaf:
            world.hear_again()
        await until(lambda: not any(self._parts.requests.devices()), "everything is closed", within=2)
        self._confirmed = len(world.rows)

    def _check(self) -> None:
        for phone in self._phones:
            assert phone.seen == self._world.rows[: len(phone.seen)]
            assert self._due <= len(phone.seen) <= self._confirmed


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(st.sampled_from(Story.STEPS), st.sampled_from([0, 0, 0, 1, 5])), max_size=25),
    revoked_at=st.none() | st.integers(0, 24),
    kinds=st.sampled_from([["continuous"], ["longpoll"], ["continuous", "longpoll", "longpoll"]]),
)
def test_every_order_of_events(steps: list[tuple[str, int]], revoked_at: int | None, kinds: list[str]) -> None:
    event(f"{len(steps) // 5 * 5} steps and more")
    asyncio.run(Story(kinds).run(steps, revoked_at))


async def test_real_parts_in_disorder(couch: Couch, couch_url: str, people: People, service_url: str) -> None:
    """The same with the real ones: writes, lost notices, devices that come and go; at the end one is revoked."""
    chance = random.Random(7)
    couch.wrote = people.wrote
    async with running(service_url, couch_url) as one, running(service_url, couch_url) as two:
        made = await settled(couch, people)
        phones = []
        for gateway in (one, two):
            for kind in ("continuous", "longpoll"):
                phones.append(phone := Phone(gateway.url, kind))
                phone._device = gateway.of(made)
        tasks = [asyncio.create_task(phone.live()) for phone in phones]
        try:
            written = []
            for number in range(120):
                await couch.write(made.database, {"_id": f"loan:{number:03}"})
                written.append(f"loan:{number:03}")
                if chance.random() < 0.05:
                    with people._engine.begin() as connection:
                        connection.execute(DEAFEN)
                if chance.random() < 0.1:
                    chance.choice(phones).hang_up()
                await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05]))
            await until(lambda: all(len(phone.seen) >= len(written) for phone in phones), within=20)
            assert all(phone.seen == written for phone in phones)
            people.change(tables.device, made.id, revoked_at=sa.func.now())
            await until(lambda: all(phone.refused for phone in phones), within=3)
            await couch.write(made.database, {"_id": "loan:999"})
            assert all(phone.seen == written for phone in phones)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
