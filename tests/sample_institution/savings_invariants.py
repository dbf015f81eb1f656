"""The rules of savings accounts, client charges and audit stamps; see `invariants`."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.sample_institution.rules import Ledger, Row, amount, booking_order, digits_ok

EFFECT = {1: 1, 2: -1, 3: 1, 4: -1, 5: -1, 7: -1, 8: 1, 17: -1, 18: -1}
RUNNING = EFFECT | {20: -1, 21: 1}
TOTALS = {
    "total_deposits_derived": 1,
    "total_withdrawals_derived": 2,
    "total_interest_posted_derived": 3,
    "total_withdrawal_fees_derived": 4,
    "total_annual_fees_derived": 5,
    "total_overdraft_interest_derived": 17,
    "total_withhold_tax_derived": 18,
}


def savings(ledger: Ledger) -> Iterator[str]:
    transactions = ledger.by("m_savings_account_transaction", "savings_account_id")
    charges = ledger.by("m_savings_account_charge", "savings_account_id")
    links = {row["savings_account_transaction_id"]: row for row in ledger.rows["m_savings_account_charge_paid_by"]}
    plans = ledger.by("m_mandatory_savings_schedule", "savings_account_id")
    terms = ledger.by("m_deposit_account_term_and_preclosure", "savings_account_id")
    details = ledger.by("m_deposit_account_recurring_detail", "savings_account_id")
    for account in ledger.rows["m_savings_account"]:
        number = account["id"]
        found = [
            *movement_rules(account, transactions[number]),
            *total_rules(account, transactions[number], charges[number], links),
            *charge_rules(account, charges[number]),
            *plan_rules(account, plans[number], transactions[number]),
        ]
        kind = account["deposit_type_enum"]
        if (kind in (200, 300)) != (len(terms[number]) == 1) or (kind == 300) != (len(details[number]) == 1):
            found.append("term or recurring details are missing or too many")
        yield from (f"savings {number} ({account['status_enum']}): {problem}" for problem in found)


def movement_rules(account: Row, transactions: list[Row]) -> Iterator[str]:
    balance = Decimal(0)
    floor = -amount(account["overdraft_limit"]) if account["allow_overdraft"] else Decimal(0)
    for row in sorted(transactions, key=booking_order):
        name = f"transaction {row['id']} (type {row['transaction_type_enum']})"
        if row["amount"] <= 0:
            yield f"{name}: amount {row['amount']}"
        yield from (f"{name}: {one}" for one in digits_ok(row, account["currency_digits"], row))
        if row["is_reversed"] or row["is_reversal"]:
            if row["running_balance_derived"]:
                yield f"{name}: a reversed row has a balance"
            continue
        balance += RUNNING.get(row["transaction_type_enum"], 0) * row["amount"]
        if row["running_balance_derived"] != balance:
            yield f"{name}: running balance {row['running_balance_derived']}, expected {balance}"
        if row["transaction_type_enum"] == 2 and balance < floor:
            yield f"{name}: overdrawn to {balance}"
    originals = {row["id"] for row in transactions if row["is_reversed"]}
    for row in transactions:
        if row["is_reversal"] and row["original_transaction_id"] not in originals:
            yield f"contra row {row['id']} reverses nothing"


def total_rules(account: Row, transactions: list[Row], charges: list[Row], links: dict[Any, Row]) -> Iterator[str]:
    standing = [row for row in transactions if not row["is_reversed"] and not row["is_reversal"]]

    def booked(kind: int) -> Decimal:
        return sum((row["amount"] for row in standing if row["transaction_type_enum"] == kind), Decimal(0))

    for column, kind in TOTALS.items():
        if amount(account[column]) != booked(kind):
            yield f"{column}={account[column]}, expected {booked(kind)}"
    penalty = {row["id"]: row["is_penalty"] for row in charges}
    fees = {False: Decimal(0), True: Decimal(0)}
    for row in standing:
        if row["transaction_type_enum"] == 7:
            fees[penalty[links[row["id"]]["savings_account_charge_id"]]] += row["amount"]
    for column, kind in (("total_fees_charge_derived", False), ("total_penalty_charge_derived", True)):
        if amount(account[column]) != fees[kind]:
            yield f"{column}={account[column]}, expected {fees[kind]}"
    balance = sum((EFFECT.get(row["transaction_type_enum"], 0) * row["amount"] for row in standing), Decimal(0))
    if account["account_balance_derived"] != balance:
        yield f"balance {account['account_balance_derived']}, expected {balance}"
    if amount(account["total_savings_amount_on_hold"]) != booked(20) - booked(21):
        yield f"on hold {account['total_savings_amount_on_hold']}, expected {booked(20) - booked(21)}"
    if amount(account["total_interest_earned_derived"]) < booked(3):
        yield "more interest posted than earned"
    if account["status_enum"] in (600, 700) and balance:
        yield f"closed with {balance}"
    if account["activatedon_date"] is None and transactions:
        yield "movements on an account that was never active"


def charge_rules(account: Row, charges: list[Row]) -> Iterator[str]:
    """Fees asked per event (withdrawal, no activity) keep nothing outstanding in between."""
    for row in charges:
        settled = sum(amount(row[f"amount_{how}_derived"]) for how in ("paid", "waived", "writtenoff"))
        expected = Decimal(0) if row["charge_time_enum"] in (5, 16) else row["amount"] - settled
        if row["amount_outstanding_derived"] != expected:
            yield f"charge {row['id']}: outstanding {row['amount_outstanding_derived']}, expected {expected}"
        yield from digits_ok(row, account["currency_digits"], [one for one in row if one.startswith("amount")])


def plan_rules(account: Row, plan: list[Row], transactions: list[Row]) -> Iterator[str]:
    if (account["deposit_type_enum"] == 300) != bool(plan):
        yield "a deposit plan is missing or too many"
    if not plan:
        return
    filled = sum(amount(row["deposit_amount_completed_derived"]) for row in plan)
    kept = [row for row in transactions if not row["is_reversed"] and not row["is_reversal"]]
    paid = sum(row["amount"] for row in kept if row["transaction_type_enum"] == 1)
    if filled != min(paid, sum(row["deposit_amount"] for row in plan)):
        yield f"the plan counts {filled} of {paid} deposited"
    for row in plan:
        if row["completed_derived"] != (row["deposit_amount_completed_derived"] == row["deposit_amount"]):
            yield f"planned deposit {row['installment']}: completed={row['completed_derived']}"


def client_charges(ledger: Ledger) -> Iterator[str]:
    standing = {row["id"]: row for row in ledger.rows["m_client_transaction"] if not row["is_reversed"]}
    links = ledger.by("m_client_charge_paid_by", "client_charge_id")
    for row in ledger.rows["m_client_charge"]:
        settled = [amount(row[f"amount_{how}_derived"]) for how in ("paid", "waived", "writtenoff")]
        if row["amount_outstanding_derived"] != row["amount"] - sum(settled):
            yield f"client charge {row['id']}: outstanding {row['amount_outstanding_derived']}"
        for kind, value in ((1, settled[0]), (2, settled[1])):
            booked = sum(
                link["amount"]
                for link in links[row["id"]]
                if link["client_transaction_id"] in standing
                and standing[link["client_transaction_id"]]["transaction_type_enum"] == kind
            )
            if booked != value:
                yield f"client charge {row['id']}: settled {value}, links say {booked}"


def stamps(ledger: Ledger) -> Iterator[str]:
    for name, rows in ledger.rows.items():
        for row in rows:
            created, changed = row.get("created_on_utc"), row.get("last_modified_on_utc")
            if created and changed and changed < created:
                yield f"{name} {row['id']} was changed before it was created"
