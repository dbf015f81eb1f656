"""Every setting, declared once: environment variable, type, default, meaning, whether it is secret.

The tuple `DECLARATIONS` feeds `Settings.load`, `passbook config` and the page `docs/settings.md`. A setting
that is secret, or a URL with credentials in it, is masked wherever it is shown.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from passbook.errors import Refused

PREFIX = "PASSBOOK_"


@dataclass(frozen=True)
class Declaration:
    """One setting: `name` is the attribute of `Settings`, the variable is `PASSBOOK_` + its capitals."""

    name: str
    kind: type
    default: Any
    help: str
    secret: bool = False
    minimum: float | None = None

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


DECLARATIONS = (
    Declaration(
        "ledger_url",
        str,
        "",
        "Core ledger (Fineract tenant database), read only: postgresql:// or mysql://. "
        "Unset: the embedded sample ledger.",
        secret=True,
    ),
    Declaration(
        "service_db_url",
        str,
        "",
        "Service database (PostgreSQL): people, devices, projection state. Unset: the embedded PostgreSQL.",
        secret=True,
    ),
    Declaration(
        "couchdb_url",
        str,
        "",
        "CouchDB with the credentials of a server administrator: http://user:password@host:5984. "
        "Unset: the embedded CouchDB-speaking server.",
        secret=True,
    ),
    Declaration(
        "public_url",
        str,
        "",
        "Address at which devices reach the gateway; goes into every replication credential. "
        "Unset: the gateway's port on this machine.",
    ),
    Declaration("data_dir", Path, Path(".passbook"), "Where everything embedded keeps its data, sockets and logs."),
    Declaration("gateway_host", str, "127.0.0.1", "Address on which `passbook gateway` listens."),
    Declaration("gateway_port", int, 8710, "Port on which `passbook gateway` listens.", minimum=0),
    Declaration(
        "tenant_timezone",
        ZoneInfo,
        ZoneInfo("UTC"),
        "Time zone of the institution (IANA name): decides which day it is for a rolling history window.",
    ),
    Declaration(
        "image_dir",
        Path,
        None,
        "Fineract's content folder, mounted read-only, with the clients' pictures. "
        "Unset: no pictures; with the embedded ledger, its own.",
    ),
    Declaration("image_max_bytes", int, 262_144, "Largest picture sent to devices, bytes.", minimum=1),
    Declaration(
        "ledger_batch", int, 200, "Clients read in one snapshot and a constant number of queries.", minimum=1
    ),
    Declaration(
        "ledger_clients_per_second",
        float,
        1000.0,
        "Upper bound on the clients read from the ledger per second; 0 means no bound.",
        minimum=0,
    ),
    Declaration(
        "ledger_statement_seconds", float, 30.0, "A ledger query that takes longer is ended.", minimum=0.001
    ),
    Declaration("connect_seconds", float, 5.0, "How long to try to reach a server.", minimum=0.1),
    Declaration("couchdb_connections", int, 16, "Concurrent requests of one worker to CouchDB.", minimum=1),
    Declaration("couchdb_bulk_documents", int, 200, "Most documents in one write to CouchDB.", minimum=1),
    Declaration("couchdb_bulk_bytes", int, 1_000_000, "Most bytes in one write to CouchDB, about.", minimum=1000),
    Declaration("worker_interval_seconds", float, 5.0, "Pause between two passes of `worker run`.", minimum=0.1),
    Declaration("device_days", int, 90, "Days after which a new replication credential expires.", minimum=1),
    Declaration("devices_per_person", int, 10, "Most active devices of one person.", minimum=1),
    Declaration("log_level", str, "warning", "debug, info, warning or error."),
    Declaration("log_format", str, "text", "text or json."),
)


@dataclass(frozen=True)
class Settings:
    """The settings in force. Attributes are those of `DECLARATIONS`, checked and converted."""

    ledger_url: str
    service_db_url: str
    couchdb_url: str
    public_url: str
    data_dir: Path
    gateway_host: str
    gateway_port: int
    tenant_timezone: ZoneInfo
    image_dir: Path | None
    image_max_bytes: int
    ledger_batch: int
    ledger_clients_per_second: float
    ledger_statement_seconds: float
    connect_seconds: float
    couchdb_connections: int
    couchdb_bulk_documents: int
    couchdb_bulk_bytes: int
    worker_interval_seconds: float
    device_days: int
    devices_per_person: int
    log_level: str
    log_format: str

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ` (default: the process's).

        Raises `Refused`, naming the variable, for a value that does not fit, and for what looks like a
        misspelt setting.
        """
        environ = os.environ if environ is None else environ
        known = {declaration.variable for declaration in DECLARATIONS}
        for variable in unknown(environ):
            meant = difflib.get_close_matches(variable, known, n=1, cutoff=0.85)
            if meant:
                raise Refused(
                    f"{variable} is not a setting of Passbook; {meant[0]} is.",
                    remedy="Left as it is, the setting you mean would silently have its default.",
                )
        values = {
            declaration.name: _value(declaration, environ.get(declaration.variable, "").strip())
            for declaration in DECLARATIONS
        }
        values["public_url"] = values["public_url"] or f"http://127.0.0.1:{values['gateway_port']}"
        if values["image_dir"] is None and not values["ledger_url"]:
            values["image_dir"] = values["data_dir"] / "content"
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        _check_url("PASSBOOK_LEDGER_URL", self.ledger_url, ("postgresql", "postgres", "mysql", "mariadb"))
        _check_url("PASSBOOK_SERVICE_DB_URL", self.service_db_url, ("postgresql", "postgres"))
        _check_url("PASSBOOK_COUCHDB_URL", self.couchdb_url, ("http", "https"))
        _check_url("PASSBOOK_PUBLIC_URL", self.public_url, ("http", "https"))
        if self.couchdb_url and not urlsplit(self.couchdb_url).username:
            raise Refused(
                "PASSBOOK_COUCHDB_URL has no credentials.",
                remedy="Write it as http://user:password@host:5984: CouchDB needs an administrator.",
            )
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise Refused(f"PASSBOOK_LOG_LEVEL={self.log_level!r} is not debug, info, warning or error.")
        if self.log_format not in ("text", "json"):
            raise Refused(f"PASSBOOK_LOG_FORMAT={self.log_format!r} is neither text nor json.")

    def shown(self) -> list[tuple[Declaration, str]]:
        """Each declaration with its present value as text, secrets masked."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return [(declaration, _shown(declaration, values[declaration.name])) for declaration in DECLARATIONS]


def unknown(environ: Mapping[str, str]) -> list[str]:
    """The `PASSBOOK_` variables that are no settings (those of the tests aside)."""
    known = {declaration.variable for declaration in DECLARATIONS}
    return sorted(
        name for name in environ if name.startswith(PREFIX) and name not in known and "_TEST_" not in name
    )


def without_credentials(url: str) -> str:
    """`url` without user name and password, fit for messages and logs."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    netloc = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def _value(declaration: Declaration, text: str) -> Any:
    if text == "":
        return declaration.default
    try:
        if declaration.kind is Path:
            return Path(text).expanduser()
        if declaration.kind is ZoneInfo:
            return ZoneInfo(text)
        value = declaration.kind(text)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        expected = {int: "a whole number", float: "a number", ZoneInfo: "an IANA time zone"}
        raise Refused(
            f"{declaration.variable}={text!r} is not {expected.get(declaration.kind, 'valid')}.",
            remedy=declaration.help,
        ) from None
    if declaration.minimum is not None and not value >= declaration.minimum:
        raise Refused(f"{declaration.variable}={text!r} is below {declaration.minimum:g}.", remedy=declaration.help)
    return value


def _check_url(variable: str, url: str, schemes: tuple[str, ...]) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        _ = parts.port
        good = parts.scheme.split("+")[0] in schemes and (parts.hostname or "host=" in parts.query)
    except ValueError:
        good = False
    if not good:
        raise Refused(
            f"{variable} is not an address Passbook can use.",
            remedy=f"It begins with {' or '.join(scheme + '://' for scheme in schemes)} and names a host.",
        )


def _shown(declaration: Declaration, value: Any) -> str:
    if value is None or value == "":
        return ""
    if declaration.secret:
        shown = without_credentials(str(value))
        return shown.replace("://", "://***@", 1) if urlsplit(str(value)).username else shown
    return str(value)
