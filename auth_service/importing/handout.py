"""The file of initial passwords: on disk before anybody with such a password can exist.

An entry is written, and forced to the disk, before the transaction that creates its person is committed: a crash
cannot lose the password of somebody who exists. It can leave entries of people who were never created. An entry
therefore names the person by id, which is never given twice; whoever goes on with the file first moves entries
without a person into a file beside it, so that they are not handed out, and nothing is lost.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import ARRAY, Text, any_, bindparam, select

from passbook.errors import Refused, Unavailable
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person

COLUMNS = ("username", "password", "person")
#: Added to the name of the file for the entries that are moved out of it.
ASIDE = ".not-created"

#: With one of these first, a spreadsheet takes the cell for a formula and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Entry:
    """An initial password, and whose it is."""

    username: str
    password: str = field(repr=False)
    person: str


class Handout:
    """The open file. Use `handout()`."""

    def __init__(self, path: Path, descriptor: int, moved: int) -> None:
        self._path = path
        self._descriptor = descriptor
        #: Entries of people who do not exist, which were moved aside.
        self.moved = moved

    def add(self, entries: Sequence[Entry]) -> None:
        """Append entries. When this returns they are on the disk; raises `Unavailable` if it is full or broken."""
        try:
            _append(self._descriptor, [(_harmless(one.username), one.password, one.person) for one in entries])
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}.") from None


@contextmanager
def handout(path: Path, database: ServiceDatabase) -> Iterator[Handout]:
    """The file of initial passwords at `path`, new or to be gone on with, for this process alone.

    Raises `Refused` for a file that is something else, that others may read, or that is being written to.
    """
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        try:
            descriptor, moved = _tidied(path, descriptor, database)
        except OSError as error:
            raise _cannot(path, error) from None
        yield Handout(path, descriptor, moved)
    finally:
        os.close(descriptor)


def _cannot(path: Path, error: OSError) -> Refused:
    return Refused(f"{path} cannot be written: {error.strerror}.", remedy="Name another file in --passwords-to.")


def _opened(path: Path) -> int:
    """The file's descriptor, locked; nobody but its owner may read the file."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        _sync_directory(path)
    except FileExistsError:
        descriptor = os.open(path, flags)
    try:
        _lock(path, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{path} is no ordinary file.")
        if os.fstat(descriptor).st_mode & _OTHERS:
            raise Refused(f"{path} may be read by others than its owner.", remedy=f"First: chmod 600 {path}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held the lock until now may have put another file in this one's place.
        same = os.path.samestat(os.fstat(descriptor), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        same = False
    if not same:
        raise Refused(f"Another import writes to {path} at this moment.", remedy="Name another file.")


def _tidied(path: Path, descriptor: int, database: ServiceDatabase) -> tuple[int, int]:
    """The descriptor of a file with a header and entries of people who exist; how many others were moved."""
    rows, whole = _read(path, descriptor)
    if rows is None:
        os.ftruncate(descriptor, 0)
        _append(descriptor, [COLUMNS])
        return descriptor, 0
    there = _existing(database, [row[2] for row in rows if len(row) == len(COLUMNS)])
    kept: list[list[str]] = []
    moved: list[list[str]] = []
    for row in rows:
        (kept if len(row) == len(COLUMNS) and row[2] in there else moved).append(row)
    if whole and not moved:
        return descriptor, 0
    if moved:
        aside = _opened(path.with_name(path.name + ASIDE))
        try:
            _append(aside, moved)
        finally:
            os.close(aside)
    fresh = _replaced(path, [COLUMNS, *kept])
    os.close(descriptor)
    return fresh, len(moved)


def _read(path: Path, descriptor: int) -> tuple[list[list[str]] | None, bool]:
    """The rows below the header, or None if not even that was written; and whether the last is whole."""
    with open(descriptor, "rb", closefd=False) as stream:
        stream.seek(0)
        content = stream.read()
    header = _line(COLUMNS)
    if header.startswith(content) and content != header:
        return None, False
    try:
        if not content.startswith(header):
            raise ValueError(content)
        rows = list(csv.reader(io.StringIO(content[len(header) :].decode(errors="replace"), newline="")))
    except (ValueError, csv.Error):
        raise Refused(
            f"{path} is there already, and is no file of initial passwords as Passbook wrote it.",
            remedy="Name another file; this one is left as it is.",
        ) from None
    return [row for row in rows if row], content.endswith(b"\n")


def _existing(database: ServiceDatabase, people: Sequence[str]) -> set[str]:
    ids = bindparam("people", list(people), type_=ARRAY(Text))
    query = select(person.c.id).where(person.c.id == any_(ids), person.c.state != "deleting")
    with database.begin() as connection:
        return set(connection.execute(query).scalars())


def _replaced(path: Path, rows: Sequence[Sequence[str]]) -> int:
    """A file with these rows in the place of the one at `path`: at any moment there is the one or the other."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    fresh = _opened(beside)
    try:
        _append(fresh, rows)
        beside.replace(path)
        _sync_directory(path)
    except BaseException:
        os.close(fresh)
        raise
    return fresh


def _append(descriptor: int, rows: Sequence[Sequence[str]]) -> None:
    content = memoryview(b"".join(_line(row) for row in rows))
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def _line(row: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
