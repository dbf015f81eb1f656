"""What must be true of a service database, whatever was done to it: the log retold, every row, the gateway's word.

Retold in order, the audit log must end in exactly what is there: nothing was done that is not in the log, and
nothing is in the log that was not done. That holds where people, administrators and devices were all made by
Passbook's own functions.
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, select

from passbook.audit import chain
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.answers import Problem
from sync_gateway.credentials import DatabaseCredentials

#: Events after which a person's version is one higher.
_VERSIONED = {
    "PersonChanged",
    "ClientsLinked",
    "ClientsUnlinked",
    "PermissionsChanged",
    "PersonSuspended",
    "PersonRestored",
    "PasswordReset",
    "PasswordChanged",
    "PersonActivated",
}


def events(database: ServiceDatabase, after: int = 0) -> list[chain.Entry]:
    """The rows of the log, oldest first."""
    with database.begin() as connection:
        return [row for row in reversed(chain.entries(connection, limit=100_000)) if row.id > after]


def check(database: ServiceDatabase) -> None:
    """The chain holds, and the log tells of all that is there and of nothing else."""
    with database.begin() as connection:
        verdict = chain.verify(connection)
        assert verdict.ok, verdict
        story = _Story()
        for row in reversed(chain.entries(connection, limit=100_000)):
            story.tell(row)
        story.compare(connection)


async def gateway_says(gateway: DatabaseCredentials, device: str, secret: str) -> str:
    """The person whose database the gateway would serve to this device, or the code with which it would refuse."""
    return (await gateway_tells(gateway, device, secret))[0]


async def gateway_tells(gateway: DatabaseCredentials, device: str, secret: str) -> tuple[str, str | None]:
    """As `gateway_says`, and why the access of the device has ended, if that is told."""
    header = "Basic " + base64.b64encode(f"{device}:{secret}".encode()).decode()
    try:
        return (await gateway.principal([header])).person_id, None
    except Problem as problem:
        code = problem.code if problem.status == 401 else f"{problem.status} {problem.code}"
        return code, problem.more.get("because")


class _Story:
    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        self.leaving: set[str] = set()
        self.devices: dict[str, str] = {}
        self.revoked: Counter[str] = Counter()
        self.revoked_devices: set[str] = set()
        self.sessions: dict[str, str] = {}
        self.ended: set[str] = set()
        self.going: Counter[str] = Counter()
        self.refreshed: Counter[str] = Counter()
        #: Refreshes that are told as a number, by person or administrator.
        self.repeated: Counter[str] = Counter()
        self.administrators: dict[str, dict[str, Any]] = {}
        self.tenant = {"open": True, "version": 1}
        self.approvals: dict[str, str | None] = {}
        self.keys: set[str] = set()

    def tell(self, row: chain.Entry) -> None:
        """One more event."""
        detail = row.detail
        if row.event in _VERSIONED:
            # Whoever is being changed must be there: an event about nobody is a KeyError.
            self.people[row.person or ""]["version"] += 1
        handler = getattr(self, f"_{row.event}", None)
        if handler is not None:
            handler(row.person, detail, row)

    def compare(self, connection: Connection) -> None:
        """Assert that the story ends in what is there."""
        self._compare_people(connection)
        self._compare_devices(connection)
        self._compare_sessions(connection)
        found = {
            row.id: {"role": row.role, "state": row.state, "version": row.version}
            for row in _rows(connection, tables.administrator)
        }
        assert found == self.administrators
        (tenant,) = _rows(connection, tables.tenant)
        assert {"open": tenant.open, "version": tenant.version} == self.tenant
        assert {row.id: row.decision for row in _rows(connection, tables.approval)} == self.approvals
        assert {row.kid for row in _rows(connection, tables.signing_key)} == self.keys

    def _compare_people(self, connection: Connection) -> None:
        clients = defaultdict(set)
        for row in _rows(connection, tables.person_client):
            clients[row.person_id].add(row.client_id)
        changes = defaultdict(list)
        for row in _rows(connection, tables.scope_change, tables.scope_change.c.id):
            changes[row.person_id].append(row.what)
        rows = _rows(connection, tables.person)
        found = {
            row.id: {
                "kind": row.kind,
                "state": row.state,
                "clients": clients[row.id],
                "permissions": list(row.permissions),
                "window": (row.history_from.isoformat() if row.history_from else None, row.history_months),
                "version": row.version,
                "changes": changes[row.id],
            }
            for row in rows
            if row.state != "deleting"
        }
        for person, facts in found.items():
            if person in self.people and self.people[person]["window"] is None:
                facts["window"] = None  # the event of a person's creation does not tell it
        assert found == self.people
        assert {row.id for row in rows if row.state == "deleting"} == self.leaving

    def _compare_devices(self, connection: Connection) -> None:
        rows = _rows(connection, tables.device)
        assert {row.id: row.person_id for row in rows} == self.devices
        assert Counter(row.person_id for row in rows if row.revoked_at) == +self.revoked
        assert {row.id for row in rows if row.revoked_at} >= self.revoked_devices & self.devices.keys()
        assert not [row.id for row in rows if row.revoked_at and row.sealed_secret], (
            "a revoked device keeps no seal"
        )

    def _compare_sessions(self, connection: Connection) -> None:
        rows = _rows(connection, tables.session)
        assert {row.id: row.person_id or row.administrator_id for row in rows} == self.sessions
        assert {row.id for row in rows if row.ended_at} >= self.ended & self.sessions.keys()
        going = Counter(row.person_id for row in rows if row.person_id and not row.ended_at)
        assert going == +self.going
        found = Counter(row.session_id for row in _rows(connection, tables.refresh_token))
        for row in _rows(connection, tables.audit_repeat):
            if row.event == "SessionRefreshed":
                self.repeated[row.person or row.administrator] += row.counted
        more = Counter({session: 1 + self.refreshed[session] for session in self.sessions})
        for session, owner in self.sessions.items():
            if owner not in self.repeated:
                assert found[session] == more[session]
        for principal, times in self.repeated.items():
            own = [session for session, owner in self.sessions.items() if owner == principal]
            assert sum(found[one] - more[one] for one in own) == (times if own else 0)

    # What each event means.

    def _PersonCreated(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        assert person not in self.people
        self.people[person] = {
            "kind": detail["kind"],
            "state": "active",
            "clients": set(detail["clients"]),
            "permissions": detail["permissions"],
            "window": None,
            "version": 1,
            "changes": ["created"],
        }

    def _PersonChanged(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        if "kind" in detail["changed"]:
            facts = self.people[person]
            facts["kind"] = {"customer": "agent", "agent": "customer"}[facts["kind"]]
            facts["changes"].append("permissions")

    def _ClientsLinked(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        facts, clients = self.people[person], set(detail["clients"])
        assert clients, "something was linked"
        assert not clients & facts["clients"], "what was linked already is no news"
        facts["clients"] |= clients
        facts["changes"].append("clients")

    def _ClientsUnlinked(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        facts, clients = self.people[person], set(detail["clients"])
        assert clients, "something was unlinked"
        assert clients <= facts["clients"]
        facts["clients"] -= clients
        facts["changes"].append("clients")

    def _PermissionsChanged(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        before, after, facts = detail["before"], detail["after"], self.people[person]
        assert before != after
        assert before["permissions"] == facts["permissions"]
        assert facts["window"] in (None, (before["history_from"], before["history_months"]))
        facts["permissions"] = after["permissions"]
        facts["window"] = (after["history_from"], after["history_months"])
        facts["changes"].append("permissions")

    def _PersonSuspended(self, person: str, _: dict[str, Any], __: chain.Entry) -> None:
        assert self.people[person]["state"] == "active"
        self.people[person]["state"] = "suspended"

    def _PersonRestored(self, person: str, _: dict[str, Any], __: chain.Entry) -> None:
        assert self.people[person]["state"] == "suspended"
        self.people[person]["state"] = "active"

    def _all_out(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        self.going[person] -= detail["sessions_ended"]
        self.revoked[person] += detail["devices_revoked"]

    _PasswordReset = _PersonSignedOut = _PasswordChanged = _all_out

    def _PersonDeleted(self, person: str, _: dict[str, Any], __: chain.Entry) -> None:
        del self.people[person]
        self.leaving.add(person)
        self.devices = {device: owner for device, owner in self.devices.items() if owner != person}
        self.sessions = {session: owner for session, owner in self.sessions.items() if owner != person}
        del self.revoked[person], self.going[person]

    def _PersonErased(self, person: str, _: dict[str, Any], __: chain.Entry) -> None:
        self.leaving.remove(person)

    def _PersonSignedIn(self, person: str, detail: dict[str, Any], _: chain.Entry) -> None:
        assert self.people[person]["state"] == "active"
        self.sessions[detail["session"]] = person
        self.going[person] += 1

    def _AdministratorSignedIn(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        self.sessions[detail["session"]] = detail["administrator"]

    def _SessionRefreshed(self, _: str | None, detail: dict[str, Any], __: chain.Entry) -> None:
        assert detail["session"] not in self.ended, "an ended session is not refreshed"
        self.refreshed[detail["session"]] += 1

    def _Repeated(self, person: str | None, detail: dict[str, Any], _: chain.Entry) -> None:
        assert detail["times"] > 0
        if detail["of"] == "SessionRefreshed":
            self.repeated[person or detail["administrator"]] += detail["times"]

    def _over(self, person: str | None, detail: dict[str, Any], _: chain.Entry) -> None:
        self.ended.add(detail["session"])
        if person is not None:
            self.going[person] -= 1

    _RefreshTokenReused = _SessionEnded = _over

    def _DeviceRegistered(self, person: str, _: dict[str, Any], row: chain.Entry) -> None:
        assert self.people[person]["state"] == "active"
        assert row.device not in self.devices
        self.devices[row.device or ""] = person

    def _DeviceRevoked(self, person: str, detail: dict[str, Any], row: chain.Entry) -> None:
        assert self.devices[row.device or ""] == person
        self.revoked_devices.add(row.device or "")
        self.revoked[person] += 1
        self.going[person] -= detail["sessions_ended"]

    def _AdministratorCreated(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        self.administrators[detail["administrator"]] = {"role": detail["role"], "state": "active", "version": 1}

    def _AdministratorChanged(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        facts = self.administrators[detail["administrator"]]
        facts |= detail["changed"]
        facts["version"] += 1

    def _touched(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        self.administrators[detail["administrator"]]["version"] += 1

    _AdministratorPasswordReset = _AdministratorPasswordChanged = _AdministratorActivated = _touched

    def _turned(self, _: None, __: dict[str, Any], row: chain.Entry) -> None:
        opened = row.event == "TenantOpened"
        assert self.tenant["open"] != opened
        self.tenant = {"open": opened, "version": self.tenant["version"] + 1}

    _TenantOpened = _TenantClosed = _turned

    def _ApprovalRequested(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        self.approvals[detail["approval"]] = None

    def _ApprovalDecided(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        assert self.approvals[detail["approval"]] is None
        self.approvals[detail["approval"]] = detail["decision"]

    def _SigningKeyRotated(self, _: None, detail: dict[str, Any], __: chain.Entry) -> None:
        self.keys.add(detail["kid"])


def everything(database: ServiceDatabase) -> dict[str, list[dict[str, str | None]]]:
    """Every row of every table, all columns as text; bytes in hexadecimal."""
    with database.begin() as connection:
        names = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars()
        found = {}
        for name in list(names):
            rows = connection.exec_driver_sql(f'SELECT to_jsonb(t)::text FROM "{name}" AS t').scalars()
            found[name] = [
                {key: None if value is None else str(value) for key, value in msgspec.json.decode(row).items()}
                for row in rows
            ]
        return found


def _rows(connection: Connection, table: Table, order: Any = None) -> list[Any]:
    return list(connection.execute(select(table).order_by(order) if order is not None else select(table)))
