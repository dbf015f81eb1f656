"""What a process remembers of the audit log, so that a database restored beneath it does not go unnoticed.

A database that is restored, or put in place of another, is reached over new connections only. Each new connection
is therefore asked for the newest row of the log that this process has seen; one that lacks it is not used.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from passbook.audit.chain import Head
from passbook.errors import OlderDatabase


class Memory:
    """The newest row of the audit log that was seen over an engine."""

    def __init__(self, engine: Engine) -> None:
        self.head: Head | None = None
        event.listen(engine, "connect", self._connected)

    def note(self, head: Head | None) -> None:
        """Remember a row that is committed, unless a newer one is remembered."""
        if head is not None and (self.head is None or head.id > self.head.id):
            self.head = head

    def _connected(self, connection: Any, _: Any) -> None:
        head = self.head  # others note newer rows meanwhile
        if head is None:
            return
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT hash FROM audit_event WHERE id = %s", (head.id,))
            row = cursor.fetchone()
        except (psycopg.errors.UndefinedTable, DBAPIError):
            row = None  # there is no such log at all
        finally:
            cursor.close()
        if row is None or bytes(row[0]).hex() != head.hash:
            connection.close()
            raise OlderDatabase(f"The service database lacks row {head.id} of the audit log, which it had.")
        connection.rollback()
