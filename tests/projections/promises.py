"""What the documents of a sound client promise: every sum is the sum of its lines, every balance follows.

Works on the documents as a device reads them, and shares no code with the projections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

Documents = dict[str, dict[str, Any]]

PORTIONS = ("principal", "interest", "fees", "penalties")
AT_PAY_OUT = ("disbursement", "tranche_disbursement")
#: Asked per event: nothing is outstanding in between.
PER_EVENT = ("withdrawal", "no_activity")
BOOK = {
    "deposit": 1,
    "interest": 1,
    "dividend": 1,
    "withdrawal": -1,
    "withdrawal_fee": -1,
    "annual_fee": -1,
    "charge_payment": -1,
    "overdraft_interest": -1,
    "withholding_tax": -1,
}
RUNNING = BOOK | {"hold": -1, "release": 1}

#: Fields of decimal text that are no amounts.
RATES = frozenset({"rate", "annual_rate", "percentage", "early_penalty_rate", "overdraft_rate"})
#: Fields that are text to people, whatever it looks like.
TEXTS = frozenset(
    (
        *(
            "account_no",
            "display_name",
            "first_name",
            "middle_name",
            "last_name",
            "full_name",
            "mobile_no",
            "email",
        ),
        *("office", "name", "product", "purpose", "receipt", "period", "gender", "type", "sha256"),
    )
)
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def number(text: str) -> Decimal:
    return Decimal(text)


def broken(documents: Documents) -> list[str]:
    """Every broken promise, in words."""
    found: list[str] = []
    for key, document in documents.items():
        found += (f"{key}: {problem}" for problem in digits_kept(document, None))
        if document["type"] == "loan":
            found += (f"{key}: {problem}" for problem in loan_kept(key, documents))
        if document["type"] == "savings":
            found += (f"{key}: {problem}" for problem in savings_kept(key, documents))
        if document["type"] in ("client_charges", "loan_charges", "savings_charges"):
            found += (f"{key}: {problem}" for problem in charges_kept(document))
    return found


def digits_kept(part: Any, digits: int | None) -> Iterator[str]:
    """Every amount has exactly the digits of the currency beside or above it."""
    if isinstance(part, list):
        for item in part:
            yield from digits_kept(item, digits)
    if not isinstance(part, dict):
        return
    if "currency" in part:
        digits = part["currency"]["digits"]
    for name, value in part.items():
        if isinstance(value, str) and name not in TEXTS | RATES and _DECIMAL.fullmatch(value):
            shown = len(value.partition(".")[2])
            if digits is None or shown != digits or re.fullmatch(r"-0(\.0*)?", value):
                yield f"{name}={value} with currency digits {digits}"
        elif isinstance(value, float):
            yield f"{name}={value} is a binary number"
        else:
            yield from digits_kept(value, digits)


def pages(documents: Documents, owner: str) -> list[dict[str, Any]]:
    prefix = f"{owner}:transactions:"
    return [documents[key] for key in sorted(documents) if key.startswith(prefix)]


def loan_kept(key: str, documents: Documents) -> Iterator[str]:
    loan, schedule = documents[key], documents.get(f"{key}:schedule")
    summary = loan["summary"]
    if schedule is None:
        yield "no schedule"
        return
    yield from schedule_kept(schedule)
    if loan["status"] == "approved":
        if any(number(summary[name]) for name in summary if name.startswith("total_")) or pages(documents, key):
            yield "money before pay-out"
        return
    yield from summary_kept(summary)
    totals = schedule["totals"]
    for name in ("principal", "interest", "penalties"):
        pairs = [("paid", "repaid"), ("written_off", "written_off"), ("outstanding", "outstanding")]
        pairs += [("due", "charged"), ("waived", "waived")] if name != "principal" else []
        for ours, theirs in pairs:
            if number(totals[name][ours]) != number(summary[name][theirs]):
                yield f"schedule {name}.{ours}={totals[name][ours]}, summary {summary[name][theirs]}"
    lent = number(summary["principal"]["disbursed"]) + number(summary["principal"]["adjustments"])
    if number(totals["principal"]["due"]) != lent:
        yield f"the schedule repays {totals['principal']['due']} of {lent}"
    yield from fees_kept(schedule, summary, documents.get(f"{key}:charges", {"charges": []}))
    yield from loan_pages_kept(summary, pages(documents, key))
    pending = [one for one in schedule["disbursements"] if not one["disbursed"]]
    if number(totals["disbursed"]) != number(summary["principal"]["disbursed"]):
        yield f"pay-outs {totals['disbursed']}, summary {summary['principal']['disbursed']}"
    if not pending and number(schedule["instalments"][-1]["balance_after"]):
        yield f"balance {schedule['instalments'][-1]['balance_after']} after the last instalment"


def summary_kept(summary: dict[str, Any]) -> Iterator[str]:
    def total(column: str, names: tuple[str, ...] = PORTIONS) -> Decimal:
        return sum((number(summary[name][column]) for name in names), Decimal(0))

    costs = PORTIONS[1:]
    expected = {
        "total_expected": number(summary["principal"]["disbursed"]) + total("charged", costs),
        "total_expected_cost": total("charged", costs),
        "total_repaid": total("repaid"),
        "total_cost": total("repaid", costs),
        "total_waived": total("waived", costs),
        "total_written_off": total("written_off"),
        "total_outstanding": total("outstanding"),
    }
    for name, value in expected.items():
        if number(summary[name]) != value:
            yield f"{name}={summary[name]}, its parts make {value}"


def fees_kept(schedule: dict[str, Any], summary: dict[str, Any], charges: dict[str, Any]) -> Iterator[str]:
    """Fees at pay-out are in no instalment; a waived one of them is in the summary alone."""
    fees, totals = summary["fees"], schedule["totals"]
    upfront = number(totals["fees_at_disbursement"])
    upfront_paid = sum((number(one["fees_paid"]) for one in schedule["disbursements"]), Decimal(0))
    forgiven = sum(
        (number(one["waived"]) for one in charges["charges"] if one["when"] in AT_PAY_OUT and not one["penalty"]),
        Decimal(0),
    )
    checks = {
        "charged": number(totals["fees"]["due"]) + upfront + forgiven,
        "repaid": number(totals["fees"]["paid"]) + upfront_paid,
        "waived": number(totals["fees"]["waived"]) + forgiven,
        "written_off": number(totals["fees"]["written_off"]),
        "outstanding": number(totals["fees"]["outstanding"]) + upfront - upfront_paid,
    }
    for name, value in checks.items():
        if number(fees[name]) != value:
            yield f"fees {name}={fees[name]}, the schedule says {value}"


def schedule_kept(schedule: dict[str, Any]) -> Iterator[str]:
    totals, lines = schedule["totals"], schedule["instalments"]
    if [line["number"] for line in lines] != list(range(1, len(lines) + 1)):
        yield "instalments are not numbered 1..n"
    previous = None
    for line in lines:
        where = f"instalment {line['number']}"
        if previous and line["from_on"] != previous:
            yield f"{where} does not begin where the one before ends"
        previous = line["due_on"]
        for column in ("due", "paid", "waived", "written_off", "outstanding"):
            value = sum((number(line[name].get(column, "0")) for name in PORTIONS), Decimal(0))
            if number(line["total"][column]) != value:
                yield f"{where}: total {column}={line['total'][column]}, its parts make {value}"
        for name in PORTIONS:
            part = {column: number(text) for column, text in line[name].items()}
            left = part["due"] - part["paid"] - part.get("waived", 0) - part["written_off"]
            if part["outstanding"] != left or left < 0:
                yield f"{where}: {name} outstanding {part['outstanding']}, expected {left}"
        if line["complete"] and number(line["total"]["outstanding"]):
            yield f"{where} is complete, yet {line['total']['outstanding']} is due"
        if number(line["instalment"]) != number(line["principal"]["due"]) + number(line["interest"]["due"]):
            yield f"{where}: instalment {line['instalment']}"
    for name in PORTIONS:
        for column, text in totals[name].items():
            value = sum((number(line[name][column]) for line in lines), Decimal(0))
            if number(text) != value:
                yield f"foot: {name}.{column}={text}, lines make {value}"
    upfront, paid = number(totals["fees_at_disbursement"]), Decimal(0)
    for line in schedule["disbursements"]:
        paid += number(line["fees_paid"])
    foot = {"expected": ("due", upfront), "paid": ("paid", paid), "outstanding": ("outstanding", upfront - paid)}
    foot |= {"waived": ("waived", Decimal(0)), "written_off": ("written_off", Decimal(0))}
    for name, (column, extra) in foot.items():
        value = sum((number(line["total"][column]) for line in lines), extra)
        if number(totals[name]) != value:
            yield f"foot: {name}={totals[name]}, lines make {value}"
    if totals["days"] != sum(line["days"] for line in lines):
        yield f"foot: {totals['days']} days"


def loan_pages_kept(summary: dict[str, Any], found: list[dict[str, Any]]) -> Iterator[str]:
    sums = {
        name: sum((number(page["totals"][name]) for page in found), Decimal(0))
        for name in ("disbursed", *(f"{portion}_repaid" for portion in PORTIONS))
    }
    if sums["disbursed"] != number(summary["principal"]["disbursed"]):
        yield f"pages disbursed {sums['disbursed']}, summary {summary['principal']['disbursed']}"
    for name in PORTIONS:
        if sums[f"{name}_repaid"] != number(summary[name]["repaid"]):
            yield f"pages repaid {name} {sums[f'{name}_repaid']}, summary {summary[name]['repaid']}"
    balance, last = Decimal(0), ""
    for line in (line for page in found for line in page["transactions"]):
        if line["on"] < last:
            yield f"transaction {line['id']} is out of order"
        last = line["on"]
        if line["reversed"]:
            if "balance_after" in line:
                yield f"transaction {line['id']} was undone and has a balance"
            continue
        amount, principal = number(line["amount"]), number(line["principal"])
        if line["type"] == "disbursement":
            balance += amount - number(line["overpayment"])
        elif line["type"] in ("chargeback", "credit_balance_refund"):
            balance += principal
        else:
            balance = max(balance - principal, Decimal(0))
        if number(line["balance_after"]) != balance:
            yield f"transaction {line['id']}: balance {line['balance_after']}, expected {balance}"


def savings_kept(key: str, documents: Documents) -> Iterator[str]:
    account, found = documents[key], pages(documents, key)
    book = running = Decimal(0)
    last = ""
    for page in found:
        into = out_of = Decimal(0)
        for line in page["transactions"]:
            if line["on"] < last or not line["on"].startswith(page["period"]):
                yield f"transaction {line['id']} is out of order"
            last = line["on"]
            if line["reversed"] or line.get("reversal"):
                if "balance_after" in line:
                    yield f"transaction {line['id']} does not count and has a balance"
                continue
            amount, sign = number(line["amount"]), BOOK.get(line["type"], 0)
            if line["effect"] != {1: "credit", -1: "debit", 0: "none"}[sign]:
                yield f"transaction {line['id']}: {line['type']} is no {line['effect']}"
            into, out_of = into + amount * (sign > 0), out_of + amount * (sign < 0)
            running += amount * RUNNING.get(line["type"], 0)
            if number(line["balance_after"]) != running:
                yield f"transaction {line['id']}: balance {line['balance_after']}, expected {running}"
        if (number(page["totals"]["credits"]), number(page["totals"]["debits"])) != (into, out_of):
            yield f"page {page['period']}: {page['totals']}, lines make {into} and {out_of}"
        book += into - out_of
    if number(account["balance"]) != book:
        yield f"balance {account['balance']}, pages make {book}"
    held = number(account["held_as_guarantee"]) + number(account["on_hold"])
    if number(account["available"]) != number(account["balance"]) - held:
        yield f"available {account['available']}"
    summary = {name: number(text) for name, text in account["summary"].items()}
    minus = (
        "withdrawals",
        "withdrawal_fees",
        "annual_fees",
        "fees",
        "penalties",
        "overdraft_interest",
        "withheld_tax",
    )
    derived = summary["deposits"] + summary["interest_posted"] - sum(summary[name] for name in minus)
    if derived != number(account["balance"]):
        yield f"balance {account['balance']}, its summary makes {derived}"
    if "interest_earned" in summary:
        left = summary["interest_earned"] - summary["interest_posted"] + summary["overdraft_interest"]
        if summary["interest_not_posted"] != left:
            yield f"interest not posted {summary['interest_not_posted']}, expected {left}"


def charges_kept(document: dict[str, Any]) -> Iterator[str]:
    for charge in document["charges"]:
        lines = charge.get("instalments", [])
        for line in (charge, *lines):
            left = number(line["amount"]) - sum(number(line[name]) for name in ("paid", "waived", "written_off"))
            expected = Decimal(0) if charge["when"] in PER_EVENT else left
            if number(line["outstanding"]) != expected:
                yield f"charge {charge['id']}: outstanding {line['outstanding']}, expected {expected}"
        for name in ("amount", "paid", "waived", "outstanding") if lines else ():
            if sum(number(line[name]) for line in lines) != number(charge[name]):
                yield f"charge {charge['id']}: {name}={charge[name]}, instalments make something else"
