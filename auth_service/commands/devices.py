"""`passbook device …`."""

from __future__ import annotations

from typing import Annotated

import typer

from auth_service import devices, wiping
from auth_service.commands.session import Reason, at_keyboard, device_terms, transaction
from auth_service.secret import auth_secret
from passbook.output import Json, print_facts, print_json, print_table
from passbook.settings import Settings

app = typer.Typer(help="Devices and their replication credentials.", no_args_is_help=True)

Person = Annotated[str, typer.Option(help="User name or id.")]


@app.command()
def add(
    person: Person,
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    platform: Annotated[str, typer.Option(help="What it is: android, ios, web.")] = "",
    as_json: Json = False,
) -> None:
    """Make a replication credential. The password is shown once and kept nowhere."""
    settings = Settings.load()
    with transaction() as connection:
        credential = devices.add(
            connection, at_keyboard(), person, terms=device_terms(settings), name=name, platform=platform
        )
    if as_json:
        print_json(credential.as_json())
    else:
        print_facts(credential.as_json())


@app.command("list")
def list_(
    person: Annotated[str | None, typer.Option(help="Only this person's.")] = None, as_json: Json = False
) -> None:
    """Show the devices with access, and those that had it."""
    with transaction() as connection:
        found = devices.everywhere(connection) if person is None else devices.of_person(connection, person)
    if as_json:
        print_json([device.as_json() for device in found])
    else:
        print_table(
            ("username", "name", "platform", "state", "created", "last synchronised", "expires", "ends", "device"),
            [
                (
                    d.username,
                    d.name,
                    d.platform,
                    d.state,
                    d.created_at,
                    d.last_synchronised_at,
                    d.expires_at,
                    d.ends_at,
                    d.device,
                )
                for d in found
            ],
        )


@app.command()
def wipe(
    device: Annotated[str, typer.Argument(help="Device id.")], reason: Reason = "", as_json: Json = False
) -> None:
    """Refuse a device, and order it to throw its copy away when it next comes."""
    settings = Settings.load()
    with transaction() as connection:
        devices.revoke(connection, at_keyboard(), device, reason=reason)  # whatever comes of the order
    with transaction() as connection:
        ordered = wiping.order(
            connection,
            at_keyboard(),
            device,
            secret=auth_secret(settings),
            issuer=settings.auth_url,
            reason=reason,
        )
    if as_json:
        print_json(ordered.as_json())
    else:
        print_facts(ordered.as_json())


@app.command()
def revoke(
    device: Annotated[str, typer.Argument(help="Device id.")], reason: Reason = "", as_json: Json = False
) -> None:
    """Refuse a device from its next request on."""
    with transaction() as connection:
        devices.revoke(connection, at_keyboard(), device, reason=reason)
    if as_json:
        print_json({"device": device, "state": "revoked"})
    else:
        print(f"{device} is revoked.")
