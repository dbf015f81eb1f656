"""What holds of documents beyond their single fields, for `docs/documents.md`. Tests hold it to the code."""

from __future__ import annotations

from collections.abc import Iterable

from projections import vocabulary

#: Documents that are there only if there is something to put into them, and of what there is none.
ABSENT_WHEN_EMPTY = {
    "client_image": "a client without a picture that can be read",
    "client_charges": "a client who was never charged",
    "client_transactions": "a year in which there is no transaction to show",
    "loan_schedule": "a loan without instalments",
    "loan_charges": "a loan without charges",
    "loan_transactions": "a year in which there is no transaction to show",
    "savings_charges": "an account without charges",
    "savings_transactions": "a month in which there is no transaction to show",
}

#: Fields that are absent rather than `false`, by type of document.
ABSENT_WHEN_FALSE = {
    "loan_transactions": ("by_hand",),
    "savings_transactions": ("reversal",),
    "loan_schedule": ("additional", "down_payment"),
}
#: Fields that are absent rather than zero.
ABSENT_WHEN_ZERO = {
    "loan": ("overpaid", "fees.adjustments", "penalties.adjustments"),
    "loan_schedule": ("credits",),
    "savings": ("lock_in",),
    "savings_transactions": ("overdraft",),
}

_WHOSE = """A client who is not active (pending, closed, rejected) has no documents, and is not in the
manifest's `clients`: the documents of a client who is closed leave the devices. Somebody all of whose clients
are inactive has a manifest with `"clients": []` and no other document. A client of whom a row cannot be read
stays as they were, in the manifest too, until it can be."""

_MOVEMENTS = """Transactions stand in the order in which the core reckons balances: value date, time of booking,
id; pages follow one another by their ids. Keep that order. Sorted in another way, by id or by date alone,
`balance_after` does not follow from one line to the next.

`balance_after` is absent where it would mean nothing: in a transaction that was reversed, in the counter-entry
of one (a savings transaction with `reversal`), and where the core has not reckoned it."""

_HISTORY = """Where the institution sends the last so many months (`history_months`), history starts on the
first day of the month that many months ago: with 3 months, on 24 November it starts on 1 August. It moves once
a month, not daily. The manifest's `history_from` is that day, or the fixed day if that is later. Transactions
before it are left out; balances, summaries and schedules are of the whole life of the account all the same."""

_CURRENCIES = """The `code` and `digits` of an account are the account's own (`currency_code`, `currency_digits`
of its row), which may differ from the currency's usual digits. A client's charges and transactions have no
digits of their own: they are those of `m_organisation_currency`, where the institution has the currency there,
else of `m_currency`. The `symbol` is `m_organisation_currency.display_symbol`, else
`m_currency.display_symbol`, else the code."""


def notes() -> list[tuple[str, str]]:
    """Title and text (Markdown) of each section."""
    return [
        ("What is not there", _absent()),
        ("Whose documents there are", _WHOSE),
        ("Movements and their order", _MOVEMENTS),
        ("What the totals of a page count", _totals()),
        ("History", _HISTORY),
        ("Currencies", _CURRENCIES),
    ]


def _absent() -> str:
    lines = [
        "A document without contents is absent; it comes when there is something in it. `client`, `loan`,",
        "`savings` and the manifest are always there for whoever is in scope and has the permission. There is",
        "",
        *(f"* no `{kind}` for {what}" for kind, what in ABSENT_WHEN_EMPTY.items()),
        "",
        "A field without a value is absent, never null or empty text. Some are absent instead of saying `false`:",
        f"{_fields(ABSENT_WHEN_FALSE)}. Some are absent instead of zero:",
        f"{_fields(ABSENT_WHEN_ZERO)}. A savings account that may not be overdrawn has no",
        "`overdraft_limit` and no `overdraft_rate`. All other truth values and amounts are told as they are,",
        "`false` and `0.00` too.",
    ]
    return "\n".join(lines)


def _totals() -> str:
    codes = vocabulary.LOAN_TRANSACTION.words
    disbursed = _words([codes[vocabulary.LOAN_DISBURSEMENT]])
    repaid = _words(codes[code] for code in vocabulary.LOAN_PAYMENTS)
    returned = _words(codes[code] for code in vocabulary.LOAN_PAYMENTS_RETURNED)
    return f"""Transactions that are not reversed, and of those

* of a loan: `disbursed` counts {disbursed}; the four of what was repaid count, each with its part,
  {repaid}, less {returned}.
  Waivers, write-offs, recoveries, chargebacks and refunds of an overpayment are listed, and count for none.
* of a savings account: `credits` counts those with the effect `credit`, `debits` those with the effect `debit`. A
  transaction that undoes another (`reversal`) counts as little as the one that it undoes. Money on hold changes no
  balance, and counts for neither."""


def _words(found: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(found))


def _fields(found: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"`{name}` (`{kind}`)" for kind, names in found.items() for name in names)
