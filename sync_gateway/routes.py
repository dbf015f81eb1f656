"""The allow-list, as data: what a device may ask for. Everything else gets one identical answer, or, if it is for
writing, the one that the copy is read-only.

A request is matched on its path as it came over the wire, each segment decoded once; towards CouchDB the path
is made anew from the matched pieces, so that no way of writing a path means one thing here and another there.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from sync_gateway import bodies, parameters
from sync_gateway.answers import bad_request

DATABASE = "passbook"  # its name on the outside, the same for everybody


class Action(enum.Enum):
    """What is done with a request that matched."""

    WELCOME = enum.auto()
    INFO = enum.auto()  # asked of CouchDB, answered without what names the database
    FORWARD = enum.auto()
    CHECKPOINT = enum.auto()  # forwarded, if the device has not too many
    REFUSE_WRITES = enum.auto()
    COMMITTED = enum.auto()


@dataclass(frozen=True)
class Route:
    """One entry: methods, the segments of the path (`{…}` stands for a variable), query parameters, body."""

    name: str
    methods: tuple[str, ...]
    path: tuple[str, ...]
    action: Action = Action.FORWARD
    parameters: frozenset[str] = frozenset()
    body: bodies.Rule | None = None
    attachment: bool = False
    #: It takes a revision to read. CouchDB is then asked for the newest that came of it: nothing that was replaced
    #: or taken away is given out, whether its body is still there or not.
    newest: bool = False


@dataclass(frozen=True)
class Match:
    """A request that is on the list. `segments` and `query` are decoded; they are quoted again when used."""

    route: Route
    segments: tuple[str, ...]
    query: dict[str, str] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether the answer comes bit by bit, for as long as the device listens. Backwards it is made to end."""
        return self.query.get("feed") in ("longpoll", "continuous") and self.query.get("descending") != "true"


_CHANGES = parameters.names(
    "attachments conflicts descending doc_ids feed filter heartbeat include_docs limit seq_interval since style "
    "timeout"
)
_LISTING = parameters.names(
    "attachments conflicts descending end_key endkey include_docs inclusive_end key keys limit skip start_key "
    "startkey update_seq"
)
_REVISIONS = parameters.names("open_revs rev")
_READING = parameters.names("attachments atts_since conflicts latest local_seq open_revs rev revs revs_info")

ROUTES = (
    Route("welcome", ("GET", "HEAD"), (), Action.WELCOME),
    Route("info", ("GET", "HEAD"), (DATABASE,), Action.INFO),
    Route("changes", ("GET",), (DATABASE, "_changes"), parameters=_CHANGES),
    Route("changes", ("POST",), (DATABASE, "_changes"), parameters=_CHANGES, body=bodies.CHANGES),
    Route(
        "bulk_get",
        ("POST",),
        (DATABASE, "_bulk_get"),
        parameters=parameters.names("attachments latest revs"),
        body=bodies.BULK_GET,
        newest=True,
    ),
    Route("all_docs", ("GET",), (DATABASE, "_all_docs"), parameters=_LISTING),
    Route("all_docs", ("POST",), (DATABASE, "_all_docs"), parameters=_LISTING, body=bodies.ALL_DOCS),
    Route("revs_diff", ("POST",), (DATABASE, "_revs_diff"), body=bodies.REVS_DIFF),
    Route("checkpoint", ("GET",), (DATABASE, "_local", "{checkpoint}")),
    Route("checkpoint", ("PUT",), (DATABASE, "_local", "{checkpoint}"), Action.CHECKPOINT, body=bodies.CHECKPOINT),
    Route("bulk_docs", ("POST",), (DATABASE, "_bulk_docs"), Action.REFUSE_WRITES, body=bodies.BULK_DOCS),
    Route("ensure_full_commit", ("POST",), (DATABASE, "_ensure_full_commit"), Action.COMMITTED),
    Route("document", ("GET", "HEAD"), (DATABASE, "{document}"), parameters=_READING, newest=True),
    Route(
        "attachment",
        ("GET", "HEAD"),
        (DATABASE, "{document}", "{attachment}"),
        parameters=parameters.names("rev"),
        attachment=True,
        newest=True,
    ),
)

#: On no list: how the gateway itself removes a checkpoint.
FORGOTTEN = Route("checkpoint_forgotten", ("DELETE",), (DATABASE, "_local", "{checkpoint}"))

_VARIABLES = {
    "{document}": re.compile(r"[^_].{0,499}", re.DOTALL),
    "{attachment}": re.compile(r"[^_].{0,499}", re.DOTALL),
    # As PouchDB and CouchDB make them from a digest, so that nobody keeps anything else there.
    "{checkpoint}": re.compile(r"[A-Za-z0-9._+=-]{16,80}"),
}

#: Methods for writing, wherever in the database; to the database itself, POST is one too.
_WRITING = frozenset({"COPY", "DELETE", "PUT"})

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def match(method: str, target: str) -> Match | None:
    """The route for this method and request target, or None if it is not on the list.

    Raises `answers.Problem` for a query that the route does not allow.
    """
    path, _, query = target.partition("?")
    segments = _segments(path)
    if segments is None or any("/" in segment for segment in segments):
        return None
    for route in ROUTES:
        if method in route.methods and _fits(route.path, segments):
            found = parameters.checked(_query(query, route.parameters))
            if route.newest and (route.body is not None or not found.keys().isdisjoint(_REVISIONS)):
                found["latest"] = "true"
            return Match(route, segments, found)
    return None


def would_write(method: str, target: str) -> bool:
    """Whether a request that is not on the list is for writing to the copy, or for removing it.

    It goes by method and database alone: whatever would be written, and whether it is there, the answer is one.
    """
    segments = _segments(target.partition("?")[0])
    if not segments or segments[0] != DATABASE:
        return False
    return method in _WRITING or (method == "POST" and len(segments) == 1)


def _fits(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return len(pattern) == len(segments) and all(
        _VARIABLES[expected].fullmatch(segment) is not None if expected in _VARIABLES else expected == segment
        for expected, segment in zip(pattern, segments, strict=True)
    )


def _segments(path: str) -> tuple[str, ...] | None:
    """The decoded segments, in which a slash may be; or None for a path that no honest client writes."""
    if not path.startswith("/") or "#" in path or "\\" in path:
        return None
    raw = path[1:].split("/")
    if raw[-1] == "" and len(raw) <= 2:  # "/" and "/passbook/"
        raw.pop()
    decoded = [_decoded(segment) for segment in raw]
    if any(segment is None or segment in ("", ".", "..") for segment in decoded):
        return None
    return tuple(segment for segment in decoded if segment is not None)


def _decoded(text: str) -> str | None:
    if _PERCENT.search(text):
        return None
    try:
        decoded = unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        return None
    return None if _CONTROL.search(decoded) else decoded


def _query(text: str, allowed: frozenset[str]) -> dict[str, str]:
    """The parameters that are allowed, each once: the first that has the name."""
    found: dict[str, str] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name in allowed:
            decoded = _decoded(value.replace("+", " "))
            if decoded is None:
                raise bad_request(f"The value of {name} is malformed.")
            found.setdefault(name, decoded)
    return found


def described() -> list[dict[str, Any]]:
    """The list in a form for documentation."""
    return [
        {
            "name": route.name,
            "methods": list(route.methods),
            "path": "/" + "/".join(route.path),
            "parameters": sorted(route.parameters),
            "body_limit": route.body.limit if route.body else 0,
        }
        for route in ROUTES
    ]
