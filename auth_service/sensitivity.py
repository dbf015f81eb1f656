"""What administrators do, by how much harm it can do: one table.

Each act has the role it takes, how many an administrator may do in an hour alone, and when a second administrator
must agree. `bounds` counts, `independence` says who is a second one. Everything that an administrator changes over
HTTP is here; what only looks is not. The operator at the command line is neither counted nor approved by anybody:
whoever has the machine has the database. The audit log tells what they did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from passbook.errors import Refused


class Approver(StrEnum):
    """When a second administrator must agree, where `PASSBOOK_SECOND_APPROVER` is on."""

    NEVER = "never"
    HOURLY = "over the hourly number"
    CLIENTS = "over the hourly number, or too many clients"
    ALWAYS = "always"


@dataclass(frozen=True)
class Act:
    """One kind of act. `name` is its name in approvals and in the audit log."""

    name: str
    #: What is done, as it is said in the documents and in refusals.
    does: str
    role: str
    #: How many an administrator may do in an hour alone; None for any number.
    hourly: int | None
    approver: Approver
    #: The act with which it is counted together, where it is not counted alone.
    counted_as: str = ""

    @property
    def pool(self) -> str:
        """Under which name it is counted."""
        return self.counted_as or self.name


CREATE_PERSON = "create_person"
LINK_CLIENTS = "link_clients"
RESET_PASSWORD = "reset_password"  # noqa: S105 - the name of an act
RESTORE_PERSON = "restore_person"
CHANGE_PERSON = "change_person"
UNLINK_CLIENT = "unlink_client"
PERMIT = "permit"
SUSPEND_PERSON = "suspend_person"
SIGN_OUT_PERSON = "sign_out_person"
REVOKE_DEVICE = "revoke_device"
REVOKE_DEVICES = "revoke_devices"
WIPE_DEVICE = "wipe_device"
ERASE_PERSON = "erase_person"
ADD_ADMINISTRATOR = "add_administrator"
RESET_ADMINISTRATOR = "reset_administrator"
CHANGE_ROLE = "change_role"
RESTORE_ADMINISTRATOR = "restore_administrator"
SUSPEND_ADMINISTRATOR = "suspend_administrator"
SWITCH_ACCESS = "switch_access"

#: The name under which the clients are counted that somebody opens to people.
CLIENTS = "clients"

_ACTS = (
    Act(ADD_ADMINISTRATOR, "create an administrator", "owner", 5, Approver.ALWAYS),
    Act(RESET_ADMINISTRATOR, "reset an administrator's password", "owner", 5, Approver.ALWAYS),
    Act(CHANGE_ROLE, "change an administrator's role", "owner", 5, Approver.ALWAYS),
    Act(RESTORE_ADMINISTRATOR, "let a suspended administrator in again", "owner", 5, Approver.ALWAYS),
    Act(SUSPEND_ADMINISTRATOR, "suspend an administrator", "owner", 3, Approver.HOURLY),
    Act(ERASE_PERSON, "erase a person", "owner", 10, Approver.ALWAYS),
    Act(REVOKE_DEVICES, "revoke many devices at once", "support", 300, Approver.ALWAYS, REVOKE_DEVICE),
    Act(WIPE_DEVICE, "wipe a device", "support", 10, Approver.HOURLY),
    Act(RESET_PASSWORD, "reset a password", "manager", 20, Approver.CLIENTS),
    Act(LINK_CLIENTS, "link clients", "manager", 200, Approver.CLIENTS),
    Act(CREATE_PERSON, "create a person", "manager", 200, Approver.CLIENTS),
    Act(RESTORE_PERSON, "restore a person", "manager", 60, Approver.HOURLY),
    Act(PERMIT, "permit", "manager", 200, Approver.HOURLY),
    Act(CHANGE_PERSON, "change a person", "manager", 200, Approver.HOURLY),
    Act(UNLINK_CLIENT, "unlink a client", "manager", 200, Approver.HOURLY),
    Act(SUSPEND_PERSON, "suspend a person", "support", 300, Approver.HOURLY),
    Act(SIGN_OUT_PERSON, "sign a person out", "support", 300, Approver.HOURLY),
    Act(REVOKE_DEVICE, "revoke a device", "support", 300, Approver.HOURLY),
    Act(SWITCH_ACCESS, "switch everybody's access off or on", "owner", None, Approver.NEVER),
)

#: Every act, the heaviest first.
TABLE: Mapping[str, Act] = {act.name: act for act in _ACTS}


def hourly(overrides: str) -> dict[str, int | None]:
    """The hourly numbers by act, with those of `PASSBOOK_HOURLY_ACTS` (`wipe_device=30, …`) instead of the table's.

    Raises `Refused` for an act that is not in the table, or that has no number, and for what is no number.
    """
    numbers = {act.name: act.hourly for act in _ACTS}
    for part in filter(None, (one.strip() for one in overrides.split(","))):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if numbers.get(name) is None or not (number.isascii() and number.isdigit() and int(number) > 0):
            bounded = ", ".join(name for name, bound in numbers.items() if bound is not None)
            raise Refused(
                f"PASSBOOK_HOURLY_ACTS has {part!r}, which is not ACT=NUMBER with a number from 1 on.",
                remedy=f"The acts are: {bounded}.",
            )
        numbers[name] = int(number)
    return numbers
