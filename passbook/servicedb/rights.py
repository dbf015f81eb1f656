"""What each process may do with each table of the service database.

Declared here, given by `passbook init --roles`. Whoever adds a table or a column says here which process reads,
adds, changes or removes. PostgreSQL refuses what is not declared: `tests/servicedb/test_rights.py` tries every
statement on every column as each process.

Columns are named with spaces between; `ALL` is every column, also those that come later. A statement that names a
column in WHERE or RETURNING reads it; `SELECT … FOR UPDATE` takes the right to change some column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ALL = "*"

#: The processes that have a role of their own: `auth --only people` and `auth --only administration` are two.
PROCESSES = ("gateway", "people", "administration", "worker")

#: Tables that nobody but their owner may change or remove rows of, whatever else they may.
ONLY_GROW = frozenset({"audit_event"})


@dataclass(frozen=True)
class May:
    """Rights on one table: SELECT, INSERT and UPDATE by column, DELETE. `rows` bounds which rows there are."""

    read: str = ""
    add: str = ""
    change: str = ""
    remove: bool = False
    rows: str = ""

    def columns(self) -> Iterator[tuple[str, str]]:
        """Each privilege that goes by column, with its columns."""
        yield from (("SELECT", self.read), ("INSERT", self.add), ("UPDATE", self.change))


#: Adding to the audit log reads the last row's number and hash; what the log tells, only administrators read.
_NOTES = May(read="id hash", add=ALL)
_RELEASE = May(read=ALL)
#: What was found when the database was compared with its witness; who keeps the witness notes it.
_COMPARED = May(read=ALL)
_COMPARES = May(read=ALL, change="place compared_at anchor lacks")
_EVERYTHING = May(read=ALL, add=ALL, change=ALL, remove=True)
#: What `passbook.freshness` reads.
_FRESHNESS = {
    "completeness": May(read=ALL),
    "whole_pass": May(read=ALL),
    "scope_change": May(read="id person_id carried_out_at"),
}

_GATEWAY = {
    **_FRESHNESS,
    "alembic_version": _RELEASE,
    "witnessed": _COMPARED,
    "device": May(
        read="id person_id secret_digest created_at expires_at ends_at revoked_at revoked_because "
        "last_synchronised_at position",
        change="expires_at last_synchronised_at position",
    ),
    "person": May(read="id state database_name generation database_ready_at"),
    "tenant": May(read="singleton open"),
    "written": May(read=ALL),
    "wipe_order": May(read="device_id nonce statement delivered_at received_at", change="delivered_at received_at"),
    "device_checkpoint": May(read=ALL, add="device_id checkpoint", remove=True),
    "audit_event": _NOTES,
}

#: Signing in, of people and of administrators alike.
_SIGN_IN = {
    "alembic_version": _RELEASE,
    "refresh_token": May(read=ALL, add="digest session_id parent access_id", change="spent_at arrived_at"),
    "sign_in_counter": _EVERYTHING,
    "familiar_place": _EVERYTHING,
    "audit_repeat": _EVERYTHING,
    "signing_key": May(read=ALL),
}

_PEOPLE = _SIGN_IN | {
    **_FRESHNESS,
    "witnessed": _COMPARED,
    "person": May(
        read="id username kind state password_hash must_change_password password_changed_at version created_at "
        "permissions history_from history_months",
        change="password_hash must_change_password password_changed_at changed_at version",
    ),
    "person_client": May(read="person_id client_id"),
    "device": May(
        read=ALL,
        add="id person_id name platform secret_digest expires_at installation idempotency_digest sealed_secret "
        "wipe_kid ends_at",
        change="revoked_at revoked_because sealed_secret installation expires_at ends_at",
    ),
    "wipe_order": May(read="device_id ordered_at delivered_at received_at"),
    # With a session of an administrator, whoever has the key for tokens could make theirs.
    "session": May(
        read=ALL,
        add="id person_id expires_at installation",
        change="last_used_at ended_at ended_because installation",
        remove=True,
        rows="administrator_id IS NULL",
    ),
    "activation": May(read=ALL, change="used_at", rows="administrator_id IS NULL"),
    "tenant": May(read="singleton open"),
    "audit_event": _NOTES,
}

_ADMINISTRATION = _SIGN_IN | {
    "witnessed": _COMPARES,
    "administrator": May(
        read=ALL,
        add="id username role password_hash",
        change="role state password_hash must_change_password password_changed_at version changed_at",
    ),
    "approval": May(
        read=ALL,
        add="id action arguments reason requested_by expires_at",
        change="arguments decided_by decided_at decision",
    ),
    "administrator_act": May(read=ALL, add="administrator_id act amount", remove=True),
    "activation": _EVERYTHING,
    "person": May(
        read=ALL,
        add="id username kind password_hash must_change_password permissions history_from history_months "
        "database_name",
        change="username kind state password_hash must_change_password permissions history_from history_months "
        "version password_changed_at changed_at",
        remove=True,
    ),
    "person_client": May(read=ALL, add="person_id client_id", remove=True),
    "scope_change": May(read=ALL, add="person_id what", remove=True),
    "device": May(read=ALL, change="revoked_at revoked_because sealed_secret expires_at ends_at", remove=True),
    "wipe_order": May(read=ALL, add="device_id nonce statement"),
    "session": May(
        read=ALL, add="id administrator_id expires_at", change="last_used_at ended_at ended_because", remove=True
    ),
    "tenant": May(read=ALL, change="open reason changed_at version"),
    "projected_document": May(read="person_id document_id client_id deleted"),
    "audit_event": May(read=ALL, add=ALL),
}

_WORKER = {
    "alembic_version": _RELEASE,
    "witnessed": _COMPARES,
    # Access is switched off for all in a database that turns out to be an older one.
    "tenant": May(read=ALL, change="open reason changed_at version"),
    "device": May(read="id person_id revoked_at"),
    "person": May(
        read="id username kind state permissions history_from history_months database_name generation "
        "database_ready_at compaction_due withdrawn_at nodes_outstanding doubtful_at",
        change="database_ready_at compaction_due withdrawn_at nodes_outstanding doubtful_at",
        remove=True,
    ),
    "person_client": May(read="person_id client_id"),
    "scope_change": May(read=ALL, change="carried_out_at done_at documents_added documents_removed clients_failed"),
    "projected_document": May(read=ALL, add=ALL, change="client_id digest revision ancestors deleted as_of"),
    # By a trigger, which runs as whoever wrote the document.
    "written": May(read=ALL, add=ALL, change="at"),
    "completeness": May(read=ALL, add="person_id state as_of", change="state as_of"),
    "whole_pass": May(read=ALL, change="as_of"),
    "dead_letter": May(
        read=ALL, add="client_id code detail", change="code detail last_seen_at attempts", remove=True
    ),
    # The witness is made of it.
    "audit_event": May(read=ALL, add=ALL),
}

RIGHTS: Mapping[str, Mapping[str, May]] = {
    "gateway": _GATEWAY,
    "people": _PEOPLE,
    "administration": _ADMINISTRATION,
    "worker": _WORKER,
}
