"""Query parameters: which values each may have. What CouchDB would not read as it is meant gets no further.

CouchDB answers some bad values with 500, ignores others, and refuses the rest without a word on which it was. Here
every one of them is a 400 that names its parameter.
"""

from __future__ import annotations

import re

import msgspec

from sync_gateway.answers import bad_request

#: Longest pause between two signs of life that a device may ask for, milliseconds. A connection that is silent
#: for longer is taken for dead, on either side of us.
_QUIET_MOST = 60_000
_QUIET_LEAST = 1_000


def names(text: str) -> frozenset[str]:
    """The parameters that are named in `text`."""
    return frozenset(text.split())


#: Parameters that are one of some words.
_CHOICES = {
    "feed": ("normal", "longpoll", "continuous"),
    "filter": ("_doc_ids", "_selector"),
    "style": ("main_only", "all_docs"),
}
#: CouchDB reads letters of any size in some requests, and ignores them in others.
_BOOLEANS = names(
    "attachments conflicts descending include_docs inclusive_end latest local_seq revs revs_info update_seq"
)
#: Parameters that are numbers, not below zero, and how long they may be: CouchDB takes no `limit` above 2 ** 59.
_NUMBERS = names("heartbeat limit seq_interval skip timeout")
_DIGITS = 17
#: Parameters that are any JSON.
_JSON = names("endkey end_key key startkey start_key")
#: Parameters that are lists of texts, as JSON; and those whose texts are revisions.
_LISTS = names("atts_since doc_ids keys open_revs")
_REVISIONS = names("atts_since open_revs")
#: CouchDB takes what follows the number for its own kind of hash if it is as long as one, for any text otherwise.
_REVISION = re.compile(r"[0-9]{1,18}-(?:[0-9a-fA-F]{32}|(?!.{32}\Z)[!-~]{1,100})")


def checked(query: dict[str, str]) -> dict[str, str]:
    """`query` as CouchDB is to read it. Raises `answers.Problem` for a value that a parameter cannot have."""
    for name in _CHOICES.keys() & query.keys():
        if query[name] not in _CHOICES[name]:
            raise bad_request(f"Supported values for {name}: {', '.join(_CHOICES[name])}.")
    for name in _BOOLEANS & query.keys():
        query[name] = _boolean(name, query[name])
    for name in _LISTS & query.keys():
        if (name, query[name]) != ("open_revs", "all"):
            query[name] = _list(name, query[name])
    for name in _JSON & query.keys():
        _json(name, query[name])
    if "rev" in query:
        _revision("rev", query["rev"])
    if query.get("heartbeat") == "true":
        query["heartbeat"] = str(_QUIET_MOST)
    for name in _NUMBERS & query.keys():
        value = query[name]
        if not value.isascii() or not value.isdigit() or len(value) > _DIGITS:
            raise bad_request(f"The value of {name} is not a number of at most {_DIGITS} digits.")
    if int(query.get("seq_interval", "1")) == 0:
        raise bad_request("The value of seq_interval is not above 0.")
    if query.get("descending") == "true" and query.get("feed", "normal") != "normal":
        # Backwards there is nothing to wait for, but CouchDB would, for ever, if a filter left something out.
        query.pop("heartbeat", None)
        query["timeout"] = "1"
    for name, least in (("heartbeat", _QUIET_LEAST), ("timeout", 0)):
        if name in query:
            query[name] = str(min(max(int(query[name]), least), _QUIET_MOST))
    return query


def _boolean(name: str, value: str) -> str:
    lower = value.lower()
    if lower not in ("true", "false"):
        raise bad_request(f"The value of {name} is neither true nor false.")
    return lower


def _json(name: str, value: str) -> None:
    try:
        msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError):
        raise bad_request(f"The value of {name} is not JSON.") from None


def _list(name: str, value: str) -> str:
    """The list made anew. CouchDB would look up, and answer, whatever is in it twice."""
    try:
        found = msgspec.json.decode(value, type=list[str])
    except msgspec.MsgspecError:
        raise bad_request(f"The value of {name} is not a list of texts.") from None
    if len(set(found)) < len(found):
        raise bad_request(f"The value of {name} has the same twice.")
    if name in _REVISIONS:
        for one in found:
            _revision(name, one)
    return msgspec.json.encode(found).decode()


def _revision(name: str, value: str) -> None:
    if not _REVISION.fullmatch(value):
        raise bad_request(f"The value of {name} is not a revision.")
