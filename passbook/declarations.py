"""Every setting, declared once: environment variable, type, default, meaning, whether it is secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

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
    #: Whether blanks at its ends belong to it, as they do to a password.
    verbatim: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


#: The servers whose credentials can stand beside their address: `PASSBOOK_LEDGER_USER` and so on.
SERVERS = ("ledger", "service_db", "couchdb")


def _login(server: str, what: str) -> tuple[Declaration, Declaration]:
    url = f"{PREFIX}{server.upper()}_URL"
    return (
        Declaration(f"{server}_user", str, "", f"User name for {what}, as it is; {url} then has none."),
        Declaration(
            f"{server}_password",
            str,
            "",
            f"Password for {what}, as it is, whatever characters it has; {url} then has none.",
            secret=True,
            verbatim=True,
        ),
    )


DECLARATIONS = (
    Declaration(
        "ledger_url",
        str,
        "",
        "Core ledger (Fineract tenant database), read only: postgresql:// or mysql://. "
        "Unset: the embedded sample ledger.",
        secret=True,
    ),
    *_login("ledger", "the ledger"),
    Declaration(
        "service_db_url",
        str,
        "",
        "Service database (PostgreSQL): people, devices, projection state. Unset: the embedded PostgreSQL.",
        secret=True,
    ),
    *_login("service_db", "the service database"),
    Declaration(
        "service_db_roles",
        str,
        "passbook",
        "How the names of the PostgreSQL roles begin that `passbook init --roles` makes: passbook_gateway, "
        "passbook_people, passbook_administration, passbook_worker.",
    ),
    *(
        Declaration(
            f"service_db_{process}_password",
            str,
            "",
            f"Password that `passbook init --roles` gives to {whose}. Unset: a new role gets one made at random, "
            "which is shown once.",
            secret=True,
            verbatim=True,
        )
        for process, whose in (
            ("gateway", "the gateway's role"),
            ("people", "the role of `passbook auth --only people`"),
            ("administration", "the role of `passbook auth --only administration`"),
            ("worker", "the worker's role"),
        )
    ),
    Declaration(
        "couchdb_url",
        str,
        "",
        "CouchDB with the credentials of a server administrator: http://user:password@host:5984. "
        "Unset: the embedded CouchDB-speaking server.",
        secret=True,
    ),
    *_login("couchdb", "CouchDB"),
    Declaration(
        "couchdb_jwt_key",
        str,
        "",
        "Key with which the gateway signs tokens for CouchDB, NAME:BASE64 of 32 bytes or more; CouchDB has it as "
        "`[jwt_keys] hmac:NAME`. With it the gateway needs no credentials in PASSBOOK_COUCHDB_URL. "
        "Unset: one that `passbook init` puts into CouchDB's configuration.",
        secret=True,
    ),
    Declaration(
        "public_url",
        str,
        "",
        "Address at which devices reach the gateway; goes into every replication credential. It begins with "
        "https://; http:// is for this machine alone. Unset: the gateway's port on this machine.",
    ),
    Declaration(
        "data_dir",
        Path,
        Path(".passbook"),
        "Where everything embedded keeps its data, sockets and logs. It belongs to the user who runs Passbook, and "
        "is closed to others.",
    ),
    Declaration("gateway_host", str, "127.0.0.1", "Address on which `passbook gateway` listens."),
    Declaration("gateway_port", int, 8710, "Port on which `passbook gateway` listens.", minimum=0),
    Declaration(
        "gateway_grace_seconds",
        float,
        300.0,
        "How long the gateway takes devices that were good for good while it cannot ask the service database.",
        minimum=0,
    ),
    Declaration(
        "gateway_admin_host", str, "127.0.0.1", "Address on which the gateway's metrics and health are served."
    ),
    Declaration(
        "gateway_admin_port", int, 8711, "Port of the gateway's metrics and health; 0: none of them.", minimum=0
    ),
    Declaration(
        "gateway_device_requests",
        int,
        20,
        "Most requests of one device answered at the same time, live feeds included; more wait their turn.",
        minimum=1,
    ),
    Declaration(
        "gateway_device_waiting",
        int,
        1_200,
        "Most requests of one device that wait their turn: all pictures of a batch of 1,000; more get 429.",
        minimum=0,
    ),
    Declaration(
        "gateway_waiting_seconds",
        float,
        240.0,
        "How long a request waits for its turn before it gets 429.",
        minimum=1,
    ),
    Declaration("gateway_device_feeds", int, 6, "Most live feeds of one device.", minimum=1),
    Declaration(
        "gateway_person_requests",
        int,
        60,
        "Most requests of all devices of one person at the same time; half of them may be live feeds; more wait.",
        minimum=1,
    ),
    Declaration(
        "gateway_device_requests_per_minute",
        int,
        6_000,
        "Requests of one device per minute, or at once after a quiet one; a person's devices have three times it.",
        minimum=1,
    ),
    Declaration(
        "gateway_device_bytes_per_minute",
        int,
        500_000_000,
        "Bytes from and to one device per minute, counted likewise.",
        minimum=1_000_000,
    ),
    Declaration(
        "gateway_device_checkpoints",
        int,
        20,
        "Most replication checkpoints (`_local` documents) of one device; its oldest are forgotten.",
        minimum=1,
    ),
    Declaration(
        "gateway_requests",
        int,
        2_000,
        "Most requests that one gateway answers at the same time, live feeds aside; more get 503.",
        minimum=1,
    ),
    Declaration("gateway_feeds", int, 20_000, "Most live feeds of one gateway.", minimum=1),
    Declaration(
        "gateway_connections",
        int,
        25_000,
        "Most connections to one gateway; with nine tenths of them there are no new live feeds, and when all are "
        "in use, one that asks for nothing makes room.",
        minimum=1,
    ),
    Declaration(
        "gateway_idle_seconds",
        float,
        75.0,
        "A connection that asks for nothing for so long is closed; longer than the proxy in front keeps it.",
        minimum=1,
    ),
    Declaration(
        "gateway_request_seconds",
        float,
        20.0,
        "A connection whose request has begun, and its headers have not come within so long, is closed.",
        minimum=1,
    ),
    Declaration("auth_host", str, "127.0.0.1", "Address on which `passbook auth` listens."),
    Declaration("auth_port", int, 8720, "Port on which `passbook auth` listens.", minimum=0),
    Declaration(
        "auth_connections",
        int,
        5_000,
        "Most connections to one auth service; when all are in use, one that asks for nothing makes room.",
        minimum=1,
    ),
    Declaration(
        "auth_idle_seconds",
        float,
        75.0,
        "A connection that asks for nothing for so long is closed; longer than the proxy in front keeps it.",
        minimum=1,
    ),
    Declaration(
        "auth_request_seconds",
        float,
        20.0,
        "A connection whose request has begun, and has not come in full within so long, is closed.",
        minimum=1,
    ),
    Declaration(
        "auth_url",
        str,
        "",
        "Address at which apps and administrators reach the auth service; the issuer in its tokens. It begins with "
        "https://; http:// is for this machine alone. Unset: the auth service's port on this machine.",
    ),
    Declaration(
        "auth_secret",
        str,
        "",
        "Seals the keys that sign access tokens; 32 characters or more, the same for every auth process. "
        "Unset: one made at random and kept in the data directory.",
        secret=True,
    ),
    Declaration("access_token_seconds", int, 600, "How long an access token is good for.", minimum=30),
    Declaration("session_days", int, 30, "A session that is not refreshed for so many days ends.", minimum=1),
    Declaration(
        "session_longest_days",
        int,
        365,
        "A session ends after so many days however often it is refreshed.",
        minimum=1,
    ),
    Declaration(
        "administrator_session_hours",
        int,
        12,
        "An administrator's session ends after so many hours, used or not.",
        minimum=1,
    ),
    Declaration(
        "refresh_grace_seconds",
        int,
        30,
        "A refresh token that comes again within this time is a repeated request, not a stolen token, unless the "
        "one given for it was exchanged. 0: none is taken twice, whatever the next setting says.",
        minimum=0,
    ),
    Declaration(
        "refresh_lost_days",
        float,
        7.0,
        "So many days a person's refresh token may come again whose answer got lost: as long as nothing of that "
        "answer was used.",
        minimum=0,
    ),
    Declaration(
        "trusted_proxies",
        str,
        "",
        "Addresses or networks, with commas between, of the proxies in front of the auth service: their "
        "X-Forwarded-For is believed. Unset: nobody's.",
    ),
    Declaration(
        "cors_origins",
        str,
        "",
        "Origins, with commas between, of the browser and hybrid apps that may call gateway and auth service: "
        "capacitor://localhost, https://app.example.org.",
    ),
    Declaration(
        "metrics_token",
        str,
        "",
        "Whoever asks for metrics, of the auth service or the gateway, must send this as a bearer token. "
        "Unset: none of the auth service's, and the gateway's for this machine alone.",
        secret=True,
    ),
    Declaration(
        "hash_at_once", int, 0, "Passwords hashed at the same time by a process; 0: one per processor.", minimum=0
    ),
    Declaration(
        "hash_waiting", int, 50, "Most strangers in line for that; as many again who are known there.", minimum=0
    ),
    Declaration(
        "sign_in_address_burst", int, 100, "Attempts at once by strangers of one prefix (/24, /48).", minimum=1
    ),
    Declaration(
        "sign_in_address_per_second", float, 5.0, "Attempts a second after those, by the same.", minimum=0.01
    ),
    Declaration(
        "sign_in_per_second", float, 100.0, "Attempts a second by all strangers; twice that at once.", minimum=0.1
    ),
    Declaration(
        "second_approver",
        bool,
        False,
        "Whether sensitive acts of administrators over HTTP wait for a second administrator's approval, and acts "
        "over the hourly numbers too. The table of acts is in the page for administrators.",
    ),
    Declaration(
        "hourly_acts",
        str,
        "",
        "Other hourly numbers of acts than the table has: ACT=NUMBER with commas between, as `wipe_device=30`.",
    ),
    Declaration(
        "clients_alone",
        int,
        200,
        "The most clients that one administrator opens alone: to one person, and to all in an hour.",
        minimum=1,
    ),
    Declaration(
        "administrator_dependent_days",
        int,
        14,
        "For so many days an administrator is not independent of whoever made them, reset their password or gave "
        "them a role: neither approves for the other, and their acts are counted together.",
        minimum=0,
    ),
    Declaration(
        "activation_minutes",
        int,
        1_440,
        "How long an activation code is good, with which somebody chooses a password.",
        minimum=1,
    ),
    Declaration(
        "activation_command",
        str,
        "",
        "Program that takes activation codes to their owners; each comes as JSON on its standard input. With it "
        "nobody who orders a code or a password over HTTP is shown one. Unset: the code is in the answer, to be "
        "handed over.",
    ),
    Declaration(
        "initial_password_days",
        int,
        30,
        "An initial password that was not changed for so many days is refused at sign-in.",
        minimum=1,
    ),
    Declaration(
        "tenant_timezone",
        ZoneInfo,
        ZoneInfo("UTC"),
        "Time zone of the institution (IANA name): decides which day it is, for a rolling history window and for "
        "apps.",
    ),
    Declaration("institution_name", str, "", "What the institution calls itself: apps show it."),
    Declaration("institution_phone", str, "", "Where its people call: apps show it."),
    Declaration(
        "institution_languages",
        str,
        "",
        "Its languages, the preferred first: language tags (BCP 47) separated by commas, for instance sw,en.",
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
    Declaration(
        "worker_interval_seconds",
        float,
        5.0,
        "From the beginning of one pass of `worker run` to that of the next; one that takes longer delays it.",
        minimum=0.1,
    ),
    Declaration(
        "worker_heartbeat",
        Path,
        None,
        "File that `worker run` touches every five seconds while it lives, for a health check. Unset: none.",
    ),
    Declaration(
        "device_days",
        int,
        90,
        "Days after which a replication credential expires, counted from the device's last synchronisation.",
        minimum=1,
    ),
    Declaration(
        "device_longest_days",
        int,
        365,
        "Days after which a replication credential expires, counted from its registration, used or not.",
        minimum=1,
    ),
    Declaration("devices_per_person", int, 10, "Most active devices of one person.", minimum=1),
    Declaration("log_level", str, "warning", "debug, info, warning or error."),
    Declaration("log_format", str, "text", "text or json."),
)
