"""Many people from a CSV file: every outcome, crashes, two at once, and files that are none."""

from __future__ import annotations

import asyncio
import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import granting, people
from auth_service.commands.importing import carry_out
from auth_service.directory import everybody
from auth_service.importing.batches import BATCH, Terms, bring_in
from auth_service.importing.handout import ASIDE, handout
from auth_service.importing.table import COLUMNS, people_file
from auth_service.importing.wanted import Report, Wanted
from auth_service.passwords import verify
from auth_service.people import Person
from passbook.audit.chain import Entry, entries
from passbook.audit.chain import verify as verify_chain
from passbook.errors import Conflict, Refused, Unavailable
from passbook.progress import Counting, Silent
from passbook.scope import PERMISSIONS
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import metadata, person
from tests.support.actors import TESTER
from tests.support.killing import passbook
from tests.support.processes import eventually

GOOD = "correct horse battery staple"


@dataclass
class Desk:
    """A service database and a folder, and the means to import."""

    database: ServiceDatabase
    folder: Path

    def file(self, content: str | bytes, name: str = "people.csv") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def imports(
        self,
        content: str | bytes,
        *,
        update: bool = False,
        dry_run: bool = False,
        out: Path | None = None,
        reporter: Counting | None = None,
    ) -> Report:
        terms = Terms(TESTER, "csv", "line", update, dry_run, initial=out is not None, reason="a test")
        with people_file(self.file(content)) as table, ExitStack() as stack:
            total = table.check()
            passwords = stack.enter_context(handout(out, self.database)) if out and not dry_run else None
            return bring_in(
                self.database,
                table.rows(),
                terms,
                passwords=passwords,
                reporter=reporter or Silent(),
                total=total,
            )

    def people(self) -> dict[str, Person]:
        with self.database.begin() as connection:
            return {one.username: one for one in everybody(connection)}

    def hashes(self) -> dict[str, str]:
        with self.database.begin() as connection:
            return {row.id: row.password_hash for row in connection.execute(sa.select(person))}

    def events(self, event: str | None = None) -> list[Entry]:
        with self.database.begin() as connection:
            assert verify_chain(connection).ok
            return entries(connection, event=event, limit=10_000)[::-1]

    def everything(self) -> dict[str, list[Any]]:
        with self.database.begin() as connection:
            return {name: sorted(connection.execute(sa.select(t)).all()) for name, t in metadata.tables.items()}

    @property
    def environment(self) -> dict[str, str]:
        address = self.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return {"PASSBOOK_SERVICE_DB_URL": address, "PASSBOOK_DATA_DIR": str(self.folder / "data")}


@pytest.fixture
def desk(service_url: str, tmp_path: Path) -> Iterator[Desk]:
    one = Desk(ServiceDatabase(service_url), tmp_path)
    yield one
    one.database.dispose()


def rows_of(report: Report) -> list[tuple[int, str, str]]:
    return [(one.number, one.username, one.outcome) for one in report.outcomes]


def handed_out(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def works(desk: Desk, *files: Path) -> None:
    """Every person has one password in one of the files, and it opens their account; nobody else is in there."""
    found = [row for path in files for row in handed_out(path)]
    hashes = desk.hashes()
    assert Counter(row["person"] for row in found) == Counter(hashes.keys())
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        assert all(threads.map(lambda row: verify(hashes[row["person"]], row["password"]), found))


def many(count: int) -> str:
    return "username,kind,clients\n" + "".join(f"user{n:05},customer,{n + 1}\n" for n in range(count))


# What rows become


def test_people_come_in_as_the_rows_say(desk: Desk) -> None:
    report = desk.imports(
        "username,kind,clients,permissions,history_from,history_months,password\n"
        "Amina,customer,17,,,,\n"
        "baraka, Agent ,17 18;19 ; 20,profile;LOANS,,6,\n"
        f"chausiku,,,,2025-03-01,,{GOOD}\n"
    )
    assert report.counts == {"created": 3, "changed": 0, "unchanged": 0, "skipped": 0, "refused": 0}
    assert report.without_password == 2
    there = desk.people()
    amina, baraka, chausiku = (there[name] for name in ("Amina", "baraka", "chausiku"))
    assert (amina.kind, amina.clients, amina.permissions) == ("customer", [17], list(PERMISSIONS))
    assert (amina.history_from, amina.history_months, amina.must_change_password) == (None, None, True)
    assert (baraka.kind, baraka.clients, baraka.permissions) == ("agent", [17, 18, 19, 20], ["profile", "loans"])
    assert baraka.history_months == 6
    assert (chausiku.kind, chausiku.clients, chausiku.history_from) == ("customer", [], date(2025, 3, 1))
    hashes = desk.hashes()
    assert hashes[amina.person] == hashes[baraka.person] == "-"
    assert not verify(hashes[amina.person], "-")
    assert verify(hashes[chausiku.person], GOOD)
    assert [one.person for one in report.outcomes] == [amina.person, baraka.person, chausiku.person]
    assert all(one.pending_changes == 1 for one in there.values()), "the worker is told of each"


REFUSED = [
    ("  ,customer,1,,,,", "no user name"),
    ("a:b,customer,1,,,,", "none of them a colon"),
    (f"{'x' * 101},customer,1,,,,", "1 to 100"),
    ('"two\nlines",customer,1,,,,', "printable"),
    ("\x1b[31mred,customer,1,,,,", "printable"),
    ("x,king,1,,,,", "'king' is no kind of person"),
    ("x,customer,seven,,,,", "'seven' is no client id"),
    ('x,customer,"17,18",,,,', "'17,18' is no client id"),
    ("x,customer,1.0,,,,", "no client id"),
    ("x,customer,-1,,,,", "no client id"),
    ("x,customer,٣,,,,", "no client id"),
    ("x,customer,0,,,,", "0 cannot be the id"),
    ("x,customer,9999999999999999999,,,,", "cannot be the id"),
    (f"x,customer,{'9' * 5000},,,,", "no client id"),
    (f"x,agent,{' '.join(map(str, range(1, 10_002)))},,,,", "at most 10,000 clients"),
    ("x,customer,1,everything,,,", "'everything' is no permission"),
    ("x,customer,1,,2025-01-01,6,", "not both"),
    ("x,customer,1,,01/02/2025,,", "YYYY-MM-DD"),
    ("x,customer,1,,,0,", "1 to 1200"),
    ("x,customer,1,,,six,", "no number of months"),
    ("x,customer,1,,,,short", "at least 10"),
    ("long-name,customer,1,,,,my long-name is it", "user name is part"),
    ("x,customer,1", "3 cells, the header 7"),
    ("x,customer,1,,,,,surplus", "8 cells"),
]


def test_a_row_that_cannot_be_is_refused_and_the_others_come_in(desk: Desk) -> None:
    header = ",".join(COLUMNS)
    content = f"{header}\nfirst,customer,1,,,,\n" + "".join(f"{row}\n" for row, _ in REFUSED) + "last,,2,,,,\n"
    report = desk.imports(content)
    assert report.counts["created"] == 2
    refused = report.only(["refused"])
    assert [
        (hint, one.reason) for (_, hint), one in zip(REFUSED, refused, strict=True) if hint not in one.reason
    ] == []
    assert desk.people().keys() == {"first", "last"}
    # A row over two lines is known by its first, and those after it are counted right.
    assert refused[3].number == 6
    assert refused[4].number == 8
    assert report.outcomes[-1].number == len(content.splitlines())
    assert all(one.username.isprintable() for one in report.outcomes)
    assert not any("short" in one.reason or GOOD in one.reason for one in refused), "no password in a report"
    (event,) = desk.events("PeopleImported")
    assert event.detail == {"source": "csv", "created": 2, "changed": 0, "refused": len(REFUSED)}


def test_a_name_that_stood_further_up_is_refused_with_the_line(desk: Desk) -> None:
    report = desk.imports("username\nAmina\nbaraka\n AMINA \nａmina\n")
    assert [one.outcome for one in report.outcomes] == ["created", "created", "refused", "refused"]
    assert all("line 2" in one.reason for one in report.only(["refused"]))


def test_the_same_file_again_changes_nothing(desk: Desk) -> None:
    content = "username,kind,clients,permissions,history_months\nAmina,customer,17,,\nbaraka,agent,3;1;2,loans,6\n"
    desk.imports(content)
    before = desk.everything()
    report = desk.imports(content.replace("Amina", "aMINA"))
    assert report.counts["unchanged"] == 2
    after = desk.everything()
    assert len(after.pop("audit_event")) == len(before.pop("audit_event")) + 1
    assert after == before


def test_somebody_who_is_different_is_refused_or_with_update_changed(desk: Desk) -> None:
    header = "username,kind,clients,permissions,history_months\n"
    desk.imports(header + "amina,customer,1 2 3,,\nbaraka,agent,5,loans,6\nchausiku,agent,7,,\n")
    before = desk.people()
    other = header + "amina,agent,2 3 4,loans profile,12\nbaraka,agent,5,loans,\nchausiku,agent,7,,\n"
    report = desk.imports(other)
    assert [one.outcome for one in report.outcomes] == ["refused", "refused", "unchanged"]
    assert "other kind and other clients and other permissions and other history" in report.outcomes[0].reason
    assert "other history;" in report.outcomes[1].reason
    assert desk.people() == before
    assert [one.outcome for one in desk.imports(other, update=True, dry_run=True).outcomes] == [
        "changed",
        "changed",
        "unchanged",
    ]
    assert desk.people() == before
    report = desk.imports(other, update=True)
    assert [one.outcome for one in report.outcomes] == ["changed", "changed", "unchanged"]
    there = desk.people()
    amina = there["amina"]
    assert (amina.kind, amina.clients, amina.permissions) == ("agent", [2, 3, 4], ["profile", "loans"])
    assert (amina.history_months, there["baraka"].history_months) == (12, None)
    assert there["chausiku"] == before["chausiku"]
    assert [e.event for e in desk.events() if e.person == amina.person] == [
        "PersonCreated",
        "PersonChanged",
        "ClientsUnlinked",
        "ClientsLinked",
        "PermissionsChanged",
    ]
    assert {e.reason for e in desk.events()} == {"a test"}


def test_what_the_header_does_not_have_is_neither_compared_nor_changed(desk: Desk) -> None:
    desk.imports("username,kind,clients,permissions,history_months\namina,agent,1 2,loans,6\n")
    assert desk.imports("username\namina\n").counts["unchanged"] == 1
    assert desk.imports("username,clients\namina,2 9\n", update=True).counts["changed"] == 1
    amina = desk.people()["amina"]
    assert (amina.kind, amina.clients, amina.permissions, amina.history_months) == ("agent", [2, 9], ["loans"], 6)


def test_nobody_s_password_state_or_name_is_changed(desk: Desk) -> None:
    desk.imports(f"username,password\nAmina,{GOOD}\n")
    with desk.database.begin() as connection:
        people.suspend(connection, TESTER, "Amina")
    before = desk.hashes()
    out = desk.folder / "out.csv"
    report = desk.imports("username,clients,password\namina,5,a quite different sentence\n", update=True, out=out)
    assert report.counts["changed"] == 1
    assert desk.hashes() == before
    assert desk.people()["Amina"].state == "suspended"
    assert handed_out(out) == []


def test_a_dry_run_tells_the_same_and_writes_nothing(desk: Desk) -> None:
    header = "username,kind,clients,password\n"
    desk.imports(header + "amina,customer,1,\nbaraka,agent,2,\n")
    content = header + f"amina,customer,1,\nbaraka,agent,3,\nnew,,4,{GOOD}\nNEW,,4,\nweak,,5,password\nx,king,,\n"
    before = desk.everything()
    out = desk.folder / "out.csv"
    dry = desk.imports(content, dry_run=True, out=out)
    assert desk.everything() == before
    assert not out.exists()
    real = desk.imports(content)
    assert rows_of(dry) == rows_of(real)
    assert [one.reason for one in dry.outcomes] == [one.reason for one in real.outcomes]
    assert [one.outcome for one in dry.outcomes] == [
        "unchanged",
        "refused",
        "created",
        "refused",
        "refused",
        "refused",
    ]


def test_one_command_is_one_request_in_the_audit_log(desk: Desk) -> None:
    code, output, _ = run(desk, "person", "import", str(desk.file(many(3))), "--reason", "spring", "--json")
    assert code == 0
    assert json.loads(output)["created"] == 3
    events = desk.events()
    assert [one.event for one in events] == ["PersonCreated"] * 3 + ["PeopleImported"]
    assert len({one.request_id for one in events}) == 1
    assert events[0].request_id
    assert {(one.actor_kind, one.reason) for one in events} == {("operator", "spring")}


def test_what_is_undone_with_a_row_is_not_in_the_audit_log(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.imports("username,clients\namina,1\nbaraka,1\n")
    before = desk.people()

    def refuse(connection: Any, by: Any, name: str, **_: Any) -> None:
        if name == before["amina"].person:
            raise Conflict("Not now.")

    monkeypatch.setattr(granting, "permit", refuse)
    report = desk.imports("username,clients\namina,2\nbaraka,2\n", update=True)
    assert [(one.outcome, one.reason) for one in report.outcomes] == [("refused", "Not now."), ("changed", "")]
    assert desk.people()["amina"] == before["amina"]
    assert {e.person for e in desk.events("ClientsLinked")} == {before["baraka"].person}


# Files


@pytest.mark.parametrize(
    "content",
    [
        "username,kind,clients\r\namina,agent,1 2\r\nbaraka,customer,3\r\n",
        "\ufeffusername;kind;clients\r\namina;agent;1 2\r\nbaraka;customer;3\r\n",
        'username;kind;clients\namina;agent;"1;2"\nbaraka;customer;3',
        "username\tkind\tclients\namina\tagent\t1;2\nbaraka\tcustomer\t3\n",
        '"Username", KIND,Clients,,\n\namina,agent,1 ; 2,,\n,,,,\n"baraka",customer,3,,\n\n\n',
        "clients,kind,username\n1 2,agent,amina\n3,customer,baraka\n",
    ],
)
def test_files_as_spreadsheets_write_them(desk: Desk, content: str) -> None:
    assert desk.imports(content).counts["created"] == 2
    there = desk.people()
    assert {name: (one.kind, one.clients) for name, one in there.items()} == {
        "amina": ("agent", [1, 2]),
        "baraka": ("customer", [3]),
    }


BAD = [
    (b"", "no header"),
    (b"\n\n", "no header"),
    (b"\xef\xbb\xbf", "no header"),
    (b"amina,customer,17\n", "'amina', which is no column"),
    (b"username,client\namina,17\n", "Is clients meant"),
    (b"user_name;clients\namina;17\n", "Is username meant"),
    (b"username,frobnicate\namina,17\n", "'frobnicate', which is no column"),
    (b"kind,clients\ncustomer,17\n", "no column username"),
    (b"username,kind,Username\na,b,c\n", "username is there twice"),
    (b"username,,kind\na,b,c\n", "'', which is no column"),
    ("username\nZoë\n".encode("latin-1"), "Line 2 is not in UTF-8"),
    ("username\nzoe\n".encode("utf-16"), "UTF-16"),
    ("username\nzoe\n".encode("utf-16-le"), "NUL"),
    (b"username\namina\nba\0raka\n", "Line 3 has a NUL"),
    (b"PK\x03\x04\x14\x00\x06\x00", "workbook"),
    (bytes(range(1, 256)) * 20, "no column|UTF-8"),
    (b"username\n" + b"x" * 3_000_000, "Line 2 is longer"),
    (
        b'username,clients\namina,1\n"baraka,2\nchausiku,3\n',
        "begins in line 3 has a quotation mark that is never closed",
    ),
    (b'username,clients\n"amina" x,1\n', "begins in line 2 is no CSV"),
    (b'"username', "line 1 has a quotation mark"),
    (b"username,clients\ramina,1\rbaraka,2\r", "line end of an old kind"),
    (b"username,clients\namina,1\rbaraka,2\r", "Line 2 has a line end of an old kind"),
    (b'username\n"' + b"many lines\n" * 20_000, "never closed"),
]


@pytest.mark.parametrize(("content", "hint"), BAD)
def test_a_file_that_is_no_list_is_refused_before_anybody_comes_in(desk: Desk, content: bytes, hint: str) -> None:
    with pytest.raises(Refused) as refused:
        desk.imports(content)
    assert any(one in f"{refused.value.message} {refused.value.remedy}" for one in hint.split("|"))
    assert desk.people() == {}
    assert desk.events() == []


def test_a_file_that_cannot_be_read_is_said(desk: Desk) -> None:
    pipe = desk.folder / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    for path, hint in ((desk.folder / "none.csv", "No such file"), (desk.folder, "directory"), (pipe, "twice")):
        with pytest.raises(Refused, match=hint), people_file(path):
            pass
    os.close(writer)


def run(desk: Desk, *arguments: str) -> tuple[int, str, str]:
    return asyncio.run(passbook(*arguments, environment=desk.environment))


def test_the_command_tells_by_its_exit(desk: Desk) -> None:
    code, output, errors = run(desk, "person", "import", str(desk.file("username,client\nx,1\n")))
    assert (code, output) == (2, "")
    assert "Is clients meant" in errors
    code, output, errors = run(
        desk, "person", "import", str(desk.file("username,kind\namina,\nx,king\n\x1b[2J,\n"))
    )
    assert code == 1
    assert "3\tx\trefused\t'king' is no kind" in output
    assert "amina" not in output, "who came in is counted, not listed"
    assert "\x1b" not in output
    assert "2 of 3 were refused" in errors
    assert "1 of the new people have no password" in errors
    path = desk.file("username,kind\namina,\nbaraka,\n")
    code, output, errors = run(desk, "person", "import", str(path), "--dry-run", "--every-row")
    assert code == 0, errors
    assert "2\tamina\tunchanged\t" in output
    assert "3\tbaraka\tcreated\t" in output
    assert "dry run" in output
    code, output, errors = run(desk, "person", "import", str(path), "--json")
    assert code == 0, errors
    assert json.loads(output) == {
        "dry_run": False,
        "created": 1,
        "changed": 0,
        "unchanged": 1,
        "skipped": 0,
        "refused": 0,
        "created_without_password": 1,
        "rows": [
            {
                "line": 2,
                "username": "amina",
                "outcome": "unchanged",
                "reason": "",
                "person": desk.people()["amina"].person,
            },
            {
                "line": 3,
                "username": "baraka",
                "outcome": "created",
                "reason": "",
                "person": desk.people()["baraka"].person,
            },
        ],
    }


# Passwords


def test_initial_passwords_are_written_for_their_owner_alone(desk: Desk) -> None:
    out = desk.folder / "out.csv"
    report = desk.imports(f'username,password\namina,\n=cmd|calc,\n@x,\n-1+1,\n"a,""b""",\nown,{GOOD}\n', out=out)
    assert report.counts["created"] == 6
    assert report.without_password == 0
    assert out.stat().st_mode & 0o777 == 0o600
    written = handed_out(out)
    assert [row["username"] for row in written] == ["amina", "'=cmd|calc", "'@x", "'-1+1", 'a,"b"']
    hashes, there = desk.hashes(), desk.people()
    assert verify(hashes[there["own"].person], GOOD)
    for row in written:
        assert verify(hashes[row["person"]], row["password"])
        assert not row["password"].startswith(("=", "+", "-", "@"))
    assert there["=cmd|calc"].person == written[1]["person"]
    assert all(one.must_change_password for one in there.values())
    assert not list(desk.folder.glob(f"out.csv{ASIDE}"))


def test_another_file_is_never_touched(desk: Desk) -> None:
    content, header = many(2), "username,password,person\n"
    out = desk.folder / "out.csv"
    for other in ("my diary\n", "username;password;person\nx;y;z\n", header + "x" * 200_000, "u" * 9):
        out.write_text(other)
        out.chmod(0o600)
        with pytest.raises(Refused, match="no file of initial passwords"):
            desk.imports(content, out=out)
        assert out.read_text() == other
    out.write_text(header)
    out.chmod(0o640)
    with pytest.raises(Refused, match="read by others"):
        desk.imports(content, out=out)
    out.chmod(0o600)
    with out.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="Another import"):
            desk.imports(content, out=out)
    link = desk.folder / "link.csv"
    link.symlink_to(out)
    for path in (link, desk.folder, desk.folder / "none" / "out.csv", Path("/dev/null")):
        with pytest.raises(Refused, match=r"cannot be written|no ordinary file|Another import|read by others"):
            desk.imports(content, out=path)
    assert desk.people() == {}
    desk.imports(content, out=out)
    works(desk, out)


def test_a_full_disk_refuses_the_people_whose_passwords_do_not_fit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = desk.folder / "out.csv"
    real = os.write

    def full(descriptor: int, content: Any) -> int:
        if len(content) > 60:
            real(descriptor, bytes(content)[:50])
            raise OSError(28, "No space left on device")
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        desk.imports(many(4), out=out)
    assert desk.people() == {}
    monkeypatch.undo()
    assert desk.imports(many(4), out=out).counts["created"] == 4
    works(desk, out)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_crash_around_the_commit_loses_no_password(desk: Desk, moment: str) -> None:
    out = desk.folder / "out.csv"
    desk.imports(many(2), out=out)
    before = out.read_bytes()
    crash = Crash(desk.database.engine, moment)
    with pytest.raises(InterruptedError):
        desk.imports(many(5), out=out)
    crash.over()
    assert len(desk.people()) == (2 if moment.startswith("before") else 5)
    assert len(handed_out(out)) == 5, "they were on the disk before the commit"
    assert out.read_bytes().startswith(before)
    report = desk.imports(many(5), out=out)
    assert report.counts["created"] == (3 if moment.startswith("before") else 0)
    assert report.counts["unchanged"] == (2 if moment.startswith("before") else 5)
    works(desk, out)
    aside = out.with_name(out.name + ASIDE)
    assert aside.exists() is moment.startswith("before")
    if aside.exists():
        assert aside.stat().st_mode & 0o777 == 0o600
        gone = [line.split(",") for line in aside.read_text().splitlines()]
        assert len(gone) == 3
        assert not {row[2] for row in gone} & desk.hashes().keys()


class Crash:
    """Interrupts the import at the commit of the transaction in which it creates people."""

    def __init__(self, engine: sa.Engine, moment: str) -> None:
        self._engine, self._after = engine, moment.startswith("after")
        self._armed = False
        sa.event.listen(engine, "before_cursor_execute", self._arm)
        sa.event.listen(engine, "commit", self._strike)

    def over(self) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._arm)
        sa.event.remove(self._engine, "commit", self._strike)

    def _arm(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._armed = self._armed or statement.startswith("INSERT INTO audit_event")

    def _strike(self, connection: sa.Connection) -> None:
        if self._armed:
            self._armed = False
            if self._after:
                connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
            raise InterruptedError


@pytest.mark.parametrize("torn", ["", "usern", "username,password,person", "torn"])
def test_a_file_that_was_cut_off_is_gone_on_with(desk: Desk, torn: str) -> None:
    out = desk.folder / "out.csv"
    if torn == "torn":
        desk.imports(many(3), out=out)
        out.write_bytes(out.read_bytes().rstrip(b"\n") + b"\nuser00003,abcdefgh,perso")
    else:
        out.write_text(torn)
        out.chmod(0o600)
    desk.imports(many(5), out=out)
    works(desk, out)


def test_a_lost_line_end_loses_nobody(desk: Desk) -> None:
    out = desk.folder / "out.csv"
    desk.imports(many(3), out=out)
    out.write_bytes(out.read_bytes().rstrip(b"\n"))
    desk.imports(many(5), out=out)
    works(desk, out)


def test_passwords_for_another_database_are_kept(desk: Desk) -> None:
    out = desk.folder / "out.csv"
    theirs = "username,password,person\namina,abcdefghijkmno,person-of-elsewhere\n"
    out.write_text(theirs)
    out.chmod(0o600)
    desk.imports(many(2), out=out)
    works(desk, out)
    assert out.with_name(out.name + ASIDE).read_text() == theirs.splitlines(keepends=True)[1]


# Crashes and company


def start(desk: Desk, path: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "passbook", "person", "import", str(path), "--passwords-to", str(out), "--json"],
        env={**os.environ, **desk.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def count(desk: Desk) -> int:
    with desk.database.begin() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(person)).scalar_one())


def test_killed_in_the_middle_it_goes_on_where_it_ended(desk: Desk) -> None:
    path, out = desk.file(many(2 * BATCH + 7)), desk.folder / "out.csv"
    process = start(desk, path, out)
    eventually(lambda: count(desk) >= BATCH, "the first batch is in", within=120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    there = count(desk)
    assert there % BATCH == 0
    assert there < 2 * BATCH + 7, "it was killed in time"
    known = {row["person"]: row["password"] for row in handed_out(out)}
    assert desk.hashes().keys() <= known.keys()
    again = start(desk, path, out)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    report = json.loads(output)
    assert (report["created"], report["unchanged"], report["refused"]) == (2 * BATCH + 7 - there, there, 0)
    works(desk, out)
    assert len(desk.events("PersonCreated")) == 2 * BATCH + 7


def test_two_at_once_create_everybody_once(desk: Desk) -> None:
    path = desk.file(many(BATCH + 20))
    outs = [desk.folder / "one.csv", desk.folder / "two.csv"]
    processes = [start(desk, path, out) for out in outs]
    reports = []
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        reports.append(json.loads(output))
    assert sum(report["created"] for report in reports) == BATCH + 20
    assert all(report["created"] + report["unchanged"] == BATCH + 20 for report in reports)
    works(desk, *outs)
    assert len(desk.events("PersonCreated")) == BATCH + 20


def test_a_name_taken_while_the_import_runs_refuses_its_row(desk: Desk) -> None:
    """Somebody adds a person by hand, not committed yet when the import looks who is there."""
    taken, go = threading.Event(), threading.Event()

    def by_hand() -> None:
        with desk.database.begin() as connection:
            people.add(connection, TESTER, username="USER00001", kind="agent", clients=[9], password_hash="-")
            taken.set()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            with desk.database.engine.connect() as other:
                eventually(lambda: other.exec_driver_sql(waiting).scalar(), "the import waits for the name")
            go.set()

    hand = threading.Thread(target=by_hand)
    hand.start()
    taken.wait(10)
    report = desk.imports(many(3))
    hand.join()
    assert go.is_set()
    assert [one.outcome for one in report.outcomes] == ["created", "refused", "created"]
    assert "already a person" in report.outcomes[1].reason
    assert desk.people()["USER00001"].kind == "agent"


def test_a_client_linked_by_hand_meanwhile_is_seen(desk: Desk) -> None:
    """What an update takes away is worked out from what is there when the person's row is held."""
    desk.imports(many(1))
    linked = threading.Event()

    def by_hand() -> None:
        with desk.database.begin() as connection:
            granting.link(connection, TESTER, "user00000", [9])
            linked.set()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            with desk.database.engine.connect() as other:
                eventually(lambda: other.exec_driver_sql(waiting).scalar(), "the import waits for the person")

    hand = threading.Thread(target=by_hand)
    hand.start()
    linked.wait(10)
    report = desk.imports("username,clients\nuser00000,5\n", update=True)
    hand.join()
    assert report.counts["changed"] == 1
    assert desk.people()["user00000"].clients == [5]


def test_a_deadlock_is_tried_again(desk: Desk) -> None:
    desk.imports(many(2))
    first, last = sorted(one.person for one in desk.people().values())
    lock = sa.select(person.c.id).with_for_update()
    held = threading.Event()

    def crosswise() -> None:
        with desk.database.engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '60s'")  # so that the other one is ended
            connection.execute(lock.where(person.c.id == last))
            held.set()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            with desk.database.engine.connect() as other:
                eventually(lambda: other.exec_driver_sql(waiting).scalar(), "the import waits")
            connection.execute(lock.where(person.c.id == first))

    hand = threading.Thread(target=crosswise)
    hand.start()
    held.wait(10)
    report = desk.imports("username,clients\nuser00000,5\nuser00001,5\n", update=True)
    hand.join()
    assert report.counts["changed"] == 2
    assert all(one.clients == [5] for one in desk.people().values())
    assert len(desk.events("ClientsLinked")) == 2


def test_somebody_deleted_between_two_looks_is_refused(desk: Desk) -> None:
    desk.imports(many(1))
    out = desk.folder / "out.csv"
    gone = False

    def delete(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal gone
        if "pg_advisory_xact_lock" in statement and not gone:
            gone = True
            with desk.database.begin() as other:
                people.begin_deletion(other, TESTER, "user00000")

    sa.event.listen(desk.database.engine, "before_cursor_execute", delete)
    report = desk.imports(many(2), out=out)
    sa.event.remove(desk.database.engine, "before_cursor_execute", delete)
    assert [one.outcome for one in report.outcomes] == ["refused", "created"]
    assert "import again" in report.outcomes[0].reason
    assert desk.imports(many(2), out=out).counts["created"] == 1


# Size


def test_two_thousand_rows_are_twenty_transactions(desk: Desk) -> None:
    statements: Counter[str] = Counter()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements[" ".join(statement.split()[:3])] += 1
        statements["all"] += 1

    commits = 0

    def committed(_connection: Any) -> None:
        nonlocal commits
        commits += 1

    engine = desk.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    sa.event.listen(engine, "commit", committed)
    reporter = Counting()
    report = desk.imports(many(2000), reporter=reporter)
    assert report.counts["created"] == 2000
    assert commits == 20 + 1, "and one that says that people were imported"
    assert statements["INSERT INTO audit_event"] == 20 + 1, "the audit log grows by a batch, not by a person"
    assert statements["all"] <= 2000 * 14
    assert reporter.seen == [(done, 2000) for done in range(100, 2001, 100)]
    commits = 0
    statements.clear()
    assert desk.imports(many(2000)).counts["unchanged"] == 2000
    assert commits == 20 + 1
    assert statements["all"] <= 20 * 8 + 10, "people who are there cost no statement each"


def test_the_rows_are_read_as_they_are_needed(desk: Desk) -> None:
    """However long the list, no more of it is in memory than the batches that are being worked on."""
    taken = 0

    def endless() -> Iterator[Wanted]:
        nonlocal taken
        for number in range(2, 2 + 20 * BATCH):
            taken += 1
            yield Wanted(number, f"user{number}")

    most = 0

    class Watching:
        def update(self, done: int, total: int) -> None:
            nonlocal most
            most = max(most, taken - done)

    terms = Terms(TESTER, "csv", "line", dry_run=True)
    bring_in(desk.database, endless(), terms, passwords=None, reporter=Watching(), total=0)
    assert most <= 3 * BATCH


def test_a_database_that_goes_away_keeps_what_was_imported(desk: Desk) -> None:
    batches = 0

    def cut(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal batches
        batches += "pg_advisory_xact_lock" in statement
        if batches == 5:  # each batch takes the lock of imports, then that of the audit log
            pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
            other = sa.create_engine(desk.database.url, poolclass=sa.NullPool)
            with other.connect() as hand:
                hand.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")

    terms = Terms(TESTER, "csv", "line")
    content = many(2 * BATCH + 50)
    sa.event.listen(desk.database.engine, "before_cursor_execute", cut)
    with people_file(desk.file(content)) as table, pytest.raises(Unavailable, match="does not answer") as lost:
        carry_out(desk.database, table.rows(), terms, total=2 * BATCH + 50, passwords_to=None)
    sa.event.remove(desk.database.engine, "before_cursor_execute", cut)
    assert "the same command goes on" in lost.value.remedy
    assert len(desk.people()) == 2 * BATCH
    assert desk.imports(content).counts == {
        "created": 50,
        "changed": 0,
        "unchanged": 2 * BATCH,
        "skipped": 0,
        "refused": 0,
    }
