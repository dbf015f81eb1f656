"""The settings in force: what is declared in `passbook.declarations`, read from the environment and checked.

The tuple `DECLARATIONS` feeds `Settings.load`, `passbook config` and the page `docs/settings.md`. A setting
that is secret, or a URL with credentials in it, is masked wherever it is shown.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from passbook.addresses import (
    HIDDEN,
    can_be_misread,
    hide_credentials,
    is_in_clear,
    with_login,
    without_credentials,
)
from passbook.credentials import signing_key
from passbook.declarations import DECLARATIONS, PREFIX, SERVERS, Declaration
from passbook.errors import Refused
from passbook.origins import SETTING as ORIGINS
from passbook.origins import is_origin
from passbook.setting_text import IN_FILE, text_of

_SHORTEST_SECRET = 32
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Settings:
    """The settings in force. Attributes are those of `DECLARATIONS`, checked and converted.

    The addresses of the ledger, the service database and CouchDB hold the credentials that are given beside them.
    """

    ledger_url: str
    ledger_user: str
    ledger_password: str
    service_db_url: str
    service_db_user: str
    service_db_password: str
    service_db_roles: str
    service_db_gateway_password: str
    service_db_people_password: str
    service_db_administration_password: str
    service_db_worker_password: str
    couchdb_url: str
    couchdb_user: str
    couchdb_password: str
    couchdb_jwt_key: str
    public_url: str
    data_dir: Path
    gateway_host: str
    gateway_port: int
    gateway_grace_seconds: float
    gateway_admin_host: str
    gateway_admin_port: int
    gateway_device_requests: int
    gateway_device_waiting: int
    gateway_waiting_seconds: float
    gateway_device_feeds: int
    gateway_person_requests: int
    gateway_device_requests_per_minute: int
    gateway_device_bytes_per_minute: int
    gateway_device_checkpoints: int
    gateway_requests: int
    gateway_feeds: int
    gateway_connections: int
    gateway_idle_seconds: float
    gateway_request_seconds: float
    auth_host: str
    auth_port: int
    auth_connections: int
    auth_idle_seconds: float
    auth_request_seconds: float
    auth_url: str
    auth_secret: str
    access_token_seconds: int
    session_days: int
    session_longest_days: int
    administrator_session_hours: int
    refresh_grace_seconds: int
    refresh_lost_days: float
    trusted_proxies: str
    cors_origins: str
    metrics_token: str
    hash_at_once: int
    hash_waiting: int
    sign_in_address_burst: int
    sign_in_address_per_second: float
    sign_in_per_second: float
    second_approver: bool
    hourly_acts: str
    clients_alone: int
    administrator_dependent_days: int
    activation_minutes: int
    activation_command: str
    initial_password_days: int
    tenant_timezone: ZoneInfo
    institution_name: str
    institution_phone: str
    institution_languages: str
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
    worker_heartbeat: Path | None
    device_days: int
    device_longest_days: int
    devices_per_person: int
    log_level: str
    log_format: str

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ` (default: the process's).

        Raises `Refused`, naming the variable, for a value that does not fit or what looks like a misspelt setting.
        """
        environ = os.environ if environ is None else environ
        known = {declaration.variable for declaration in DECLARATIONS}
        for variable in unknown(environ):
            meant = difflib.get_close_matches(variable, known, n=1, cutoff=0.85)
            if meant:
                wrong = f"{variable} is not a setting of Passbook; {meant[0]} is."
                raise Refused(wrong, remedy="Left as it is, the setting you mean would silently have its default.")
        values = {
            declaration.name: _value(declaration, text_of(declaration, environ)) for declaration in DECLARATIONS
        }
        for server in SERVERS:
            url, user, password = (values[f"{server}_{part}"] for part in ("url", "user", "password"))
            values[f"{server}_url"] = _with_login(f"{PREFIX}{server.upper()}", url, user, password)
        values["public_url"] = values["public_url"] or f"http://127.0.0.1:{values['gateway_port']}"
        values["auth_url"] = (values["auth_url"] or f"http://127.0.0.1:{values['auth_port']}").rstrip("/")
        if values["image_dir"] is None and not values["ledger_url"]:
            values["image_dir"] = values["data_dir"] / "content"
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        if re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", self.service_db_roles) is None:
            raise Refused(
                f"PASSBOOK_SERVICE_DB_ROLES={self.service_db_roles!r} cannot begin the name of a role.",
                remedy="Write small letters, digits and _, for example passbook.",
            )
        _check_url("PASSBOOK_PUBLIC_URL", self.public_url, ("http", "https"))
        _check_url("PASSBOOK_AUTH_URL", self.auth_url, ("http", "https"))
        _check_tls("PASSBOOK_PUBLIC_URL", self.public_url)
        _check_tls("PASSBOOK_AUTH_URL", self.auth_url)
        if self.auth_secret and len(self.auth_secret) < _SHORTEST_SECRET:
            raise Refused(
                f"PASSBOOK_AUTH_SECRET has less than {_SHORTEST_SECRET} characters.",
                remedy="Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        for origin in self.browser_origins:
            if not is_origin(origin):
                raise Refused(
                    f"{ORIGINS} has {hide_credentials(origin)!r}, which is no origin.",
                    remedy="An origin is scheme, host and port, with nothing after, for example "
                    "capacitor://localhost or https://app.example.org",
                )
        for network in self.proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise Refused(
                    f"PASSBOOK_TRUSTED_PROXIES has {network!r}, which is no address or network.",
                    remedy="Write for example 10.0.0.7 or 10.0.0.0/24, with commas between.",
                ) from None
        if self.couchdb_jwt_key:
            try:
                signing_key(self.couchdb_jwt_key)
            except ValueError as error:
                raise Refused(
                    f"PASSBOOK_COUCHDB_JWT_KEY will not do: {error}.",
                    remedy="Make one with: python3 -c 'import base64, secrets; "
                    'print("passbook:" + base64.b64encode(secrets.token_bytes(32)).decode())\'',
                ) from None
        if self.couchdb_url and not urlsplit(self.couchdb_url).username and not self.couchdb_jwt_key:
            # With a key the gateway needs none. Whoever needs an administrator all the same says so then.
            raise Refused(
                "PASSBOOK_COUCHDB_URL has no credentials.",
                remedy="CouchDB needs an administrator: PASSBOOK_COUCHDB_USER and PASSBOOK_COUCHDB_PASSWORD, or "
                "http://user:password@host:5984.",
            )
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise Refused(f"PASSBOOK_LOG_LEVEL={self.log_level!r} is not debug, info, warning or error.")
        if self.log_format not in ("text", "json"):
            raise Refused(f"PASSBOOK_LOG_FORMAT={self.log_format!r} is neither text nor json.")

        for tag in self.languages:
            if not _LANGUAGE.fullmatch(tag):
                raise Refused(
                    f"PASSBOOK_INSTITUTION_LANGUAGES={self.institution_languages!r}: {tag!r} is no language tag.",
                    remedy="Give tags of BCP 47, separated by commas: sw,en-KE.",
                )

    @property
    def service_db_passwords(self) -> dict[str, str]:
        """By process, the password of its role; empty where none is given."""
        return {
            "gateway": self.service_db_gateway_password,
            "people": self.service_db_people_password,
            "administration": self.service_db_administration_password,
            "worker": self.service_db_worker_password,
        }

    @property
    def proxies(self) -> list[str]:
        """The trusted proxies, one by one."""
        return _listed(self.trusted_proxies)

    @property
    def browser_origins(self) -> list[str]:
        """The origins of browser and hybrid apps, one by one, as browsers write them: in small letters."""
        return _listed(self.cors_origins.lower())

    @property
    def languages(self) -> list[str]:
        """The institution's languages, one by one."""
        return _listed(self.institution_languages)

    def shown(self) -> list[tuple[Declaration, str]]:
        """Each declaration with its present value as text, secrets masked."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return [(declaration, _shown(declaration, values[declaration.name])) for declaration in DECLARATIONS]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def unknown(environ: Mapping[str, str]) -> list[str]:
    """The `PASSBOOK_` variables that are no settings (those of the tests aside)."""
    known = {declaration.variable for declaration in DECLARATIONS}
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX)
        and name not in known
        and name.removesuffix(IN_FILE) not in known
        and "_TEST_" not in name
    )


_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

_SCHEMES = {
    "PASSBOOK_LEDGER": ("postgresql", "postgres", "mysql", "mariadb"),
    "PASSBOOK_SERVICE_DB": ("postgresql", "postgres"),
    "PASSBOOK_COUCHDB": ("http", "https"),
}


def _with_login(server: str, url: str, user: str, password: str) -> str:
    """The address of a server with the credentials that are given beside it. Raises `Refused` for a bad one."""
    name = f"{server}_URL"
    _check_url(
        name,
        url,
        _SCHEMES[server],
        remedy=f" Or give them apart, as they are: {server}_USER and {server}_PASSWORD.",
    )
    if not user and not password:
        return url
    given = f"{server}_USER" if user else f"{server}_PASSWORD"
    if not url:
        raise Refused(
            f"{given} is set, and {name} is not.", remedy="Without the address the embedded server would be used."
        )
    parts = urlsplit(url)
    for part, beside, there in (("user name", user, parts.username), ("password", password, parts.password)):
        if beside and there:
            raise Refused(
                f"{name} holds a {part}, and {server}_{part.split()[0].upper()} is set as well.",
                remedy="Leave one of them out.",
            )
    if not user and not parts.username:
        raise Refused(f"{server}_PASSWORD is set, and no user name.", remedy=f"Set {server}_USER.")
    if server == "PASSBOOK_COUCHDB" and ":" in user:
        raise Refused("PASSBOOK_COUCHDB_USER has a colon in it, which HTTP does not allow.")
    return with_login(url, user, password)


def _value(declaration: Declaration, text: str) -> Any:
    if text == "":
        return declaration.default
    try:
        if declaration.kind is Path:
            return Path(text).expanduser()
        if declaration.kind is ZoneInfo:
            return ZoneInfo(text)
        value = _BOOLEANS[text.lower()] if declaration.kind is bool else declaration.kind(text)
    except (ValueError, KeyError, ZoneInfoNotFoundError, OSError):
        expected = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            ZoneInfo: "an IANA time zone",
        }
        raise Refused(
            f"{declaration.variable}={text!r} is not {expected.get(declaration.kind, 'valid')}.",
            remedy=declaration.help,
        ) from None
    if declaration.minimum is not None and not value >= declaration.minimum:
        raise Refused(f"{declaration.variable}={text!r} is below {declaration.minimum:g}.", remedy=declaration.help)
    return value


def _check_url(variable: str, url: str, schemes: tuple[str, ...], *, remedy: str = "") -> None:
    if not url:
        return
    if can_be_misread(url):
        raise Refused(
            f"{variable} has a character in its user name or password that an address cannot hold.",
            remedy="Write it percent-encoded: %40 for @, %2F for /, %3F for ?, %23 for #, %20 for a space."
            + remedy,
        )
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


def _check_tls(variable: str, url: str) -> None:
    if is_in_clear(url):
        raise Refused(
            f"{variable} begins with http://: whoever is on the way could read and change what phones send.",
            remedy="Write https://, with a TLS proxy in front. Without TLS it may name this machine alone: "
            "localhost, 127.0.0.1 or [::1], which a phone on a cable reaches by `adb reverse`.",
        )


def _shown(declaration: Declaration, value: Any) -> str:
    if value is None or value == "":
        return ""
    if declaration.secret and not declaration.name.endswith("_url"):
        return HIDDEN
    if declaration.secret:
        shown = without_credentials(str(value))
        return shown.replace("://", f"://{HIDDEN}@", 1) if "@" in str(value) else shown
    return str(value)
