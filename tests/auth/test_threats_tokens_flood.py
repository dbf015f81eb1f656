"""Floods of tokens that are none: the database is not asked, others sign in, good clients of the place go on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from auth_service.flow import Flow
from auth_service.marks import Marks
from passbook.errors import TooMany
from passbook.servicedb.engine import ServiceDatabase
from tests.auth.running import auth
from tests.support.api import Answer, Api, Crowd, serving

FEW = {"PASSBOOK_SIGN_IN_ADDRESS_BURST": "10", "PASSBOOK_SIGN_IN_ADDRESS_PER_SECOND": "0.1"}
_BAD: dict[str, Callable[[Api], Awaitable[Answer]]] = {
    "refresh": lambda api: api.refresh("pbr_" + "x" * 43),
    "revoke": lambda api: api.call("POST", "/oauth/revoke", form={"token": "pbr_" + "x" * 43}),
    "register": lambda api: api.call("POST", "/devices", {}, token="x.y.z"),
    "administrators' refresh": lambda api: api.refresh("pbr_" + "x" * 43, administrator=True),
}


@pytest.mark.parametrize("what", _BAD)
async def test_T18_tokens_that_are_none_are_few_from_one_place_and_good_ones_go_on(
    service_url: str, crowd: Crowd, what: str
) -> None:
    crowd.person("amina")
    async with serving(service_url, FEW) as api:
        good = await api.sign_in("amina")
        assert api.service is not None
        asked: list[str] = []
        free = 100 if what == "register" else 10  # what is told without the database costs a tenth
        answers = await asyncio.gather(*(_BAD[what](api) for _ in range(free)))
        assert 429 not in {one.status for one in answers}
        event.listen(
            api.service.database.engine, "before_cursor_execute", lambda *details: asked.append(details[2])
        )
        refused = await asyncio.gather(*(_BAD[what](api) for _ in range(30)))
        # (A token or two may come back within the seconds that this takes.)
        counts = Counter(one.status for one in refused)
        assert counts[429] >= (17 if what == "register" else 27), counts
        assert len(asked) <= 6 * (30 - counts[429]), "the database is not asked about what is refused"
        assert {int(one.headers["Retry-After"]) >= 1 for one in refused if one.status == 429} == {True}
        # From the same place, in the same moment: whoever was signed in is not hurt, nor does a password wait.
        for _ in range(5):
            good = await api.refresh(good["refresh_token"])
            assert good.status == 200
            assert (await api.call("GET", "/me", token=good["access_token"])).status == 200
        assert (await api.sign_in("amina")).status == 200
        out = await api.call("POST", "/oauth/revoke", form={"token": good["refresh_token"]})
        assert out.status == 200
        assert (await api.refresh(good["refresh_token"])).code == "session_ended"


async def test_T18_one_session_is_refreshed_so_often_and_no_more(service_url: str, crowd: Crowd) -> None:
    crowd.person("amina")
    async with serving(service_url) as api:
        first = await api.sign_in("amina")
        other = await api.sign_in("amina")
        # The same token again and again, as after a lost answer; and one that is over.
        many = await asyncio.gather(*(api.refresh(first["refresh_token"]) for _ in range(100)))
        counts = Counter(one.status for one in many)
        assert counts.keys() == {200, 429}
        assert 60 <= counts[200] <= 75
        assert (await api.refresh(other["refresh_token"])).status == 200


async def test_T18_a_token_without_a_mark_works_as_it_did(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    """From the release before, or of another PASSBOOK_AUTH_SECRET."""
    crowd.person("amina")
    async with serving(service_url) as api:
        opened = await api.sign_in("amina")
        assert api.service is not None
        object.__setattr__(api.service, "marks", Marks(b"another key"))
        assert api.service.marks.family(opened["refresh_token"]) is None
        assert (await api.refresh(opened["refresh_token"])).status == 200


def test_T18_marks_are_of_one_key_and_tell_the_session_alone() -> None:
    marks, others = Marks(b"k" * 32), Marks(b"l" * 32)
    first, second = (marks.marked(f"pbr_{letter * 43}", "session-1") for letter in "ab")
    assert marks.family(first) == marks.family(second) is not None
    assert marks.family(marks.marked("pbr_" + "a" * 43, "session-2")) not in (None, marks.family(first))
    assert others.family(first) is None
    for place in range(len(first)):
        changed = first[:place] + ("A" if first[place] != "A" else "B") + first[place + 1 :]
        assert marks.family(changed) is None
    for wrong in ("", "pbr_", "x" * 16, "x" * 32, "\ud800" * 60, first[:-1], first + "A", "é" * 80):
        assert marks.family(wrong) is None


def test_T18_a_bucket_holds_its_burst_and_loses_its_rate() -> None:
    now = [0.0]
    flow = Flow(3, 0.5, limit="address", monotonic=lambda: now[0])
    for _ in range(3):
        flow.charge("here")
    for passed, wait in ((0.0, 2), (0.5, 2), (1.0, 1)):
        now[0] = passed
        with pytest.raises(TooMany) as refused:
            flow.charge("here")
        assert (refused.value.retry_after, refused.value.limit) == (wait, "address")
    flow.charge("elsewhere")
    now[0] = 2.0
    flow.charge("here")
    with pytest.raises(TooMany):
        flow.charge("here")
    now[0] = 1000.0
    for _ in range(3):
        flow.charge("here")
    with pytest.raises(TooMany):
        flow.charge("here")


@contextlib.asynccontextmanager
async def flooded(api: Api, calls: int, bad: Callable[[Api], Awaitable[Answer]]) -> AsyncIterator[None]:
    """So many connections that each ask again as soon as they are answered; some have been told to wait."""
    told = asyncio.Event()

    async def ask() -> None:
        while True:
            answer = await bad(api)
            assert answer.status < 500
            if answer.status == 429:
                told.set()

    asking = [asyncio.create_task(ask()) for _ in range(calls)]
    try:
        async with asyncio.timeout(30):
            await told.wait()
        yield
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.parametrize("what", ["refresh", "revoke", "register"])
async def test_T18_two_hundred_connections_with_made_up_tokens_keep_nobody_from_signing_in(
    service_url: str, crowd: Crowd, tmp_path: Path, what: str
) -> None:
    crowd.person("amina")
    async with auth(tmp_path, service_url) as api:

        async def sign_in() -> float:
            began = time.monotonic()
            assert (await api.sign_in("amina")).status == 200
            return time.monotonic() - began

        quiet = sorted([await sign_in() for _ in range(7)])[3]
        async with flooded(api, 200, _BAD[what]):
            under = sorted([await sign_in() for _ in range(7)])[3]
        print(f"{what}: sign-in {quiet:.3f} s, with 200 connections {under:.3f} s")
        assert under < max(10 * quiet, 1.0)
