"""What a document says, in half a line: for the demo's table."""

from __future__ import annotations

from typing import Any


def say(document: dict[str, Any]) -> str:
    """The gist of a document, as an app might show it."""
    kind = str(document.get("type", ""))
    return _SAYINGS[kind](document) if kind in _SAYINGS else ""


def _money(document: dict[str, Any], amount: str) -> str:
    return f"{amount} {document['currency']['symbol']}"


def _manifest(document: dict[str, Any]) -> str:
    names = ", ".join(client["display_name"] for client in document["clients"][:3])
    more = len(document["clients"]) - 3
    return f"{names}{f' and {more} more' if more > 0 else ''}; as of {document['as_of'][:19].replace('T', ' ')} UTC"


def _client(document: dict[str, Any]) -> str:
    facts = (document["display_name"], document.get("mobile_no"), document.get("office"))
    return ", ".join(fact for fact in facts if fact)


def _loan(document: dict[str, Any]) -> str:
    summary = document["summary"]
    return (
        f"{document.get('product')}: {document['status']}, "
        f"{_money(document, summary['total_outstanding'])} left of {summary['total_expected']}"
    )


def _schedule(document: dict[str, Any]) -> str:
    lines = document["instalments"]
    due = next((line for line in lines if not line["complete"]), None)
    paid = sum(line["complete"] for line in lines)
    nearest = f", next {due['total']['outstanding']} on {due['due_on']}" if due else ""
    return f"{paid} of {len(lines)} instalments paid{nearest}"


def _savings(document: dict[str, Any]) -> str:
    return f"{document.get('product')}: {document['status']}, {_money(document, document['balance'])}"


def _charges(document: dict[str, Any]) -> str:
    names = sorted({charge["name"] for charge in document["charges"]})
    return f"{len(document['charges'])}: {', '.join(names)}"


def _transactions(document: dict[str, Any]) -> str:
    rows = document["transactions"]
    last = rows[-1]
    undone = sum(row["reversed"] for row in rows)
    reversed_ = f", {undone} reversed" if undone else ""
    return f"{len(rows)}{reversed_}; last: {last['type'].replace('_', ' ')} {last['amount']} on {last['on']}"


def _image(document: dict[str, Any]) -> str:
    return f"{document['content_type']}, {document['bytes']} bytes"


_SAYINGS = {
    "passbook": _manifest,
    "client": _client,
    "client_image": _image,
    "client_charges": _charges,
    "client_transactions": _transactions,
    "loan": _loan,
    "loan_schedule": _schedule,
    "loan_charges": _charges,
    "loan_transactions": _transactions,
    "savings": _savings,
    "savings_charges": _charges,
    "savings_transactions": _transactions,
}
