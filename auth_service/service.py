"""The service's parts, put together once for each process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal

from auth_service import sessions
from auth_service.activation import Activations
from auth_service.bounds import Bounds
from auth_service.devices import Terms
from auth_service.flow import Flow
from auth_service.hashing import Hashing
from auth_service.keys import Keyring
from auth_service.limits import FAMILIAR_BURST, FAMILIAR_RATE, Limits
from auth_service.marks import Marks
from auth_service.metrics import Metrics
from auth_service.signin import SignIn
from auth_service.tokens import Tokens
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings

Part = Literal["people", "administration"]


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    settings: Settings
    parts: frozenset[Part]
    database: ServiceDatabase
    keyring: Keyring
    tokens: Tokens
    hashing: Hashing
    limits: Limits
    marks: Marks
    #: Those who come with tokens that are none, by place; and what one session may ask for.
    strangers: Flow
    families: Flow
    metrics: Metrics
    sign_in: SignIn
    activations: Activations
    #: What one administrator does alone.
    bounds: Bounds
    #: Opens the sealed keys.
    secret: str = field(repr=False)
    #: Where CouchDB is, to erase people; empty where the process is not to reach it: the worker erases then.
    couchdb_url: str

    @classmethod
    def build(
        cls,
        settings: Settings,
        database: ServiceDatabase,
        *,
        secret: str,
        parts: Collection[Part] = ("people", "administration"),
        couchdb_url: str = "",
    ) -> Service:
        """The service on a migrated database that has a signing key."""
        metrics = Metrics()
        hashing = Hashing(at_once=settings.hash_at_once, waiting=settings.hash_waiting)
        limits = Limits.of(settings)
        marks = Marks.of(secret)
        keyring = Keyring(database, secret)
        return cls(
            settings=settings,
            parts=frozenset(parts),
            database=database,
            keyring=keyring,
            tokens=Tokens(keyring, issuer=settings.auth_url, seconds=settings.access_token_seconds),
            hashing=hashing,
            limits=limits,
            marks=marks,
            strangers=Flow(settings.sign_in_address_burst, settings.sign_in_address_per_second, limit="address"),
            families=Flow(FAMILIAR_BURST, FAMILIAR_RATE, limit="session"),
            metrics=metrics,
            sign_in=SignIn(
                database,
                hashing,
                limits,
                metrics,
                cls._terms(settings, marks),
                timedelta(days=settings.initial_password_days),
            ),
            activations=Activations(database, hashing, limits, metrics),
            bounds=Bounds.of(settings),
            secret=secret,
            couchdb_url=couchdb_url,
        )

    @property
    def device_terms(self) -> Terms:
        return Terms(
            self.settings.public_url,
            self.settings.device_days,
            self.settings.devices_per_person,
            self.settings.device_longest_days,
        )

    def session_terms(self, *, administrators: bool) -> sessions.Terms:
        """How long sessions of people, or of administrators, last."""
        return self._terms(self.settings, self.marks)[administrators]

    def today(self) -> date:
        """The institution's day."""
        return datetime.now(self.settings.tenant_timezone).date()

    @staticmethod
    def _terms(settings: Settings, marks: Marks) -> tuple[sessions.Terms, sessions.Terms]:
        grace = timedelta(seconds=settings.refresh_grace_seconds)
        # No grace at all: whoever says so wants no token taken twice.
        lost = timedelta(days=settings.refresh_lost_days) if grace else grace
        shift = timedelta(hours=settings.administrator_session_hours)
        return (
            sessions.Terms(
                timedelta(days=settings.session_days),
                timedelta(days=settings.session_longest_days),
                grace,
                lost,
                marks,
            ),
            # They sit at a desk, and a sign-in costs them little: their tokens are worth more than it.
            sessions.Terms(shift, shift, grace, marks=marks),
        )
