"""The command line. The pieces bring their commands as entry points (`passbook.commands`); this imports none."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer

from passbook import __version__, log
from passbook.addresses import hide_credentials
from passbook.context import opened
from passbook.errors import PassbookError
from passbook.findings import Finding, print_findings
from passbook.output import Json, print_facts, print_json, print_table
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings, unknown

GROUP = "passbook.commands"
#: What pieces bring for `passbook init`: functions of the settings, the service database and the options.
PREPARATIONS = "passbook.preparations"
EXIT_INTERRUPTED = 130
EXIT_BUG = 70

app = typer.Typer(
    name="passbook",
    help="Offline-first sync for microfinance: every customer and agent carries an exact, revocable copy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"passbook {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    settings = Settings.load()
    log.configure(settings.log_level, settings.log_format)
    for variable in unknown(os.environ):
        print(f"passbook: {variable} is not a setting of Passbook and is ignored.", file=sys.stderr)


@app.command()
def config(as_json: Json = False) -> None:
    """List every setting: its value (secrets masked) and what it means."""
    shown = Settings.load().shown()
    if as_json:
        print_json(
            [
                {
                    "variable": declaration.variable,
                    "value": value,
                    "default": "" if declaration.default is None else str(declaration.default),
                    "secret": declaration.secret,
                    "help": declaration.help,
                }
                for declaration, value in shown
            ]
        )
        return
    print_table(
        ("variable", "value", "meaning"),
        [(declaration.variable, value, declaration.help) for declaration, value in shown],
    )


@app.command()
def init(
    administrator: Annotated[
        str, typer.Option(help="User name of the first administrator, made if there is none yet.")
    ] = "admin",
    grant_to: Annotated[
        str,
        typer.Option(
            help="Give this PostgreSQL role what running Passbook takes; the audit log it can only add to."
        ),
    ] = "",
    roles: Annotated[
        bool,
        typer.Option(
            "--roles", help="Make a PostgreSQL role for each process, with the rights it needs and no others."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Prepare everything: migrate the service database, configure CouchDB, first administrator. Can be repeated.

    Then it looks at CouchDB's configuration and the ledger: a line each, `ok`, or `warning` with what to do. The
    exit status is 0 with warnings too: a ledger may come later.
    """
    from passbook.preparation import compare, prepare  # pulls in aiohttp, which the other commands here do not need

    settings = Settings.load()
    with opened(settings, servicedb=True, couchdb=True) as outside:
        database = ServiceDatabase(outside.service_url, connect_seconds=settings.connect_seconds)
        try:
            done = prepare(
                database,
                outside.couchdb_url,
                connect_seconds=settings.connect_seconds,
                couchdb_jwt_key=settings.couchdb_jwt_key,
                worker_connections=settings.couchdb_connections,
            )
            findings: list[Finding] = done.pop("findings")
            for point in sorted(entry_points(group=PREPARATIONS), key=lambda point: point.name):
                brought = point.load()(settings, database, administrator=administrator)
                findings += brought.pop("findings", ())
                done |= brought
            # Once more: it now has the first rows of the audit log.
            compare(database, outside.couchdb_url, connect_seconds=settings.connect_seconds)
            if grant_to:
                done["granted_to"] = database.grant_to(grant_to)
            if roles:
                made = database.make_roles(settings.service_db_roles, settings.service_db_passwords)
                done |= {f"{process}_connects_as": address for process, address in made.items()}
            else:
                # An upgrade may want more or less of them.
                database.refresh_roles(settings.service_db_roles)
        finally:
            database.dispose()
    if as_json:
        print_json(done | {"findings": [one.as_json() for one in findings]})
    else:
        print_facts(_for_people(done))
        print_findings(findings)


def _for_people(done: dict[str, Any]) -> dict[str, Any]:
    """What `init` did, with the first administrator in words."""
    made = done["administrator"]
    if not isinstance(made, dict):
        return done
    told = {
        "administrator": f"{made['username']} ({made['role']})",
        "initial_password": made["initial_password"],
        "note": "The password is shown this once; it must be changed at the first sign-in.",
    }
    return {name: value for name, value in done.items() if name != "administrator"} | told


def load_commands(only: str | None = None) -> None:
    """Add the pieces' commands to `app`; with `only`, just that one, which starts faster."""
    points: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=GROUP)}
    wanted = [points[only]] if only in points else [points[name] for name in sorted(points)]
    present = {group.name for group in app.registered_groups}
    for point in wanted:
        if point.name not in present:
            app.add_typer(point.load(), name=point.name)


def main() -> None:
    """Run a command and exit: 0 done, 1 the check failed, 2 used wrongly, 3 something outside is unavailable."""
    first = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    own = {command.callback.__name__ for command in app.registered_commands if command.callback}
    if first not in own:
        load_commands(first)
    try:
        app(prog_name="passbook")
    except PassbookError as error:
        print(f"passbook: {hide_credentials(error.message)}", file=sys.stderr)
        if error.remedy:
            print(f"          {hide_credentials(error.remedy)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`passbook … | head`): not our fault, nothing to say.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        print(f"passbook: this is a defect of Passbook: {type(error).__name__}.", file=sys.stderr)
        print("          Nothing was lost; the same command can be repeated. Details:", file=sys.stderr)
        for line in traceback.format_exception_only(error)[:1]:
            print(f"          {hide_credentials(line.strip().splitlines()[0])[:300]}", file=sys.stderr)
        if _level() == "debug":
            traceback.print_exc()
        sys.exit(EXIT_BUG)


def _level() -> str:
    try:
        return Settings.load().log_level
    except PassbookError:
        return ""
