"""`worker run`: hears of changes of scope and acts at once, in few passes, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import granting, people
from passbook.errors import Unavailable
from passbook.servicedb import tables
from sync_worker.cycle import Worker
from sync_worker.loop import Loop
from tests.support.actors import TESTER
from tests.support.killing import door, passbook
from tests.support.stage import Stage
from tests.worker.changing import carry_out, counts, link, of_client, sums, unlink, until

#: Far less than the interval of the worker's full passes here, and enough for a busy machine.
SOON_SECONDS = 20.0
INTERVAL_SECONDS = 600


@contextlib.asynccontextmanager
async def running(stage: Stage, environment: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """`passbook worker run` as an operator starts it; it is stopped at the end, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "passbook", "worker", "run"),
        env={
            **os.environ,
            **stage.environment,
            "PASSBOOK_WORKER_INTERVAL_SECONDS": str(INTERVAL_SECONDS),
            **(environment or {}),
        },
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )
    errors: list[str] = []

    async def read() -> None:
        assert process.stderr
        async for line in process.stderr:
            errors.append(line.decode())

    reading = asyncio.create_task(read())
    try:

        async def ready() -> bool:
            assert process.returncode is None, errors
            return "worker: ready\n" in errors

        await until(ready, "the worker is ready")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()
            await reading


async def _done(stage: Stage, change: int, within: float = 60.0) -> tuple[int, int, int]:
    async def look() -> tuple[int, int, int] | None:
        return counts(stage, change)

    found: tuple[int, int, int] = await until(look, "the change is done", within)
    return found


async def test_a_running_worker_carries_out_a_change_at_once(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    first = _add(stage, "agent", a, b)
    async with running(stage) as process:
        await _done(stage, first)
        before = await stage.copies("agent")
        gone = unlink(stage, "agent", b)
        assert await _done(stage, gone, SOON_SECONDS) == (0, len(of_client(before, b)), 0)
        come = link(stage, "agent", c)
        added, removed, failed = await _done(stage, come, SOON_SECONDS)
        copies = await stage.copies("agent")
        assert (added, removed, failed) == (len(of_client(copies, c)), 0, 0)
        assert not of_client(copies, b)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SOON_SECONDS):
            assert await process.wait() == 0
    await stage.settle()
    assert (await stage.verify()).ok


def _add(stage: Stage, name: str, *clients: int) -> int:
    """Add a person; the id of the change that gave them their clients."""
    stage.add(name, clients)
    with stage.database.begin() as connection:
        return int(connection.execute(sa.select(sa.func.max(tables.scope_change.c.id))).scalar_one())


async def test_what_was_missed_while_disconnected_is_made_good(stage: Stage) -> None:
    a, b = stage.institution.agent_clients[:2]
    first = _add(stage, "agent", a)
    async with running(stage):
        await _done(stage, first)
        listeners = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )

        async def cut() -> bool:
            with stage.database.begin() as connection:
                return connection.execute(sa.text(listeners)).first() is not None

        await until(cut, "the worker listens")
        # It takes a second before it tries to connect again: nobody hears of this.
        assert await _done(stage, link(stage, "agent", b), SOON_SECONDS)
        assert await until(cut, "the worker listens again")


async def test_a_begun_deletion_is_finished_at_once(stage: Stage) -> None:
    first = _add(stage, "customer", stage.institution.customer)
    name = stage.database_of("customer")
    async with running(stage):
        await _done(stage, first)
        with stage.database.begin() as connection:
            people.begin_deletion(connection, TESTER, "customer")

        async def gone() -> bool:
            with stage.database.begin() as connection:
                return connection.execute(sa.select(tables.person)).first() is None

        await until(gone, "the person is erased", SOON_SECONDS)
        async with stage.couch() as couch:
            assert not await couch.database_exists(name)


@contextlib.asynccontextmanager
async def _loop(stage: Stage, one: Worker) -> AsyncIterator[None]:
    """The loop in this process, its first full pass over."""
    stopping, over = asyncio.Event(), asyncio.Event()
    loop = Loop(one, stage.database, interval_seconds=INTERVAL_SECONDS, tell=lambda summary, full: over.set())
    task = asyncio.create_task(loop.run(stopping))
    try:
        async with asyncio.timeout(60):
            await over.wait()
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(60):
            await task


async def test_a_burst_of_changes_makes_few_passes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    have, other = stage.institution.agent_clients[:2]
    names = [f"agent{number}" for number in range(15)]
    for name in names:
        stage.add(name, [have])
    await stage.run()
    passes = 0
    async with stage.worker() as one:
        real = one.run_changes

        async def counting() -> Any:
            nonlocal passes
            passes += 1
            return await real()

        monkeypatch.setattr(one, "run_changes", counting)
        async with _loop(stage, one):

            def burst() -> int:
                last = 0
                for number in range(300):
                    act = link if number // len(names) % 2 == 0 else unlink
                    last = act(stage, names[number % len(names)], other)
                return last

            last = await asyncio.to_thread(burst)
            await _done(stage, last)
            await until(lambda: _none_pending(stage), "all changes are done")
    # As many as fit into the time the burst took, each with all that had come till then.
    assert passes < 60
    for name in names:
        copies = await stage.copies(name)
        added, removed = sums(stage, name)
        assert added - removed == len(copies)
        assert not of_client(copies, other)


async def _none_pending(stage: Stage) -> bool:
    with stage.database.begin() as connection:
        pending = sa.select(tables.scope_change).where(tables.scope_change.c.done_at.is_(None))
        return connection.execute(pending).first() is None


async def test_many_changes_at_once_make_one_pass(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    have, other = stage.institution.agent_clients[:2]
    ids = [stage.add(f"agent{number}", [have]) for number in range(10)]
    await stage.run()
    async with stage.worker() as one:
        real, summaries = one.run_changes, []

        async def noting() -> Any:
            summaries.append(await real())
            return summaries[-1]

        monkeypatch.setattr(one, "run_changes", noting)
        async with _loop(stage, one):
            with stage.database.begin() as connection:
                rows = [{"person_id": one_id, "what": "clients"} for one_id in ids for _ in range(30)]
                connection.execute(
                    sa.insert(tables.person_client), [{"person_id": one_id, "client_id": other} for one_id in ids]
                )
                connection.execute(sa.insert(tables.scope_change), rows)
            await until(lambda: _none_pending(stage), "all changes are done")
    assert [summary.persons for summary in summaries if summary] == [10]


async def test_a_pass_that_failed_is_tried_again_before_the_next_full_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_worker.loop._RETRY_SECONDS", 0.05)
    a, b = stage.institution.agent_clients[:2]
    stage.add("agent", [a])
    await stage.run()
    async with stage.worker() as one:
        send, refused = one.couch.bulk, 0

        async def away(*arguments: Any, **options: Any) -> Any:
            nonlocal refused
            if refused < 3:
                refused += 1
                raise Unavailable("CouchDB does not answer.")
            return await send(*arguments, **options)

        async with _loop(stage, one):
            monkeypatch.setattr(one.couch, "bulk", away)
            change = link(stage, "agent", b)
            await _done(stage, change, SOON_SECONDS)
    assert refused == 3
    await stage.settle()
    assert (await stage.verify()).ok


async def test_a_worker_killed_in_the_midst_of_a_change_finishes_it_when_it_comes_back(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    killed = 0
    async with door(stage.outside.couchdb_url) as gate:
        behind = {"PASSBOOK_COUCHDB_URL": gate.url, "PASSBOOK_COUCHDB_BULK_DOCUMENTS": "10"}
        for number in range(1, 9):
            name = f"agent{number}"
            stage.add(name, [a, b])
            await carry_out(stage)
            before = await stage.copies(name)
            gate.kill_at = 0
            async with running(stage, behind) as process:
                gate.victim = process.pid
                warm = link(stage, name, 999_999_999)
                await _done(stage, warm)
                gate.seen, gate.after, gate.kill_at = 0, number % 2 == 0, number // 2 + 1
                with stage.database.begin() as connection:
                    _swap(connection, name, b, c)

                async def over(ended: Process = process) -> bool:
                    return ended.returncode is not None or await _none_pending(stage)

                await until(over, "the worker is killed or gets through", SOON_SECONDS)
            killed += process.returncode == -signal.SIGKILL
            await carry_out(stage)
            after = await stage.copies(name)
            assert not of_client(after, b)
            assert of_client(after, c)
            added, removed = sums(stage, name)
            gone = of_client(before, b)
            assert (added, removed) == (len(before) + len(of_client(after, c)), len(gone))
            assert {after[key]["_rev"].split("-")[0] for key in of_client(after, c)} == {"1"}, "written once"
            async with stage.couch() as couch:
                leaves = await couch.leaves(stage.database_of(name), sorted(gone))
            assert {(leaf.deleted, (leaf.revision or "").split("-")[0]) for leaf in leaves.values()} == {
                (True, "2")
            }
    assert killed >= 6
    assert (await stage.verify()).findings == []


def _swap(connection: sa.Connection, name: str, lost: int, new: int) -> None:
    """Take a client away and give another, and one that there is not away as well, in one transaction."""
    granting.unlink(connection, TESTER, name, [lost, 999_999_999])
    granting.link(connection, TESTER, name, [new])


async def test_a_heartbeat_is_there_while_it_lives_and_no_longer(stage: Stage, tmp_path: Path) -> None:
    beat = tmp_path / "heartbeat"
    async with running(stage, {"PASSBOOK_WORKER_HEARTBEAT": str(beat)}) as process:
        began = (await asyncio.to_thread(beat.stat)).st_mtime_ns

        async def beats() -> bool:
            return (await asyncio.to_thread(beat.stat)).st_mtime_ns > began

        await until(beats, "another beat")
        process.terminate()
        assert await process.wait() == 0
    assert not await asyncio.to_thread(beat.exists)


async def test_a_heartbeat_that_cannot_be_written_is_refused(stage: Stage, tmp_path: Path) -> None:
    status, _, errors = await passbook(
        "worker",
        "run",
        environment={**stage.environment, "PASSBOOK_WORKER_HEARTBEAT": str(tmp_path / "no" / "file")},
    )
    assert status == 2
    assert "PASSBOOK_WORKER_HEARTBEAT" in errors
