"""What the service database says of its last comparison with the witness, for those who cannot read CouchDB.

The note names the very database it was made in (cluster, timeline, number), so that one that was restored does not
pass on the note of the one that was backed up; and it is good for some minutes, since a copied disk has the same
names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection, func, select, text, update

from passbook.audit.chain import WORKER, Head, record
from passbook.audit.restores import OlderDatabaseFound
from passbook.errors import NotWitnessed, OlderDatabase
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import tenant, witnessed

#: How long a note lets processes start that cannot compare for themselves.
GOOD_FOR = timedelta(minutes=5)
#: How long such a process waits for somebody who can, seconds, and how often it looks.
PATIENCE = 30.0
_LOOK_EVERY = 0.5
_CLOSED = "The service database is older than its witness."

log = structlog.get_logger()


@dataclass(frozen=True)
class Note:
    """The note, and whether it is about this database and young enough."""

    anchor: Head | None
    lacks: Head | None
    #: Whether this database was ever compared; never is no secret of a new one.
    ever: bool
    here: bool
    young: bool

    def check(self) -> None:
        """Raise unless commands may work on this database: `OlderDatabase` or `NotWitnessed`."""
        if self.lacks is not None:
            raise OlderDatabase(f"The service database lacks row {self.lacks.id} of the audit log: it is older.")
        if self.ever and not self.here:
            raise NotWitnessed(
                "This service database is a copy: nobody has compared it with its witness in CouchDB."
            )


def read(connection: Connection) -> Note:
    """The note as it stands."""
    row = connection.execute(
        select(witnessed, (witnessed.c.compared_at > func.now() - GOOD_FOR).label("young"))
    ).one()
    return Note(
        anchor=Head.parse(row.anchor) if row.anchor else None,
        lacks=Head.parse(row.lacks) if row.lacks else None,
        ever=bool(row.place),
        here=row.place == _here(connection),
        young=bool(row.young),
    )


def may_be_written(connection: Connection) -> bool:
    """Whether the database's user may write it: the role of a gateway alone may not."""
    query = text("SELECT has_any_column_privilege('witnessed', 'UPDATE')")
    return bool(connection.execute(query).scalar_one())


def write(connection: Connection, anchor: Head | None) -> None:
    """Note that this database has what the witness has: the row `anchor`, and lacks none."""
    connection.execute(
        update(witnessed).values(
            place=_here(connection), compared_at=func.now(), anchor=str(anchor) if anchor else "", lacks=""
        )
    )


def write_older(connection: Connection, lacks: Head) -> None:
    """Note that this database lacks a row that it should have, and switch everybody's access off."""
    noted = connection.execute(
        update(witnessed).where(witnessed.c.lacks == "").values(lacks=str(lacks), compared_at=func.now())
    )
    connection.execute(
        update(tenant)
        .where(tenant.c.open)
        .values(open=False, reason=_CLOSED, changed_at=func.now(), version=tenant.c.version + 1)
    )
    if noted.rowcount:
        record(connection, WORKER, OlderDatabaseFound(lacks=str(lacks)))


def wait_for_comparison(database: ServiceDatabase, *, patience: float = PATIENCE) -> None:
    """Return once somebody has compared this database lately.

    Raises `OlderDatabase`, or `NotWitnessed` if nobody does within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    told = False
    while True:
        note = database.run(read)
        if note.lacks is None and note.here and note.young:
            return
        if note.lacks is not None or time.monotonic() > deadline:
            note.check()
            raise NotWitnessed
        if not told:
            log.warning("waiting until somebody compares the service database with its witness in CouchDB")
            told = True
        time.sleep(_LOOK_EVERY)


def _here(connection: Connection) -> str:
    query = text(
        "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),"
        " (SELECT timeline_id FROM pg_control_checkpoint()),"
        " (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    return str(connection.execute(query).scalar_one())
