"""The JSON Schemas of the documents, made from their models: one file a type, and one of all types together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from projections import documents, words
from projections.words import WordList

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: The file of all documents together.
ALL = "documents"

_REFERENCE = "#/$defs/{name}"
_REVISION = {
    "description": "The revision that CouchDB or PouchDB gave it",
    "type": "string",
    "pattern": "^[0-9]+-[0-9a-f]{32}$",
}
#: What stands for what in the ids that the models' descriptions name.
_ID_PARTS = {"{yyyy}": "[0-9]{4}", "{yyyy-mm}": "[0-9]{4}-[0-9]{2}"}
_NUMBER = "[1-9][0-9]*"
PICTURE = "picture"


def schemas() -> dict[str, Any]:
    """A schema for each type, by its tag, and `documents`: any of them, with what they share once."""
    whole = _components()
    found: dict[str, Any] = {}
    for kind in documents.TYPES:
        used = set(_used(whole, kind.__name__))
        found[tag_of(kind)] = {
            "$schema": DIALECT,
            "$ref": _REFERENCE.format(name=kind.__name__),
            "$defs": {name: one for name, one in whole.items() if name in used},
        }
    found[ALL] = {
        "$schema": DIALECT,
        "title": "PassbookDocument",
        "description": "Any document that a device can hold.",
        "oneOf": [{"$ref": _REFERENCE.format(name=kind.__name__)} for kind in documents.TYPES],
        "$defs": whole,
    }
    return found


def tag_of(kind: type[msgspec.Struct]) -> str:
    """The word in the field `type`."""
    return str(kind.__struct_config__.tag)


def word_lists() -> list[WordList]:
    """Every list of words, in the order of the reference page."""
    return [one for one in vars(words).values() if isinstance(one, WordList)]


def _components() -> dict[str, Any]:
    _, parts = msgspec.json.schema_components(documents.TYPES, ref_template=_REFERENCE)
    defined = {name: _tidied(one) for name, one in parts.items()}
    for kind in documents.TYPES:
        one = defined[kind.__name__]
        one["properties"] = {**_reserved(kind), **one["properties"]}
        one["required"] = ["_id", *one["required"]]
    for one in word_lists():
        defined[one.name] = {
            "title": one.name,
            "description": one.about,
            "type": "string",
            "enum": list(one.words),
        }
    return defined


def _reserved(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of CouchDB and PouchDB that stand beside ours."""
    found: dict[str, Any] = {
        "_id": {"description": "Key of the document", "type": "string", "pattern": f"^{_id_pattern(kind)}$"},
        "_rev": _REVISION,
    }
    if kind is documents.ClientImage:
        found["_attachments"] = {
            "description": "The picture: fetched with it, or told of",
            "type": "object",
            "properties": {PICTURE: {"type": "object"}},
            "required": [PICTURE],
            "additionalProperties": False,
        }
    return found


def _id_pattern(kind: type[msgspec.Struct]) -> str:
    told = re.search(r"Id `([^`]+)`", kind.__doc__ or "")
    assert told, f"{kind.__name__} does not say what its id is"
    parts = re.split(r"(\{[^}]+\})", told[1])
    return "".join(_ID_PARTS.get(one, _NUMBER) if one.startswith("{") else re.escape(one) for one in parts)


def _tidied(schema: Any) -> Any:
    """What msgspec makes, as our documents are: nothing is null, nothing else is in them, words are references."""
    if isinstance(schema, list):
        return [_tidied(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _tidied(value)
        for key, value in schema.items()
    }
    if "default" in found and found["default"] is None:
        del found["default"]
    choices = [one for one in found.pop("anyOf", ()) if one != {"type": "null"}]
    if choices:
        assert len(choices) == 1, "an absent field is the only choice that documents offer"
        found = choices[0] | found
    if "words" in found:
        name = found.pop("words")
        found.pop("type", None)
        found["$ref"] = _REFERENCE.format(name=name)
    if "properties" in found:
        found["additionalProperties"] = False
    return found


def _used(whole: dict[str, Any], name: str) -> Iterator[str]:
    """The definition of this name and those that it refers to."""
    yield name
    for other in re.findall(r"'#/\$defs/(\w+)'", repr(whole[name])):
        if other != name:
            yield from _used(whole, other)
