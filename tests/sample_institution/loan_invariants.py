"""The rules of loans; see `invariants`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from tests.sample_institution.rules import Ledger, Row, amount, booking_order, digits_ok

PAYING = {2, 5, 17, 21, 22, 23, 28, 31, 33}
PARTS = (
    ("principal", "principal"),
    ("interest", "interest"),
    ("fee_charges", "fee_charges"),
    ("penalty_charges", "penalty_charges"),
)
NO_PORTIONS = {1, 8, 12, 13, 14, 15}


def loans(ledger: Ledger) -> Iterator[str]:
    schedules = ledger.by("m_loan_repayment_schedule", "loan_id")
    transactions = ledger.by("m_loan_transaction", "loan_id")
    charges = ledger.by("m_loan_charge", "loan_id")
    tranches = ledger.by("m_loan_disbursement_detail", "loan_id")
    arrears = ledger.by("m_loan_arrears_aging", "loan_id")
    paid_by = ledger.by("m_loan_charge_paid_by", "loan_charge_id")
    parts = ledger.by("m_loan_installment_charge", "loan_charge_id")
    for loan in ledger.rows["m_loan"]:
        number = loan["id"]
        schedule = sorted(schedules[number], key=lambda row: row["installment"])
        found = [
            *schedule_rules(loan, schedule),
            *transaction_rules(loan, schedule, transactions[number]),
            *summary_rules(loan, schedule, transactions[number], charges[number], tranches[number]),
            *charge_rules(loan, schedule, charges[number], transactions[number], paid_by, parts),
            *arrears_rules(loan, schedule, arrears[number], ledger.today()),
        ]
        yield from (f"loan {number} ({loan['loan_status_id']}): {problem}" for problem in found)


def outstanding(row: Row) -> dict[str, Decimal]:
    due = {}
    for name, _ in PARTS:
        due[name] = amount(row[f"{name}_amount"]) - amount(row[f"{name}_completed_derived"])
        due[name] -= amount(row[f"{name}_writtenoff_derived"]) + amount(row.get(f"{name}_waived_derived"))
    return due


def schedule_rules(loan: Row, schedule: list[Row]) -> Iterator[str]:
    if [row["installment"] for row in schedule] != list(range(1, len(schedule) + 1)):
        yield "instalments are not numbered 1..n"
    previous = None
    for row in schedule:
        name = f"instalment {row['installment']}"
        if row["duedate"] <= row["fromdate"] or (previous and row["fromdate"] != previous):
            yield f"{name}: dates do not follow"
        previous = row["duedate"]
        due = outstanding(row)
        if min(due.values()) < 0:
            yield f"{name}: more settled than due {due}"
        if loan["disbursedon_date"]:
            if row["completed_derived"] != (sum(due.values()) == 0):
                yield f"{name}: completed={row['completed_derived']} but {due} is due"
            if row["completed_derived"] != (row["obligations_met_on_date"] is not None):
                yield f"{name}: obligations met on {row['obligations_met_on_date']}"
        paid = sum(amount(row[f"{part}_completed_derived"]) for part, _ in PARTS)
        timed = amount(row["total_paid_in_advance_derived"]) + amount(row["total_paid_late_derived"])
        if timed > paid:
            yield f"{name}: paid early or late {timed} of {paid}"
        money = [column for column in row if column.endswith(("_derived", "_amount"))]
        yield from (f"{name}: {problem}" for problem in digits_ok(row, loan["currency_digits"], money))


def transaction_rules(loan: Row, schedule: list[Row], transactions: list[Row]) -> Iterator[str]:
    balance = Decimal(0)
    for row in sorted(transactions, key=booking_order):
        name = f"transaction {row['id']} (type {row['transaction_type_enum']})"
        yield from (f"{name}: {one}" for one in digits_ok(row, loan["currency_digits"], row))
        kind = row["transaction_type_enum"]
        portions = [amount(row[f"{part}_portion_derived"]) for part, _ in PARTS]
        over = amount(row["overpayment_portion_derived"])
        if kind not in NO_PORTIONS and sum(portions) + over != row["amount"]:
            yield f"{name}: portions {portions} + {over} are not {row['amount']}"
        if row["is_reversed"] != (row["reversed_on_date"] is not None):
            yield f"{name}: reversed without a date"
        if row["is_reversed"]:
            continue
        if kind == 10:
            if row["outstanding_loan_balance_derived"] is not None:
                yield f"{name}: an accrual has a balance"
            continue
        if kind == 1:
            balance += row["amount"] - over
        elif kind in (20, 25):
            balance += portions[0]
        else:
            balance = max(balance - portions[0], Decimal(0))
        if row["outstanding_loan_balance_derived"] != balance:
            yield f"{name}: balance {row['outstanding_loan_balance_derived']}, expected {balance}"
    accrued = sum(
        amount(row[f"accrual_{part}_derived"])
        for row in schedule
        for part in ("interest", "fee_charges", "penalty_charges")
    )
    booked = sum(row["amount"] for row in transactions if row["transaction_type_enum"] == 10)
    if accrued != booked:
        yield f"accrued {accrued} on instalments, booked {booked}"


def summary_rules(
    loan: Row, schedule: list[Row], transactions: list[Row], charges: list[Row], tranches: list[Row]
) -> Iterator[str]:
    principal = sum(amount(row["principal_amount"]) for row in schedule)
    credited = sum((amount(row["credits_amount"]) for row in schedule), Decimal(0))
    if principal != loan["principal_amount"] + credited:
        yield f"the schedule repays {principal}, lent {loan['principal_amount']} + {credited}"
    totals = [column for column in loan if column.endswith("_derived") and column != "guarantee_amount_derived"]
    yield from digits_ok(loan, loan["currency_digits"], totals)
    if not loan["disbursedon_date"]:
        ignored = {"total_charges_due_at_disbursement_derived"}
        if any(amount(loan[column]) for column in totals if column not in ignored):
            yield "totals before disbursement are not zero"
        return
    standing = [row for row in transactions if not row["is_reversed"]]
    expected = expected_summary(loan, schedule, standing, charges, credited)
    for column, value in expected.items():
        if amount(loan[column]) != value:
            yield f"{column}={loan[column]}, expected {value}"
    if loan["total_overpaid_derived"] is not None and not loan["total_overpaid_derived"]:
        yield "total_overpaid_derived is 0 instead of null"
    if tranches:
        paid_out = sum(row["principal"] for row in tranches if row["disbursedon_date"] and not row["is_reversed"])
        if paid_out != loan["principal_amount"]:
            yield f"tranches paid out {paid_out}, principal {loan['principal_amount']}"
    yield from status_rules(loan)


def expected_summary(
    loan: Row, schedule: list[Row], standing: list[Row], charges: list[Row], credited: Decimal
) -> dict[str, Decimal]:
    def scheduled(column: str) -> Decimal:
        return sum((amount(row[column]) for row in schedule), Decimal(0))

    def booked(column: str, kinds: set[int]) -> Decimal:
        rows = (row for row in standing if row["transaction_type_enum"] in kinds)
        return sum((amount(row[column]) for row in rows), Decimal(0))

    active = [row for row in charges if row["is_active"]]
    at_disbursement = [row for row in active if row["charge_time_enum"] in (1, 12)]
    due_first = sum((row["amount"] for row in at_disbursement), Decimal(0))
    result: dict[str, Decimal] = {
        "principal_disbursed_derived": booked("amount", {1}),
        "principal_adjustments_derived": credited,
        "total_charges_due_at_disbursement_derived": due_first,
    }
    for part, _ in PARTS:
        charged = scheduled(f"{part}_amount")
        paid = booked(f"{part}_portion_derived", PAYING)
        lost = booked(f"{part}_portion_derived", {6})
        waived = booked(f"{part}_portion_derived", {4, 9})
        if part == "fee_charges":
            charged += due_first
        if part == "principal":
            charged = booked("amount", {1}) + credited
        else:
            result[f"{part}_charged_derived"] = charged
            result[f"{part}_waived_derived"] = waived
        result[f"{part}_repaid_derived"] = paid
        result[f"{part}_writtenoff_derived"] = lost
        result[f"{part}_outstanding_derived"] = charged - paid - lost - waived
        # The schedule must tell the same as the transactions.
        first_paid = sum((amount(row["amount_paid_derived"]) for row in at_disbursement), Decimal(0))
        completed = scheduled(f"{part}_completed_derived") + (first_paid if part == "fee_charges" else 0)
        if completed != paid or scheduled(f"{part}_writtenoff_derived") != lost:
            result[f"{part}_repaid_derived"] = completed if completed != paid else Decimal(-1)
    fee_waivers = sum((amount(row["amount_waived_derived"]) for row in active if not row["is_penalty"]), Decimal(0))
    result["fee_charges_waived_derived"] = fee_waivers

    def total(values: Iterable[Decimal]) -> Decimal:
        return sum(values, Decimal(0))

    names = [part for part, _ in PARTS]
    costs = names[1:]
    result["total_expected_costofloan_derived"] = total(result[f"{one}_charged_derived"] for one in costs)
    result["total_expected_repayment_derived"] = (
        result["principal_disbursed_derived"] + result["total_expected_costofloan_derived"]
    )
    result["total_costofloan_derived"] = total(result[f"{one}_repaid_derived"] for one in costs)
    result["total_repayment_derived"] = total(result[f"{one}_repaid_derived"] for one in names)
    result["total_waived_derived"] = total(result[f"{one}_waived_derived"] for one in costs)
    result["total_writtenoff_derived"] = total(result[f"{one}_writtenoff_derived"] for one in names)
    result["total_outstanding_derived"] = total(result[f"{one}_outstanding_derived"] for one in names)
    over = booked("overpayment_portion_derived", PAYING) - booked("overpayment_portion_derived", {20})
    result["total_overpaid_derived"] = over
    result["total_recovered_derived"] = booked("amount", {8})
    return result


def status_rules(loan: Row) -> Iterator[str]:
    status, owed = loan["loan_status_id"], loan["total_outstanding_derived"]
    closed = loan["closedon_date"] is not None
    if status in (300, 303, 304) and (not owed or closed):
        yield "an active loan owes nothing or is closed"
    if status == 600 and (owed or not closed or loan["total_overpaid_derived"]):
        yield "a repaid loan owes something or is not closed"
    if status == 601 and (owed or not loan["writtenoffon_date"]):
        yield "a written-off loan owes something"
    if status == 700 and (not loan["total_overpaid_derived"] or not loan["overpaidon_date"]):
        yield "an overpaid loan has no credit"


def charge_rules(
    loan: Row,
    schedule: list[Row],
    charges: list[Row],
    transactions: list[Row],
    paid_by: dict[Any, list[Row]],
    parts: dict[Any, list[Row]],
) -> Iterator[str]:
    standing = {row["id"]: row for row in transactions if not row["is_reversed"]}
    numbers = {row["id"]: row["installment"] for row in schedule}
    asked: dict[tuple[int, bool], Decimal] = defaultdict(Decimal)
    for row in charges:
        name = f"charge {row['id']}"
        yield from charge_row_rules(name, row)
        yield from digits_ok(row, loan["currency_digits"], [one for one in row if one.startswith("amount")])
        for kinds, column in (({2, 5, 17, 21, 22, 23}, "amount_paid_derived"), ({9}, "amount_waived_derived")):
            settled = sum(
                link["amount"]
                for link in paid_by[row["id"]]
                if link["loan_transaction_id"] in standing
                and standing[link["loan_transaction_id"]]["transaction_type_enum"] in kinds
            )
            if settled != amount(row[column]):
                yield f"{name}: {column}={row[column]}, links say {settled}"
        pieces = parts[row["id"]]
        if pieces:
            for column in ("amount", "amount_paid_derived", "amount_waived_derived", "amount_outstanding_derived"):
                if sum(amount(piece[column]) for piece in pieces) != amount(row[column]):
                    yield f"{name}: {column} is not the sum over instalments"
            for piece in pieces:
                yield from charge_row_rules(f"{name} part {piece['id']}", piece)
                asked[numbers[piece["loan_schedule_id"]], row["is_penalty"]] += piece["amount"]
        elif row["is_active"] and row["charge_time_enum"] not in (1, 12):
            due = row["due_for_collection_as_of_date"]
            holding = [one for one in schedule if due <= one["duedate"]]
            asked[(holding or schedule[-1:])[0]["installment"], row["is_penalty"]] += row["amount"]
    for row in schedule:
        for penalty, column in ((False, "fee_charges_amount"), (True, "penalty_charges_amount")):
            if amount(row[column]) != asked[row["installment"], penalty]:
                yield f"instalment {row['installment']}: {column} is not what its charges ask"


def charge_row_rules(name: str, row: Row) -> Iterator[str]:
    settled = [amount(row[f"amount_{how}_derived"]) for how in ("paid", "waived", "writtenoff")]
    if row["amount_outstanding_derived"] != row["amount"] - sum(settled):
        yield f"{name}: outstanding {row['amount_outstanding_derived']} of {row['amount']} after {settled}"
    if (row["is_paid_derived"] or row["waived"]) and row["amount_outstanding_derived"]:
        yield f"{name}: settled, yet something is outstanding"


def arrears_rules(loan: Row, schedule: list[Row], arrears: list[Row], today: date) -> Iterator[str]:
    late = [row for row in schedule if not row["completed_derived"] and row["duedate"] < today]
    if loan["loan_status_id"] != 300 or not late:
        if arrears:
            yield "an arrears row without arrears"
        return
    if len(arrears) != 1:
        yield "overdue, but no arrears row"
        return
    for part, _ in PARTS:
        expected = sum(outstanding(row)[part] for row in late)
        if arrears[0][f"{part}_overdue_derived"] != expected:
            yield f"arrears of {part} are {arrears[0][f'{part}_overdue_derived']}, expected {expected}"
    if arrears[0]["total_overdue_derived"] != sum(sum(outstanding(row).values()) for row in late):
        yield "total arrears are not the sum"
    if arrears[0]["overdue_since_date_derived"] != late[0]["duedate"]:
        yield "overdue since another day"
