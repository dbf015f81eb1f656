"""Acts that may need a second administrator, and what they do once they may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from auth_service import approvals, devices, people
from auth_service.api.doors import AdministratorDoor
from auth_service.approvals import Act, Approval
from passbook.audit.chain import Actor

REVOKE_MANY = "revoke_devices"
ERASE = "erase_person"


def _revoke_many(connection: Connection, by: Actor, arguments: dict[str, Any], reason: str) -> int:
    return devices.revoke_many(connection, by, arguments["devices"], reason=reason)


def _erase(connection: Connection, by: Actor, arguments: dict[str, Any], reason: str) -> tuple[str, str]:
    return people.begin_deletion(connection, by, arguments["person"], reason=reason)


ACTS: Mapping[str, Act] = {REVOKE_MANY: _revoke_many, ERASE: _erase}

#: The role that approving takes: that of doing.
NEEDED = {REVOKE_MANY: "support", ERASE: "owner"}


def ask_or_do(
    connection: Connection, door: AdministratorDoor, action: str, arguments: Mapping[str, Any], reason: str
) -> Any:
    """What the act gives; or an `Approval` that waits, where a second approver is wanted."""
    if door.service.settings.second_approver:
        return approvals.request(connection, door.by, action, arguments, reason)
    return ACTS[action](connection, door.by, dict(arguments), reason)


__all__ = ["ACTS", "ERASE", "NEEDED", "REVOKE_MANY", "Approval", "ask_or_do"]
