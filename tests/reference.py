"""The reference pages, made from the code. `make docs` writes them; a test fails when they differ from the code."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import typer
from typer.main import get_command

from auth_service.api.app import build
from auth_service.sensitivity import TABLE, Approver
from auth_service.service import Service
from passbook import cli, errors
from passbook.scope import NEEDS
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import DECLARATIONS, Settings
from projections import documents
from projections.documents.base import Part
from projections.notes import notes
from projections.words import WordList
from tests.schemas import ALL, schemas, tag_of, word_lists

ROOT = Path(__file__).parents[1]
MADE = "<!-- Made from the code by `make docs`; edit the code instead. -->"


def pages() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    docs = ROOT / "docs"
    made = {
        docs / "documents.md": _documents(),
        docs / "settings.md": _settings(),
        docs / "commands.md": _commands(),
        docs / "acts.md": _acts(),
        docs / "openapi.json": json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n",
    }
    for name, schema in schemas().items():
        made[docs / "schemas" / f"{name}.json"] = json.dumps(schema, indent=2) + "\n"
    return made


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the auth service with both its sides; no database is asked for it."""
    nowhere = ServiceDatabase("postgresql://nowhere/nothing")
    service = Service.build(Settings.load({}), nowhere, secret="-" * 40)
    try:
        return build(service).openapi()
    finally:
        service.hashing.close()
        nowhere.dispose()


def _documents() -> str:
    parts: dict[str, type[msgspec.Struct]] = {}
    sections = []
    for kind in documents.TYPES:
        needs = " and ".join(f"`{one}`" for one in sorted(NEEDS.get(tag_of(kind), ())))
        permission = f"\nNeeds the permission {needs}.\n" if needs else ""
        sections.append(f"## `{tag_of(kind)}`\n\n{_prose(kind)}\n{permission}\n{_table(kind, parts)}")
    done: set[str] = set()
    while parts.keys() - done:
        for name in sorted(parts.keys() - done):
            done.add(name)
            sections.append(f"### {name}\n\n{_prose(parts[name])}\n\n{_table(parts[name], parts)}")
    head = f"""{MADE}
# Documents

What a device can hold: these documents and no others, one database per person. Ids sort, so an app reads with
`allDocs({{startkey, endkey}})` and needs no index. A JSON Schema of each type is in [`schemas/`](schemas), and one
of all types together, `{ALL}.json`, to make an app's types from.

* **Amounts** are decimal text with exactly the digits of the currency beside them (`"1250.50"`). Never floats.
* **Rates** are decimal text in per cent. **Days** are `YYYY-MM-DD`. **Instants** are RFC 3339, UTC.
* **Words** are of a closed list each ([all of them](#words)); a code that Passbook does not know is `"unknown"`.
* A field without a value is **absent**. Nothing here depends on today's date: an app reckons what is overdue.
* A reversed transaction stays in its page with `"reversed": true`.
"""
    head += "\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in notes()) + "\n"
    sections.append("## Words\n\nIn documents they stand as they stand here; what an app shows is its own affair.")
    sections += [_words(one) for one in word_lists()]
    return head + "\n" + "\n\n".join(sections) + "\n"


def _words(one: WordList) -> str:
    lines = [f"### {one.name}", "", one.about, "", "| word | meaning |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{word}` | {meaning} |" for word, meaning in one.meanings.items())])


def _prose(kind: type[msgspec.Struct]) -> str:
    return " ".join(line.strip() for line in (kind.__doc__ or "").strip().splitlines()).replace("  ", "\n\n")


def _table(kind: type[msgspec.Struct], parts: dict[str, type[msgspec.Struct]]) -> str:
    lines = ["| field | type | always | meaning | unit | source |", "|---|---|---|---|---|---|"]
    if issubclass(kind, documents.Document):
        lines.append(f"| `type` | text | yes | `{tag_of(kind)}` | | |")
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        meaning, source, unit = _about(hints[field.name])
        shown = _type(hints[field.name], parts)
        always = "yes" if field.required else "no"
        lines.append(f"| `{field.name}` | {shown} | {always} | {meaning} | {unit} | {_code(source)} |")
    return "\n".join(lines)


def _code(source: str) -> str:
    return f"`{source}`" if source else ""


def _metas(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is typing.Annotated:
        inner, *found = typing.get_args(hint)
        yield from (one for one in found if isinstance(one, msgspec.Meta))
        yield from _metas(inner)
    else:
        for argument in typing.get_args(hint):
            yield from _metas(argument)


def _about(hint: Any) -> tuple[str, str, str]:
    told = next(meta for meta in _metas(hint) if meta.description)
    extra = told.extra or {}
    return told.description, extra.get("source", ""), extra.get("unit", "")


def _type(hint: Any, parts: dict[str, type[msgspec.Struct]]) -> str:
    kinds = [meta.extra["kind"] for meta in _metas(hint) if meta.extra and "kind" in meta.extra]
    if kinds:
        return str(kinds[0])
    lists = [meta.extra["words"] for meta in _metas(hint) if meta.extra and "words" in meta.extra]
    if lists:
        linked = f"[{lists[0].name}](#{lists[0].name.lower()})"
        return f"list of {linked}" if "list" in str(hint) else linked
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    origin, arguments = typing.get_origin(hint), [one for one in typing.get_args(hint) if one is not type(None)]
    if origin is list:
        return f"list of {_type(arguments[0], parts)}"
    if origin is dict:
        return "object"
    if arguments:
        return _type(arguments[0], parts)
    if isinstance(hint, type) and issubclass(hint, Part):
        parts[hint.__name__] = hint
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "text", int: "whole number", bool: "yes or no"}[hint]


def _settings() -> str:
    lines = [
        MADE,
        "# Settings",
        "",
        "Environment variables. `passbook config` shows the values in force, secrets masked. Nothing secret has a",
        "default. A `PASSBOOK_…` variable that looks like a misspelt setting is refused; any other that is not in",
        "this list is ignored, with a word about it.",
        "",
        "Each can also be given in a file, as secrets of Docker and Kubernetes are:",
        "`PASSBOOK_COUCHDB_PASSWORD_FILE` names one with the value of `PASSBOOK_COUCHDB_PASSWORD` alone.",
        "Blanks around a value are left out; those of a password belong to it, but for a line's end.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for one in DECLARATIONS:
        default = "" if one.default in ("", None) else f"`{one.default}`"
        secret = " **Secret.**" if one.secret else ""
        lines.append(f"| `{one.variable}` | {default} | {one.help}{secret} |")
    return "\n".join(lines) + "\n"


def _acts() -> str:
    when = {
        Approver.NEVER: "never",
        Approver.HOURLY: "above the hourly number",
        Approver.CLIENTS: "above the hourly number; more than `PASSBOOK_CLIENTS_ALONE` clients",
        Approver.ALWAYS: "always",
    }
    lines = [
        MADE,
        "# Acts of administrators",
        "",
        "Everything that an administrator can change over HTTP, the heaviest first. The hourly number is what one",
        "administrator does alone, in any hour; `PASSBOOK_HOURLY_ACTS` has others. A second administrator must",
        "agree in the last column's cases where `PASSBOOK_SECOND_APPROVER` is on; where it is off, the hourly",
        "numbers alone hold. How that works:",
        "[for administrators](administrators.md#what-one-does-alone-and-what-takes-two).",
        "",
        "| act | means | role | alone in an hour | a second administrator |",
        "|---|---|---|---|---|",
    ]
    for act in TABLE.values():
        hourly = "any number" if act.hourly is None else f"{act.hourly}"
        together = f", counted with `{act.counted_as}`" if act.counted_as else ""
        lines.append(f"| `{act.name}` | {act.does} | `{act.role}` | {hourly}{together} | {when[act.approver]} |")
    return "\n".join(lines) + "\n"


def _commands() -> str:
    cli.load_commands()
    group: Any = get_command(cli.app)
    lines = [
        MADE,
        "# Commands",
        "",
        f"Exit status: 0 done, {errors.EXIT_CHECK_FAILED} the check failed, {errors.EXIT_REFUSED} used wrongly, "
        f"{errors.EXIT_UNAVAILABLE} something outside is unavailable.",
        "With an address unset, every command uses the embedded server under `PASSBOOK_DATA_DIR`.",
        "",
    ]
    for path, command in _walk("passbook", group):
        if command.hidden:
            continue  # an older name of another
        lines += [f"## `{path}`", "", (command.help or "").strip(), ""]
        options = [
            one for one in command.params if one.name not in ("help", "_") and not getattr(one, "hidden", False)
        ]
        if options:
            lines += ["| option | meaning |", "|---|---|"]
            for one in options:
                argument = one.param_type_name == "argument"
                name = (one.metavar or str(one.name)).upper() if argument else ", ".join(one.opts)
                lines.append(f"| `{name}` | {getattr(one, 'help', '') or ''} |")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", {})
    if not commands or command.invoke_without_command:
        yield path, command
    for name in sorted(commands):
        yield from _walk(f"{path} {name}", commands[name])


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        typer.echo(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
