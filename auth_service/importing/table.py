"""Reading people from a CSV file: line by line, however long, and strictly.

The file is read twice. The first time shows whether it can be used at all, before anything is written; the second
time gives the rows. A cell that makes no sense refuses its row alone.
"""

from __future__ import annotations

import csv
import difflib
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from auth_service.importing.wanted import Wanted
from auth_service.scopes import Window
from passbook.errors import Refused
from passbook.scope import PERMISSIONS

if TYPE_CHECKING:
    from _csv import Reader

COLUMNS = ("username", "kind", "clients", "permissions", "history_from", "history_months", "password")

#: What stands between two cells; a spreadsheet decides by its country.
_DELIMITERS = (",", ";", "\t")
#: Bytes of a line; ten thousand clients fit, and a file without line ends does not fill the memory.
_LONGEST_LINE = 1 << 20
#: Digits of the largest id that a ledger can have.
_LONGEST_ID = 19
_SAVE_AS = "In a spreadsheet, save it as “CSV UTF-8”."


class PeopleFile:
    """A CSV file with a header and a person a row."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def check(self) -> int:
        """How many rows there are. Raises `Refused`, naming the line, for a file that is no such table."""
        return sum(1 for _ in self._records())

    def rows(self) -> Iterator[Wanted]:
        """The people, in order."""
        for line, columns, cells in self._records():
            yield _wanted(line, columns, cells)

    def _records(self) -> Iterator[tuple[int, list[str], list[str]]]:
        """Line, columns and cells of every row that has anything in it."""
        lines = _lines(self._stream)
        first = next(lines, "")
        delimiter = max(_DELIMITERS, key=first.count)
        try:
            columns = _header(next(_cells(iter((first,)), delimiter), []))
        except csv.Error as error:
            raise _no_table(1, error) from None
        reader = _cells(lines, delimiter)
        before = 0
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise _no_table(before + 2, error) from None
            if cells is None:
                return
            # The header is line 1; a row may go over several lines and is known by its first.
            line, before = before + 2, reader.line_num
            if any(cell.strip() for cell in cells):
                yield line, columns, cells


@contextmanager
def people_file(path: Path) -> Iterator[PeopleFile]:
    """The file, open. Raises `Refused` for one that cannot be read, or that can be read only once."""
    try:
        with path.open("rb") as stream:
            if not stat.S_ISREG(path.stat().st_mode):
                raise Refused(f"{path} is no file that can be read twice.", remedy="Save the list as a file first.")
            yield PeopleFile(stream)
    except OSError as error:
        # Only what concerns this file: other files and sockets are in use while it is open.
        if error.filename != str(path):
            raise
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None


def _cells(lines: Iterator[str], delimiter: str) -> Reader:
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _lines(stream: BinaryIO) -> Iterator[str]:
    stream.seek(0)
    number = 0
    while chunk := stream.readline(_LONGEST_LINE + 1):
        number += 1
        if number == 1:
            _recognise(chunk)
        if b"\0" in chunk:
            raise Refused(f"Line {number} has a NUL in it: this is no text file.", remedy=_SAVE_AS)
        if len(chunk) > _LONGEST_LINE:
            raise Refused(f"Line {number} is longer than a row of a list can be.", remedy=_SAVE_AS)
        try:
            yield chunk.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise Refused(f"Line {number} is not in UTF-8.", remedy=_SAVE_AS) from None


def _recognise(beginning: bytes) -> None:
    if beginning.startswith(b"PK\x03\x04"):
        raise Refused("This is a workbook of a spreadsheet, not a CSV file.", remedy=_SAVE_AS)
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refused("This file is in UTF-16, not in UTF-8.", remedy=_SAVE_AS)


def _no_table(line: int, error: csv.Error) -> Refused:
    said = str(error)
    if "unexpected end" in said or "field limit" in said:
        return Refused(f"The row that begins in line {line} has a quotation mark that is never closed.")
    if "new-line character" in said:
        return Refused(f"Line {line} has a line end of an old kind in it.", remedy=_SAVE_AS)
    return Refused(
        f"The row that begins in line {line} is no CSV: {said}.",
        remedy="A quotation mark inside a quoted cell is written twice.",
    )


def _header(cells: list[str]) -> list[str]:
    """The columns' names. Raises `Refused` for a header that is missing or has what is not known."""
    columns = [cell.strip().lower() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    if not columns:
        raise Refused("The file has no header.", remedy=f"Its first line names columns: {', '.join(COLUMNS)}.")
    for name in columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"Is {near[0]} meant? " if near else ""
            raise Refused(
                f"The first line has {name[:50]!r}, which is no column.",
                remedy=f"{hint}The columns are: {', '.join(COLUMNS)}. The first line must name them.",
            )
        if columns.count(name) > 1:
            raise Refused(f"The column {name} is there twice.")
    if "username" not in columns:
        raise Refused("There is no column username.", remedy="It is the one column that must be there.")
    return columns


def _wanted(line: int, columns: list[str], cells: list[str]) -> Wanted:
    values = dict(zip(columns, cells, strict=False))
    username = values.get("username", "")
    try:
        # A row cut off in the middle must not be taken for one with empty cells: those mean “everything”.
        if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
            raise Refused(f"The row has {len(cells)} cells, the header {len(columns)}.")
        if not username.strip():
            raise Refused("There is no user name.")
        # A password is taken as it is: spaces at its ends belong to it.
        password = values.pop("password", "") or None
        values = {name: value.strip() for name, value in values.items()}
        permissions = values.get("permissions")
        return Wanted(
            line,
            username,
            kind=(values["kind"].lower() or "customer") if "kind" in values else None,
            clients=_clients(values["clients"]) if "clients" in values else None,
            permissions=None if permissions is None else _split(permissions.lower()) or PERMISSIONS,
            window=_window(values),
            password=password,
        )
    except Refused as error:
        return Wanted(line, username, refused=f"{error.message} {error.remedy}".strip())


def _split(cell: str) -> list[str]:
    return [part for part in re.split(r"[\s;]+", cell) if part]


def _clients(cell: str) -> list[int]:
    parts = _split(cell)
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) <= _LONGEST_ID):
            # “17,18” may be two clients or what a spreadsheet made of 1718: not to be guessed.
            raise Refused(f"{part[:50]!r} is no client id: whole numbers, with spaces or semicolons between.")
    return [int(part) for part in parts]


def _window(values: dict[str, str]) -> Window | None:
    if not values.keys() & {"history_from", "history_months"}:
        return None
    since, months = values.get("history_from", ""), values.get("history_months", "")
    if months and not (months.isascii() and months.isdigit() and len(months) <= 4):
        raise Refused(f"{months[:50]!r} is no number of months.")
    try:
        # No other form: 03/04 is in March or in April.
        day = datetime.strptime(since, "%Y-%m-%d").date() if since else None  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise Refused(f"{since[:50]!r} is no day: written as YYYY-MM-DD.") from None
    return Window(day, int(months) if months else None)
