"""Tables of the service database (PostgreSQL). Migrations create them; a test holds the two equal."""

from passbook.servicedb.tables.access import (
    activation,
    administrator,
    familiar_place,
    refresh_token,
    session,
    sign_in_counter,
    signing_key,
)
from passbook.servicedb.tables.base import metadata
from passbook.servicedb.tables.oversight import (
    administrator_act,
    approval,
    audit_event,
    audit_repeat,
    tenant,
    witnessed,
)
from passbook.servicedb.tables.people import (
    device,
    device_checkpoint,
    person,
    person_client,
    scope_change,
    wipe_order,
)
from passbook.servicedb.tables.projection import completeness, dead_letter, projected_document, whole_pass, written

__all__ = [
    "activation",
    "administrator",
    "administrator_act",
    "approval",
    "audit_event",
    "audit_repeat",
    "completeness",
    "dead_letter",
    "device",
    "device_checkpoint",
    "familiar_place",
    "metadata",
    "person",
    "person_client",
    "projected_document",
    "refresh_token",
    "scope_change",
    "session",
    "sign_in_counter",
    "signing_key",
    "tenant",
    "whole_pass",
    "wipe_order",
    "witnessed",
    "written",
]
